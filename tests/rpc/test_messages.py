"""A request is the same over gRPC as in the caller's process; what is not one is refused in a sentence."""

import pytest

from skyfan.errors import BadInput
from skyfan.job import Job
from skyfan.rpc.envelope import pack, unpack
from skyfan.stages.messages import AggregateRequest, PlanRequest, PreparedModel, PrepareRequest
from skyfan.v1.types_pb2 import Envelope

MODEL = PreparedModel(uri="demo", digest="00", format="state dict", parameters=1, needs_conversion=False)


@pytest.mark.parametrize(
    "request_",
    [
        PlanRequest(job=Job(dataset="sky.pt", partition_size="file", resume=False), model=MODEL),
        PlanRequest(job=Job(dataset="sky.pt", partition_size=5, world_size=3, file_limit=2), model=MODEL),
        PrepareRequest(job=Job(dataset="d", z_column=0)),
        AggregateRequest(output="o", run_id="0123456789abcdef", target="t", elapsed_s=1.5),
        AggregateRequest(
            output="o", run_id="0123456789abcdef", target="t", elapsed_s=1.5, workers=2, failures={3: "gone"}
        ),
    ],
)
def test_a_request_arrives_as_it_was_sent(request_):
    sent = Envelope.FromString(pack(request_).SerializeToString())
    assert unpack(sent, type(request_)) == request_


@pytest.mark.parametrize(
    ("envelope", "message"),
    [
        (Envelope(), "use one version of Skyfan on both sides"),
        (Envelope(schema="skyfan.PrepareRequest/1", content=b"{}"), "use one version of Skyfan on both sides"),
        (Envelope(schema="skyfan.PrepareRequest/2", content=b"\xff{"), "PrepareRequest: value: Invalid JSON"),
        (Envelope(schema="skyfan.PrepareRequest/2", content=b"{}"), "PrepareRequest: job: Field required"),
        (
            Envelope(schema="skyfan.PrepareRequest/2", content=b'{"job": {"dataset": "d", "batch_size": 0}}'),
            "batch_size",
        ),
    ],
)
def test_a_message_that_is_no_request_is_refused_in_a_sentence(envelope, message):
    with pytest.raises(BadInput, match=message) as refused:
        unpack(envelope, PrepareRequest)
    assert "\n" not in str(refused.value)
