"""What the aggregator is asked, the same over gRPC and on Lambda; it answers a `Summary`."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field


class AggregateRequest(BaseModel):
    """Merge what the ranks committed. What only the caller knows of the run comes with it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    output: str
    run_id: str
    target: str
    workers: int | None = None
    started_at: datetime
    plan_s: float = 0.0
    failures: dict[int, str] = Field(default_factory=dict)
    attempts: int = 0
