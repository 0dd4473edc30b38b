"""A job as an execution's input: everything in S3, and a local model brought there once."""

import hashlib
import secrets
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from skyfan import store
from skyfan.aws_limits import LAMBDA_CONCURRENCY
from skyfan.backends.stepfunctions.access import LOCALSTACK
from skyfan.errors import BadInput, LocationError
from skyfan.job import DEMO_MODEL, LAMBDA, Job
from skyfan.models.locating import model_files

# Ranks at once where nothing is asked for: Lambda's default concurrency, and a few containers of LocalStack's.
DEFAULT_CONCURRENCY = {LOCALSTACK: 8}
MODELS_FOLDER = "models"
# "StartExecution", https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html (read
# 2026-11): at most 80 characters.
_STEM_LENGTH = 40


def require_s3(job: Job, on: str) -> None:
    """Refuses what functions cannot reach: they see S3, not this machine.

    Raises:
        LocationError: dataset, catalogue, calibration dataset or output is not in S3.
        BadInput: the tolerated percentage is not a whole number, or a device is asked for.
    """
    if job.compute != LAMBDA and job.collectives:
        raise BadInput(f"--collectives needs all ranks at once, which --compute {job.compute} does not promise.")
    if job.device is not None:
        raise BadInput(f"--device is for process and local; --on {on} chooses by --compute: batch-gpu has GPUs.")
    for option, uri in (("dataset", job.dataset), ("catalog", job.catalog), ("calibrate", job.calibrate)):
        if uri and not uri.startswith("s3://"):
            raise LocationError(
                f"--{option} {uri} is not in S3, where {on} reads: upload it with "
                f"`skyfan data upload {uri} s3://BUCKET/KEY` and name that."
            )
    if not job.output.startswith("s3://"):
        raise LocationError(f"--output {job.output} is not in S3, where {on} writes: name s3://BUCKET/FOLDER.")
    if not job.tolerated_failure_percentage.is_integer():
        raise BadInput(
            f"--tolerate-failures is {job.tolerated_failure_percentage}; on {on} it is a whole number of percent."
        )


def job_in_s3(job: Job, on: str) -> Job:
    """The job as functions can run it; a model that is a local file is uploaded if it is not there yet."""
    require_s3(job, on)
    # How many tasks of Batch or SageMaker run at once is the deployment's to say.
    lambdas = DEFAULT_CONCURRENCY.get(on, LAMBDA_CONCURRENCY) if job.compute == LAMBDA else None
    workers = job.workers or lambdas
    cleaned = job.model_copy(update={"output": job.output.rstrip("/"), "workers": workers})
    return cleaned.with_models(_models_in_s3(job))


def execution_name(job: Job, now: datetime | None = None) -> str:
    """What is run, which input, and when: unique, and sorted by time for one output."""
    stem = "".join(c if c.isascii() and c.isalnum() else "-" for c in PurePosixPath(job.output).name)
    digest = hashlib.sha256(job.to_json().encode()).hexdigest()[:8]
    at = (now or datetime.now(UTC)).strftime("%Y%m%dT%H%M%S")
    return f"{stem[:_STEM_LENGTH]}-{digest}-{at}-{secrets.token_hex(2)}"


def _models_in_s3(job: Job) -> list[str]:
    """The models' URIs in S3; the packaged one is in the executor's image."""
    uris: list[str] = []
    for given in job.models:
        if given == DEMO_MODEL or given.startswith("s3://"):
            uris.append(given)
        else:
            uris += [_uploaded_model(uri, job) for uri in model_files(given)]
    return uris


def _uploaded_model(model: str, job: Job) -> str:
    path = Path(unquote(urlsplit(model).path)) if model.startswith("file://") else Path(model)
    if not path.is_file():
        raise LocationError(f"--model {model} is not a file; name a checkpoint, a program, or s3://BUCKET/KEY.")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    bucket = urlsplit(job.output).netloc
    uri = f"s3://{bucket}/{MODELS_FOLDER}/{digest}/{path.name}"
    # The content is in the name and an object appears only when it is complete: what is there is this file.
    if not store.exists(uri):
        store.copy_in(path, uri)
    return uri
