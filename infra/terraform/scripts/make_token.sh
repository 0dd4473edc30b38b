#!/usr/bin/env bash
# Puts a fresh random token into the secret SECRET_ARN. The value goes from one process to the next, not through
# arguments, Terraform's state or a file.
set -euo pipefail

if ! command -v aws >/dev/null; then
  echo "The aws command is needed to make the rendezvous token: install it, or set enable_rendezvous = false." >&2
  exit 1
fi

head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n' \
  | aws secretsmanager put-secret-value --region "$AWS_REGION" --secret-id "$SECRET_ARN" \
    --secret-string file:///dev/stdin >/dev/null
echo "The rendezvous token is set."
