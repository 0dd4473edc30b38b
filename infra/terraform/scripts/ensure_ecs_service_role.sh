#!/usr/bin/env bash
# Makes the account's service-linked role of ECS, unless it is there. "Using service-linked roles for Amazon ECS",
# https://docs.aws.amazon.com/AmazonECS/latest/developerguide/using-service-linked-roles.html (read 2026-11).
set -euo pipefail

if ! command -v aws >/dev/null; then
  echo "The aws command is needed to set up ECS: install it, or set enable_rendezvous = false." >&2
  exit 1
fi

if error="$(aws iam create-service-linked-role --aws-service-name ecs.amazonaws.com 2>&1 >/dev/null)"; then
  echo "The account's service-linked role of ECS is made."
elif [[ "$error" == *"has been taken in this account"* ]]; then
  echo "The account's service-linked role of ECS is there."
else
  echo "Making the service-linked role of ECS failed: $error" >&2
  exit 1
fi
