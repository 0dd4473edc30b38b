"""Makes LocalStack's open core behave as AWS does where Skyfan relies on it.

- `stepfunctions`: patches distributed maps, one module a behaviour
- `runtime_api`: runs Lambda functions in containers that are already up, by the AWS Lambda Runtime API
- `hooks`: applies both when LocalStack starts
"""
