"""Makes LocalStack's open core behave as AWS does where Skyfan relies on it.

- `stepfunctions`: patches distributed maps, one module a behaviour
- `runtime_api`: runs Lambda functions in containers that are already up, by the AWS Lambda Runtime API
- `schedulers`: Batch and SageMaker's processing jobs, with processes in place of containers
- `hooks`: applies both when LocalStack starts
"""
