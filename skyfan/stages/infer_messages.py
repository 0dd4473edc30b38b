"""What the executor is asked and what it answers, the same over gRPC and on Lambda."""

from pydantic import BaseModel, ConfigDict, Field

from skyfan.comm.rank_group import RankGroup
from skyfan.planning import PlanItem, RunOptions


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class PrepareRequest(_Request):
    """Read the model once, before the fan-out, and try it on the shape of the dataset's samples.

    `convert_into`: the run's place, where a checkpoint that every rank would have to convert and check again is
    kept in the form that needs neither.
    """

    model: str
    dataset: str
    options: RunOptions = RunOptions()
    measure_rate: bool = False
    convert_into: str | None = None


class PreparedModel(_Request):
    """The model as the fan-out will use it.

    `model` is the file that was asked for and `ready` the file that the ranks read: the same one, or one made of it.
    `digest` and `ready_digest` are the SHA-256 of their bytes, in hex.
    """

    model: str
    ready: str
    ready_digest: str
    digest: str
    format: str
    parameters: int
    samples_per_s: float | None = None


class InferRequest(_Request):
    """Compute one rank and commit it; with a `group`, together with the other ranks of this start.

    `model_digest` is the planned file's and goes into the record; `file_digest` is that of the file at `model` where it
    was made of the planned one.
    """

    run_id: str
    item: PlanItem
    model: str
    model_digest: str
    output: str
    options: RunOptions
    attempt: int = Field(default=1, ge=1)
    group: RankGroup | None = None
    file_digest: str | None = None
