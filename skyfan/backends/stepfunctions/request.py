"""From a job to an execution's input: everything in S3, and a local model brought there once."""

import hashlib
import secrets
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from skyfan import store
from skyfan.backends.stepfunctions.access import LOCALSTACK
from skyfan.errors import BadInput, LocationError
from skyfan.job import Job
from skyfan.models import DEMO_MODEL
from skyfan.reference_payload import WHOLE_FILES, RunRequest

# Ranks at once where nothing is asked for: Lambda's default concurrency, and a few containers of LocalStack's.
DEFAULT_CONCURRENCY = {LOCALSTACK: 8}
LAMBDA_CONCURRENCY = 1000
MODELS_FOLDER = "models"
# "StartExecution", https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html (read
# 2026-11): at most 80 characters.
_STEM_LENGTH = 40


def check_places(job: Job, on: str) -> None:
    """Refuses what functions cannot reach: they see S3, not this machine.

    Raises:
        LocationError: dataset or output is not in S3.
        BadInput: the tolerated percentage is not a whole number.
    """
    if not job.dataset.startswith("s3://"):
        raise LocationError(
            f"--dataset {job.dataset} is not in S3, where {on} reads: upload it with "
            f"`skyfan data upload {job.dataset} s3://BUCKET/KEY` and name that."
        )
    if not job.output.startswith("s3://"):
        raise LocationError(f"--output {job.output} is not in S3, where {on} writes: name s3://BUCKET/FOLDER.")
    if not job.tolerated_failure_percentage.is_integer():
        raise BadInput(
            f"--tolerate-failures is {job.tolerated_failure_percentage}; on {on} it is a whole number of percent."
        )


def request_of(job: Job, on: str) -> RunRequest:
    """The execution's input for this job; a model that is a local file is uploaded if it is not there yet."""
    check_places(job, on)
    options = job.options.model_dump(exclude={"batch_size"}, exclude_none=True)
    return RunRequest(
        dataset=job.dataset,
        output=job.output.rstrip("/"),
        model=_placed_model(job),
        partition_size_bytes=WHOLE_FILES if job.partition_size_bytes is None else job.partition_size_bytes,
        batch_size=job.options.batch_size,
        world_size=job.world_size,
        file_limit=job.file_limit,
        max_concurrency=job.workers or DEFAULT_CONCURRENCY.get(on, LAMBDA_CONCURRENCY),
        tolerated_failure_percentage=int(job.tolerated_failure_percentage),
        resume=job.resume,
        collectives=job.collectives,
        options=options,
    )


def execution_name(request: RunRequest, now: datetime | None = None) -> str:
    """What is run, which input, and when: unique, and sorted by time for one output."""
    stem = "".join(c if c.isascii() and c.isalnum() else "-" for c in PurePosixPath(request.output).name)
    digest = hashlib.sha256(request.model_dump_json().encode()).hexdigest()[:8]
    at = (now or datetime.now(UTC)).strftime("%Y%m%dT%H%M%S")
    return f"{stem[:_STEM_LENGTH]}-{digest}-{at}-{secrets.token_hex(2)}"


def _placed_model(job: Job) -> str | None:
    """The model's place in S3; None for the packaged one, which the executor's image carries."""
    if job.model == DEMO_MODEL:
        return None
    if job.model.startswith("s3://"):
        return job.model
    path = Path(unquote(urlsplit(job.model).path)) if job.model.startswith("file://") else Path(job.model)
    if not path.is_file():
        raise LocationError(f"--model {job.model} is not a file; name a checkpoint, a program, or s3://BUCKET/KEY.")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    bucket = urlsplit(job.output).netloc
    uri = f"s3://{bucket}/{MODELS_FOLDER}/{digest}/{path.name}"
    # The content is in the name and an object appears only when it is complete: what is there is this file.
    if not store.exists(uri):
        store.copy_in(path, uri)
    return uri
