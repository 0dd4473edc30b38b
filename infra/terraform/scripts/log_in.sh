#!/usr/bin/env bash
# Logs Docker in to the registry REGISTRY, once for all builds of an apply. Called by images.tf.
set -euo pipefail

for tool in aws docker; do
  if ! command -v "$tool" >/dev/null; then
    echo "The $tool command is needed to build images: install it, or set build_images = false and image_uris." >&2
    exit 1
  fi
done

aws ecr get-login-password --region "$AWS_REGION" | docker login --username AWS --password-stdin "$REGISTRY"
