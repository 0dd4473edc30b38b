"""The input of an execution: a job's JSON, or the reference system's payload unchanged.

The reference system is UVA-MLSys/AI-for-Astronomy (arXiv 2501.06249); its payload names a bucket, a folder of code and
checkpoint, and a folder of `.pt` files. Its `script` is never run.
"""

from collections.abc import Mapping
from typing import Any

from skyfan.errors import BadInput
from skyfan.job import WHOLE_FILES, Job

REFERENCE_KEYS = frozenset({"data_bucket", "data_prefix", "result_path", "S3_object_name", "bucket"})
_OPTIONAL_KEYS = frozenset({"file_limit", "batch_size", "object_type", "script", "world_size"})
# What Step Functions adds to an input by itself: the console's comment, and the caller of a nested execution
# ("Start a workflow execution", https://docs.aws.amazon.com/step-functions/latest/dg/connect-stepfunctions.html).
_ADDED_BY_AWS = frozenset({"Comment", "AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID"})


def parse_execution_input(payload: object) -> Job:
    """The job that an execution's input means.

    Raises:
        BadInput: the payload is not an object, lacks a key, has one too many, or a value is out of range.
    """
    if not isinstance(payload, Mapping):
        raise BadInput(f"The execution's input must be a JSON object, not {type(payload).__name__}.")
    fields = {key: value for key, value in payload.items() if key not in _ADDED_BY_AWS}
    if is_reference(fields):
        fields = _from_reference(fields)
    return Job.checked(fields, lambda field: f"{field} in the execution's input")


def is_reference(payload: Mapping[str, Any]) -> bool:
    """Whether this is the reference system's payload and not a job."""
    return bool(REFERENCE_KEYS & payload.keys())


def reference_warnings(payload: Mapping[str, Any]) -> list[str]:
    """What of a reference payload is not used, a sentence each."""
    warnings = [f"{key} is unknown and not used." for key in sorted(payload.keys() - REFERENCE_KEYS - _OPTIONAL_KEYS)]
    if payload.get("script"):
        warnings.append(f"script {payload['script']!r} is not run: Skyfan never runs downloaded code.")
    return warnings


def _from_reference(payload: Mapping[str, Any]) -> dict[str, Any]:
    missing = sorted(key for key in REFERENCE_KEYS if not payload.get(key))
    if missing:
        raise BadInput(f"The input looks like the reference system's payload but lacks {', '.join(missing)}.")
    bucket, model_folder = payload["bucket"], str(payload["S3_object_name"]).strip("/")
    fields = {
        "dataset": f"s3://{payload['data_bucket']}/{str(payload['data_prefix']).strip('/')}/",
        "output": f"s3://{bucket}/{str(payload['result_path']).strip('/')}",
        "model": f"s3://{bucket}/{model_folder}/",
        "partition_size": WHOLE_FILES,  # its files are its partitions
        "batch_size": payload.get("batch_size"),
        "file_limit": payload.get("file_limit"),
        "world_size": payload.get("world_size") or payload.get("file_limit"),
    }
    return {key: value for key, value in fields.items() if value is not None}
