#!/usr/bin/env bash
# Builds one image and pushes it to ECR, unless the repository holds that tag already. Called by images.tf, after
# log_in.sh, with TARGET, REPOSITORY, TAG, PLATFORM, SOURCE_DIR, BUILD_OPTIONS (one a line) and AWS_REGION set.
set -euo pipefail

dockerfile="$SOURCE_DIR/services/Dockerfile"
if [[ ! -f "$dockerfile" ]]; then
  echo "There is no $dockerfile: set source_dir to the root of a Skyfan checkout." >&2
  exit 1
fi

image="$REPOSITORY:$TAG"

if error="$(aws ecr describe-images --region "$AWS_REGION" --repository-name "${REPOSITORY#*/}" \
  --image-ids "imageTag=$TAG" 2>&1 >/dev/null)"; then
  echo "$image is there already: nothing to build."
  exit 0
elif [[ "$error" != *ImageNotFoundException* ]]; then
  echo "Asking ECR for $image failed: $error" >&2
  exit 1
fi

options=()
while IFS= read -r option; do
  [[ -n "$option" ]] && options+=("$option")
done <<<"$BUILD_OPTIONS"

# Lambda takes one manifest for one platform and refuses an index, which a provenance or SBOM attestation would make.
docker buildx build --platform "$PLATFORM" --provenance=false --sbom=false \
  --file "$dockerfile" --target "$TARGET" --tag "$image" --push ${options[@]+"${options[@]}"} "$SOURCE_DIR"
