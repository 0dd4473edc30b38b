"""The executor on Lambda: `prepare` before the map, `infer` once a rank."""

import math
import os
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools import Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from skyfan import store
from skyfan.comm.check import RankCheck, check_rank
from skyfan.comm.rank_group import RankGroup
from skyfan.job import Job
from skyfan.models.locating import locate_model
from skyfan.planning import PlanItem, RunOptions
from skyfan.reference_payload import parse_request
from skyfan.serving.lambda_dispatch import attempt_of, make_handler
from skyfan.serving.service_token import fetch_service_token
from skyfan.stages import infer as core
from skyfan.stages.infer_messages import InferRequest, PrepareRequest
from skyfan.stages.model_cache import ModelCache

# "Configure Lambda function memory": 1,769 MB is one vCPU
# (https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html, read 2026-11).
MB_PER_VCPU = 1769
_MS = 1000


def lambda_threads() -> int:
    """vCPUs of this function's memory size, at least one, at most those that are visible."""
    memory_mb = int(os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "0"))
    visible = os.cpu_count() or 1
    return min(visible, max(1, math.ceil(memory_mb / MB_PER_VCPU))) if memory_mb else visible


# Kept from invocation to invocation, as long as the execution environment lives.
_models = ModelCache(threads=lambda_threads())


def _prepare(event: Mapping[str, Any], _context: LambdaContext, _metrics: Metrics) -> dict[str, Any]:
    request = parse_request(event["input"])
    job = Job.of_request(request)
    asked = PrepareRequest(
        model=locate_model(request.model),
        dataset=job.dataset,
        options=job.options,
        measure_rate=True,
        convert_into=request.output,
    )
    prepared = core.prepare(asked, _models)
    model = {
        "uri": prepared.model,
        "ready_uri": prepared.ready,
        "ready_digest": prepared.ready_digest,
        "digest": prepared.digest,
        "format": prepared.format,
        "samples_per_s": prepared.samples_per_s,
    }
    return {"request": request.model_dump(mode="json"), "model": model}


def _infer(event: Mapping[str, Any], context: LambdaContext, metrics: Metrics) -> dict[str, Any]:
    began = datetime.now(UTC)
    reference, model = event["item"], event["model"]
    item = PlanItem.model_validate_json(store.read_range(reference["items_uri"], reference["start"], reference["stop"]))
    batch_size = event.get("batch_size") or RunOptions().batch_size
    request = InferRequest(
        run_id=event["run_id"],
        item=item,
        model=model["ready_uri"],
        model_digest=model["digest"],
        file_digest=model["ready_digest"],
        output=event["output"],
        options=RunOptions.model_validate({**event.get("options", {}), "batch_size": batch_size}),
        attempt=attempt_of(event),
        group=RankGroup(**event["group"], place=reference["place"]) if event.get("group") else None,
    )
    control = core.Control(remaining_s=lambda: context.get_remaining_time_in_millis() / _MS)
    record = core.infer(request, _models, control)
    # The record of a duplicate that was faster is not ours, though it may have begun after us.
    ours = (record.host, record.pid) == (socket.gethostname(), os.getpid())
    fresh = ours and datetime.fromisoformat(record.started_at) >= began
    if fresh:
        metrics.add_metric(name="Samples", unit=MetricUnit.Count, value=record.samples)
        metrics.add_metric(name="BytesRead", unit=MetricUnit.Bytes, value=record.bytes_read)
        metrics.add_metric(name="RankSeconds", unit=MetricUnit.Seconds, value=record.wall_s)
    return {
        "rank": record.rank,
        "status": "committed" if fresh else "already-committed",
        "samples": record.samples,
    }


def _check_comm(event: Mapping[str, Any], _context: LambdaContext, _metrics: Metrics) -> dict[str, Any]:
    """One rank of `skyfan comm check --on aws`."""
    fetch_service_token()
    return check_rank(RankCheck.model_validate(event["work"])).model_dump(mode="json")


handler = make_handler("executor", {"prepare": _prepare, "infer": _infer, "check_comm": _check_comm})
