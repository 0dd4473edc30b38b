"""The pipeline's input: Skyfan's own request, or the reference system's payload unchanged.

The reference system is UVA-MLSys/AI-for-Astronomy (arXiv 2501.06249); its payload names a bucket, a folder of
code and checkpoint, and a folder of `.pt` files. Its `script` is never run.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from skyfan.errors import BadInput
from skyfan.units import parse_size

Scalar = str | int | float | bool | None
WHOLE_FILES = "file"
REFERENCE_KEYS = frozenset({"data_bucket", "data_prefix", "result_path", "S3_object_name", "bucket"})


def _size_bytes(value: object) -> object:
    return parse_size(value, "partition_size_bytes") if isinstance(value, str) and value != WHOLE_FILES else value


Count = Annotated[int, Field(gt=0)]
SizeBytes = Annotated[Annotated[int, Field(gt=0)] | Literal["file"], BeforeValidator(_size_bytes)]


class RunRequest(BaseModel):
    """One run, normalised. What is None is decided by the planner or by the packaged default."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    dataset: str = Field(min_length=1, description="URI of a .pt file or of a folder of them")
    output: str = Field(min_length=1, description="URI of the run's folder")
    model: str | None = Field(None, description="URI of a checkpoint or of a folder that holds one")
    partition_size_bytes: SizeBytes | None = Field(None, description="data per rank; also '25MB', or 'file'")
    batch_size: Count | None = Field(None, description="samples per forward pass")
    world_size: Count | None = Field(None, description="number of ranks")
    file_limit: Count | None = Field(None, description="use only so many of the dataset's files")
    max_concurrency: Annotated[int, Field(ge=0, le=10_000)] = Field(1000, description="0: no limit")
    tolerated_failure_percentage: Annotated[int, Field(ge=0, le=100)] = 0
    resume: bool = Field(True, description="False: what an earlier start of this very run committed is removed")
    collectives: bool = Field(False, description="ranks meet, and end knowing the run's metrics")
    options: dict[str, Scalar] = Field(default_factory=dict, description="passed to the executors as it is")
    source: Literal["skyfan", "reference"] = "skyfan"
    warnings: tuple[str, ...] = ()


def parse_request(payload: object) -> RunRequest:
    """Normalise an execution's input.

    Raises:
        BadInput: the payload is not an object, lacks a key, has one too many, or a value is out of range.
    """
    if not isinstance(payload, Mapping):
        raise BadInput(f"The execution's input must be a JSON object, not {type(payload).__name__}.")
    fields = _from_reference(payload) if REFERENCE_KEYS & payload.keys() else dict(payload)
    try:
        return RunRequest.model_validate(fields)
    except ValidationError as error:
        raise BadInput(_sentence(error)) from error


def _from_reference(payload: Mapping[str, Any]) -> dict[str, Any]:
    missing = sorted(key for key in REFERENCE_KEYS if not payload.get(key))
    if missing:
        raise BadInput(f"The input looks like the reference system's payload but lacks {', '.join(missing)}.")
    known = REFERENCE_KEYS | {"file_limit", "batch_size", "object_type", "script", "world_size"}
    warnings = [f"{key} is unknown and not used." for key in sorted(payload.keys() - known)]
    if payload.get("script"):
        warnings.append(f"script {payload['script']!r} is not run: Skyfan never runs downloaded code.")
    bucket, model_folder = payload["bucket"], str(payload["S3_object_name"]).strip("/")
    return {
        "dataset": f"s3://{payload['data_bucket']}/{str(payload['data_prefix']).strip('/')}/",
        "output": f"s3://{bucket}/{str(payload['result_path']).strip('/')}",
        "model": f"s3://{bucket}/{model_folder}/",
        "batch_size": payload.get("batch_size"),
        "file_limit": payload.get("file_limit"),
        "world_size": payload.get("world_size") or payload.get("file_limit"),
        "source": "reference",
        "warnings": warnings,
    }


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "the input"
    if first["type"] == "missing":
        return f"The execution's input lacks {where}."
    if first["type"] == "extra_forbidden":
        known = ", ".join(name for name in RunRequest.model_fields if name not in ("source", "warnings"))
        return f"The execution's input has an unknown key {where}; known are {known}."
    return f"{where} in the execution's input is {first['input']!r}: {first['msg'].lower()}."
