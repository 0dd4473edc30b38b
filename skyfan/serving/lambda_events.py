"""The events that the state machine sends to the functions, and their replies: one model an operation.

`infra/stepfunctions/pipeline.asl.json` makes these events; tests/infra/test_lambda_events.py compares the two, state by
state.
"""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from skyfan.comm.check_messages import RankCheck
from skyfan.comm.rank_group import RankGroup
from skyfan.job import Job
from skyfan.stages.messages import ItemReference, ModelFile, PreparedModel
from skyfan.stages.starts import StartName
from skyfan.validation import Frozen

# EventBridge's own name for these events, its `detail-type`.
STATUS_CHANGE = "Step Functions Execution Status Change"


class Execution(Frozen):
    """The execution that an event belongs to; `started_at` is when it was asked for."""

    arn: str
    name: str
    started_at: datetime


class _Event(Frozen):
    """`attempt` is Step Functions' retry count, which begins at 0."""

    attempt: int = Field(default=0, ge=0)


class PrepareEvent(_Event):
    """`input`: what the execution was started with, a job or the reference system's payload."""

    op: Literal["prepare"]
    input: Any
    execution: Execution


class PrepareResult(Frozen):
    """The job that the input means, and its model."""

    job: Job
    model: PreparedModel


class PlanEvent(_Event):
    """Claim the output and write the plan and the map's items."""

    op: Literal["plan"]
    job: Job
    model: PreparedModel
    execution: Execution


class S3Object(Frozen):
    """Where the map's items lie."""

    bucket: str
    key: str


class S3Prefix(Frozen):
    """Where the map writes its results."""

    bucket: str
    prefix: str


class ArrayJob(Frozen):
    """What Batch or SageMaker is asked for: `tasks` tasks or instances, each of which computes every `tasks`-th rank.

    `start` names what they read (`skyfan.stages.starts`), `job_name` is the stem of the job's own name.
    """

    start: StartName
    tasks: int = Field(ge=1)
    job_name: str
    run_id: str
    plan_s: float


class PlanResult(Frozen):
    """The plan in numbers, and what the map needs. `group` is None where ranks do not talk to each other.

    `array` is None where Lambda computes the ranks, or nothing is to be computed.
    """

    run_id: str
    output: str
    ranks_total: int
    ranks_to_run: int
    planned_at: datetime
    items: S3Object
    results: S3Prefix
    max_concurrency: int
    tolerated_failure_percentage: int
    group: RankGroup | None
    array: ArrayJob | None = None


class ConvertEvent(_Event):
    """Leave the model where ranks load it, and for an array what its tasks read."""

    op: Literal["convert"]
    job: Job
    model: PreparedModel
    array: ArrayJob | None = None
    execution: Execution


class InferEvent(_Event):
    """Compute one rank. `rank` repeats the item's, for logs; `execution` is the name of the one that it belongs to."""

    op: Literal["infer"]
    run_id: str
    rank: int
    item: ItemReference
    job: Job
    model: ModelFile
    group: RankGroup | None = None
    execution: str


class InferResult(Frozen):
    """`already-committed`: an earlier attempt or start, or a faster duplicate, had committed the rank."""

    rank: int
    status: Literal["committed", "already-committed"]
    samples: int


class AggregateEvent(_Event):
    """Merge what is committed, also after a failed map; `map` is what the map state left."""

    op: Literal["aggregate"]
    job: Job
    plan: PlanResult
    map: Any
    map_ended_at: datetime
    execution: Execution


class AggregateResult(Frozen):
    """The summary in numbers; `summary` is its URI. `too_many_failed`: more ranks than the job tolerates."""

    status: Literal["complete", "incomplete"]
    summary: str
    ranks_done: int
    samples_done: int
    samples_total: int
    too_many_failed: bool


class Failure(Frozen):
    """An error as a Catch hands it on."""

    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())

    Error: str | None = None
    Cause: str | None = None


class FailEvent(_Event):
    """Write the cause where the user looks for results."""

    op: Literal["fail"]
    input: Any
    failure: Failure
    execution: Execution


class FailResult(Frozen):
    """The URI of what was written; None where the input names no usable output."""

    recorded: str | None


class ExecutionEnd(BaseModel):
    """What EventBridge tells of an execution; `input` is None where it is too large for an event.

    "Automating Step Functions event delivery with EventBridge", read 2026-11:
    https://docs.aws.amazon.com/step-functions/latest/dg/eventbridge-integration.html
    """

    execution_arn: str = Field(alias="executionArn")
    name: str
    status: str
    input: str | None = None


class StatusChange(BaseModel):
    """EventBridge's event when an execution ends; AWS may add fields to it at any time."""

    detail: ExecutionEnd


class MarkResult(Frozen):
    """The URI of the mark for the execution's ranks; None where its input names no run."""

    marked: str | None


class CheckCommEvent(_Event):
    """One rank of `skyfan comm check --on aws`."""

    op: Literal["check_comm"]
    rank: int
    work: RankCheck
