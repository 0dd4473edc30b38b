"""What the stages are asked and what they reply: the same types over gRPC, in Lambda events and in one process."""

from typing import Any

from pydantic import Field, FiniteFloat, field_validator

from skyfan.comm.rank_group import RankGroup
from skyfan.job import Job
from skyfan.planning import Calibration, PlanItem, RunId
from skyfan.validation import Frozen


class PrepareRequest(Frozen):
    """Read the job's model once, before the fan-out, and try it on the shape of the dataset's samples.

    Nothing is written. `measure_rate`: also time it, where ranks have a time limit.
    """

    job: Job
    measure_rate: bool = False


class ModelPart(Frozen):
    """One model file; `digest` is the SHA-256 of its bytes, in hex, `name` that of its columns where it is of several.

    Several models are one whose `parts` they are: without a file of its own (`uri` is empty), and with a digest over
    theirs.
    """

    uri: str
    digest: str
    name: str = ""


class PreparedModel(ModelPart):
    """The model file that the job names, or several.

    `needs_conversion`: ranks would each need torch to load and check this file. `result_row_bytes`: about the size of
    a row of results. `warnings`: what the user should know before the ranks begin. `on_gpu`: what it was tried on.
    """

    format: str
    parameters: int
    needs_conversion: bool
    result_row_bytes: int = Field(default=0, ge=0)
    samples_per_s: float | None = Field(default=None, gt=0)
    warnings: tuple[str, ...] = ()
    calibration: Calibration | None = None
    on_gpu: bool = False
    parts: tuple["PreparedModel", ...] = ()


class PlanRequest(Frozen):
    """Plan the run and claim its output.

    With `rank_limit_s` and a model whose rate is known, a plan whose largest rank would not end in time is refused.
    `executors`: how many compute ranks at once.
    """

    job: Job
    model: PreparedModel
    executors: int = Field(default=1, ge=1)
    rank_limit_s: float | None = Field(default=None, gt=0)


class PlanReply(Frozen):
    """The plan lies in the run's folder; `committed_ranks` were computed by an earlier start of this run."""

    run_id: RunId
    committed_ranks: tuple[int, ...]


class ConvertRequest(Frozen):
    """Leave the model in the run's folder in the form that ranks load, if that is another than the file's own.

    `executors`: how many processes will load it. A program is converted only where the run is long enough.
    """

    job: Job
    model: PreparedModel
    executors: int = Field(default=1, ge=1)


class ModelFile(ModelPart):
    """The file that ranks load, or several; `source_digest` is that of the file that the run was planned with.

    `engine` runs it: what only `torch` runs needs an executor that has torch. `half_width` is that of the run's
    calibrated intervals, in units of 1 + z_pred.
    """

    source_digest: str
    engine: str
    half_width: FiniteFloat | None = None
    parts: tuple["ModelFile", ...] = ()


class _RankRequest(Frozen):
    """What is asked of a rank beside its item."""

    run_id: RunId
    job: Job
    model: ModelFile
    attempt: int = Field(default=1, ge=1)
    group: RankGroup | None = None

    def beside_item(self) -> dict[str, Any]:
        """The fields that a request has with either kind of item."""
        return {name: getattr(self, name) for name in _RankRequest.model_fields}


class InferRequest(_RankRequest):
    """Compute one rank and commit it; with a `group`, together with the other ranks of this start."""

    item: PlanItem

    @field_validator("item")
    @classmethod
    def _has_work(cls, item: PlanItem) -> PlanItem:
        """A rank without samples is never asked for."""
        if not item.spans:
            raise ValueError(f"rank {item.rank} has no samples")
        return item


class ItemReference(Frozen):
    """One rank's line of items.jsonl; `group_rank` numbers the ranks that this start computes."""

    rank: int = Field(ge=0)
    group_rank: int = Field(ge=0)
    items_uri: str
    start: int = Field(ge=0)
    stop: int = Field(gt=0)


class InferByReference(_RankRequest):
    """An `InferRequest` whose item is larger than a message may be: it is read where the plan left it."""

    item: ItemReference


class AggregateRequest(Frozen):
    """Merge what the ranks committed. What only the caller knows of this start comes with it.

    `elapsed_s`: how long ago it was asked for, by a monotonic clock. `reused_ranks`: those that were committed before.
    `failures`: rank → last error.
    """

    output: str
    run_id: RunId
    target: str
    workers: int | None = None
    elapsed_s: float = Field(default=0.0, ge=0)
    reused_ranks: tuple[int, ...] = ()
    plan_s: float = 0.0
    failures: dict[int, str] = Field(default_factory=dict)
    attempts: int = 0
