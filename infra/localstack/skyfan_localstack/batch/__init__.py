"""AWS Batch, as far as the pipeline uses it: jobs and arrays as processes, behind the API that boto3 calls.

It stands on its own (standard library only), so that it can run where the executor's image is; `batch_client` points
LocalStack's Step Functions at it. What it keeps of "AWS Batch User Guide" and "API Reference" (read 2026-11) is named
where it is implemented. It has no compute environments, no priorities, no dependencies and no multi-node jobs.
"""
