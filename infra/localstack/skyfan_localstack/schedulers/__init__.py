"""AWS Batch and SageMaker's processing jobs, as far as the pipeline uses them, behind the API that boto3 calls.

Tasks are processes. The package stands on its own (standard library only), so that it can run where the executor's
image is; `stepfunctions.array_tasks` points LocalStack's Step Functions at it. What it keeps of AWS's documents (read
2026-11) is named where it is implemented. It has no compute environments, no priorities, no dependencies, no multi-node
jobs, and moves no data to or from an instance.
"""
