"""What the user asks for: one job, wherever it then runs."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from skyfan.models import DEMO_MODEL
from skyfan.planning import RunOptions
from skyfan.reference_payload import WHOLE_FILES, RunRequest

DEFAULT_PARTITION_BYTES = 25 * 2**20
DEFAULT_WORKERS = 2


class Job(BaseModel):
    """One run. `workers`: ranks at once, `device`: what they compute on; None lets the target decide."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    output: str
    model: str = DEMO_MODEL
    options: RunOptions = RunOptions()
    partition_size_bytes: int | None = Field(default=DEFAULT_PARTITION_BYTES, ge=1)
    world_size: int | None = Field(default=None, ge=1)
    file_limit: int | None = Field(default=None, ge=1)
    workers: int | None = Field(default=None, ge=1)
    device: str | None = None
    tolerated_failure_percentage: float = Field(default=0.0, ge=0, le=100)
    resume: bool = True
    collectives: bool = Field(default=False, description="ranks meet, and end knowing the run's metrics")

    @classmethod
    def of_request(cls, request: RunRequest, workers: int | None = None) -> Self:
        """The job of a normalised execution input.

        The reference system's files are its partitions, so that its payload cuts nothing.
        """
        cut = request.partition_size_bytes
        if cut == WHOLE_FILES or (cut is None and request.source == "reference"):
            size_bytes = None
        else:
            size_bytes = DEFAULT_PARTITION_BYTES if cut is None else cut
        options = {**request.options, "batch_size": request.batch_size or RunOptions().batch_size}
        return cls(
            dataset=request.dataset,
            output=request.output,
            model=request.model or DEMO_MODEL,
            options=RunOptions.model_validate(options),
            partition_size_bytes=size_bytes,
            world_size=request.world_size,
            file_limit=request.file_limit,
            workers=workers,
            tolerated_failure_percentage=request.tolerated_failure_percentage,
            resume=request.resume,
            collectives=request.collectives,
        )
