"""What a service is asked is the same over gRPC as in the caller's process."""

import pytest

from skyfan.planning import RunOptions
from skyfan.rpc.messages import to_message, to_model
from skyfan.stages.aggregate_messages import AggregateRequest
from skyfan.stages.infer_messages import PrepareRequest
from skyfan.stages.plan_messages import PlanRequest
from skyfan.v1 import aggregator_pb2, executor_pb2, partitioner_pb2

PLAN = {"dataset": "sky.pt", "output": "run", "model": "demo", "model_digest": "00"}
STARTED = "2026-01-02T03:04:05Z"


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (PlanRequest(**PLAN, partition_size_bytes=None, resume=False), partitioner_pb2.PlanRequest),
        (PlanRequest(**PLAN, partition_size_bytes=5, world_size=3, file_limit=2), partitioner_pb2.PlanRequest),
        (PrepareRequest(model="m", dataset="d", options=RunOptions(z_column=0)), executor_pb2.PrepareRequest),
        (AggregateRequest(output="o", run_id="r", target="t", started_at=STARTED), aggregator_pb2.AggregateRequest),
        (
            AggregateRequest(output="o", run_id="r", target="t", started_at=STARTED, workers=2, failures={3: "gone"}),
            aggregator_pb2.AggregateRequest,
        ),
    ],
)
def test_a_request_arrives_as_it_was_sent(request_, message):
    assert to_model(to_message(request_, message), type(request_)) == request_
