"""Limits of AWS, each once: its value, its unit, and where AWS documents it.

Prices are in `skyfan/cost/prices.json`. Terraform and the docs repeat some values; `tests/infra/test_aws_limits.py`
holds them to these.

Sources, read 2026-11-26 (us-east-1):

- L1  https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
- L2  https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
- L3  https://docs.aws.amazon.com/lambda/latest/dg/scaling-behavior.html
- F1  https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html
- B1  https://docs.aws.amazon.com/batch/latest/userguide/array_jobs.html
- M1  https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ProcessingClusterConfig.html
- M2  https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_AppSpecification.html
- S1  https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance.html
- S2  https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
- S3  https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
"""

from typing import Final

# A function of Lambda. MB is 2²⁰ bytes.
LAMBDA_MIN_MEMORY_MB: Final = 128  # (L1)
LAMBDA_MAX_MEMORY_MB: Final = 10_240  # (L1)
LAMBDA_NEW_ACCOUNT_MEMORY_MB: Final = 3_008  # the most in many new accounts, until their quota is raised (L1)
LAMBDA_MB_PER_VCPU: Final = 1_769  # memory that comes with the time of one processor (L2)
LAMBDA_MAX_VCPUS: Final = 6  # (L2)
LAMBDA_MAX_VCPUS_MB: Final = 8_846  # memory from which on a function has all processors (L2)
LAMBDA_FREE_EPHEMERAL_MB: Final = 512  # size of /tmp that is not billed (L1)
LAMBDA_TIMEOUT_S: Final = 900  # longest invocation (L1)

# All functions of an account in a region, and one function's growth.
LAMBDA_CONCURRENCY: Final = 1_000  # invocations at once by default; a new account may start with 10 (L1)
LAMBDA_BURST: Final = 1_000  # environments that one function adds within 10 s (L3)
LAMBDA_RAMP_PER_S: Final = 100.0  # the same as a rate (L3)

# Step Functions, Standard workflows.
MAP_CONCURRENCY: Final = 10_000  # child executions of one Distributed Map at once (F1)
OPEN_MAP_RUNS: Final = 1_000  # Distributed Maps of an account at once (F1)
STATE_PAYLOAD_BYTES: Final = 256 * 2**10  # input or output of a state (F1)
EXECUTION_EVENTS: Final = 25_000  # history of one execution; children of a Distributed Map have their own (F1)
REDRIVE_DAYS: Final = 14  # after the end of an execution (F1)

# Array jobs of Batch, and processing jobs of SageMaker.
BATCH_MIN_ARRAY_SIZE: Final = 2  # children; one is a plain job (B1)
BATCH_ARRAY_SIZE: Final = 10_000  # children of one array job (B1)
SAGEMAKER_INSTANCES: Final = 100  # of one processing job (M1)
SAGEMAKER_VALUE_CHARACTERS: Final = 256  # of an argument of its container (M2)

S3_GETS_PER_S: Final = 5_500.0  # GET and HEAD requests per second for one prefix (S1)
S3_LISTING_PAGE: Final = 1_000  # keys in one answer of ListObjectsV2 (S2)
S3_CLOCK_OFFSET_S: Final = 900  # requests signed with a time further from S3's are refused, RequestTimeTooSkewed (S3)
