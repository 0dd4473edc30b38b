"""What the executor is asked and what it answers, the same over gRPC and on Lambda."""

from pydantic import BaseModel, ConfigDict, Field

from skyfan.plan import PlanItem, RunOptions


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class PrepareRequest(_Request):
    """Read the model once, before the fan-out, and try it on the shape of the dataset's samples."""

    model: str
    dataset: str
    options: RunOptions = RunOptions()
    measure_rate: bool = False


class PreparedModel(_Request):
    """The model as the fan-out will use it; `digest` is the SHA-256 of the file's bytes, in hex."""

    model: str
    digest: str
    format: str
    parameters: int
    samples_per_s: float | None = None


class InferRequest(_Request):
    """Compute one rank and commit it."""

    run_id: str
    item: PlanItem
    model: str
    model_digest: str
    output: str
    options: RunOptions
    attempt: int = Field(default=1, ge=1)
