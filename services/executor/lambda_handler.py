"""The executor on Lambda: `prepare` before the plan, `convert` after it, `infer` once a rank."""

import math
import os
from datetime import UTC, datetime

from aws_lambda_powertools import Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from skyfan.aws_limits import LAMBDA_MB_PER_VCPU
from skyfan.comm.check_messages import RankReport
from skyfan.reference_payload import parse_execution_input
from skyfan.rpc.service_token import fetch_service_token
from skyfan.serving.lambda_dispatch import make_handler
from skyfan.serving.lambda_events import (
    CheckCommEvent,
    ConvertEvent,
    InferEvent,
    InferResult,
    PrepareEvent,
    PrepareResult,
)
from skyfan.serving.stopped_runs import stopped_with
from skyfan.settings import FunctionSettings, read
from skyfan.stages.infer import Control, infer
from skyfan.stages.items import read_item
from skyfan.stages.measure import computed_here
from skyfan.stages.messages import ConvertRequest, InferRequest, ModelFile, PrepareRequest
from skyfan.stages.model_cache import ModelCache
from skyfan.stages.prepare import convert, prepare
from skyfan.stages.starts import write_start

_MS = 1000


def lambda_threads() -> int:
    """Number of vCPUs of this function's memory size, at least one, at most those that are visible."""
    memory_mb = int(os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "0"))
    visible = os.cpu_count() or 1
    return min(visible, max(1, math.ceil(memory_mb / LAMBDA_MB_PER_VCPU))) if memory_mb else visible


# Kept from invocation to invocation, as long as the execution environment lives.
_models = ModelCache(threads=lambda_threads())


def _prepare(event: PrepareEvent, _context: LambdaContext, _metrics: Metrics) -> PrepareResult:
    job = parse_execution_input(event.input)
    return PrepareResult(job=job, model=prepare(PrepareRequest(job=job, measure_rate=True), _models))


def _convert(event: ConvertEvent, _context: LambdaContext, _metrics: Metrics) -> ModelFile:
    model = convert(ConvertRequest(job=event.job, model=event.model), _models)
    if event.array:
        target = read(FunctionSettings).target
        array = event.array
        write_start(event.job, array.run_id, model, target=target, name=array.start, plan_s=array.plan_s)
    return model


def _infer(event: InferEvent, context: LambdaContext, metrics: Metrics) -> InferResult:
    began = datetime.now(UTC)
    reference = event.item
    group = event.group
    request = InferRequest(
        run_id=event.run_id,
        job=event.job,
        item=read_item(reference),
        model=event.model,
        attempt=event.attempt + 1,
        group=group and group.model_copy(update={"group_rank": reference.group_rank}),
    )
    with stopped_with(event.execution, event.job.output) as stopped:
        control = Control(cancelled=stopped, remaining_s=lambda: context.get_remaining_time_in_millis() / _MS)
        record = infer(request, _models, control)
    # The record of a duplicate that was faster is not ours, though it may have begun after us.
    fresh = computed_here(record) and datetime.fromisoformat(record.started_at) >= began
    if fresh:
        metrics.add_metric(name="Samples", unit=MetricUnit.Count, value=record.samples)
        metrics.add_metric(name="BytesRead", unit=MetricUnit.Bytes, value=record.bytes_read)
        metrics.add_metric(name="RankSeconds", unit=MetricUnit.Seconds, value=record.wall_s)
    return InferResult(rank=record.rank, status="committed" if fresh else "already-committed", samples=record.samples)


def _check_comm(event: CheckCommEvent, _context: LambdaContext, _metrics: Metrics) -> RankReport:
    from skyfan.comm.check_rank import check_rank

    fetch_service_token()
    return check_rank(event.work)


handler = make_handler(
    "executor",
    {
        "prepare": (PrepareEvent, _prepare),
        "convert": (ConvertEvent, _convert),
        "infer": (InferEvent, _infer),
        "check_comm": (CheckCommEvent, _check_comm),
    },
)
