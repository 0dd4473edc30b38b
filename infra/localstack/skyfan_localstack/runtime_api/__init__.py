"""The AWS Lambda Runtime API, served to containers that already run.

A container whose command is AWS's runtime interface client (`python -m awslambdaric module.handler`), started
with `AWS_LAMBDA_RUNTIME_API=<LocalStack's host>:<the function's port>`, is one warm execution environment.

Documented by AWS: "Using the Lambda runtime API for custom runtimes",
https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html (as of 2026-11).
"""
