"""What a caller with the token can ask for is still checked: one sentence, before anything is read or allocated."""

import pytest

from skyfan.comm.check import RankCheck
from skyfan.errors import BadInput
from skyfan.layout import FileLayout, TensorSpec
from skyfan.planning import PlanItem, RunOptions, Span
from skyfan.rpc.messages import from_json, to_message, to_model
from skyfan.stages.infer_messages import InferRequest
from skyfan.v1 import executor_pb2


@pytest.fixture
def message():
    spec = TensorSpec("image", "float32", (10, 5, 4), 64, (0, 1))
    layout = FileLayout(uri="sky.pt", etag="1", size_bytes=1000, samples=10, tensors=(spec,))
    span = Span(file=0, start=0, stop=10, first_sample=0)
    request = InferRequest(
        run_id="0" * 16,
        item=PlanItem(rank=0, world_size=2, files=(layout,), spans=(span,)),
        model="demo",
        model_digest="00",
        output="run",
        options=RunOptions(),
    )
    return to_message(request, executor_pb2.InferRequest)


def _rank(m, value):
    m.item.rank = value


def _span(m, **values):
    for name, value in values.items():
        setattr(m.item.spans[0], name, value)


def _tensor(m, **values):
    for name, value in values.items():
        setattr(m.item.files[0].tensors[0], name, value)


def _order(m, *order):
    m.item.files[0].tensors[0].order[:] = order


def _shape(m, *shape):
    m.item.files[0].tensors[0].shape[:] = shape


CASES = {
    "rank -5": (lambda m: _rank(m, -5), "item.rank"),
    "rank beyond the world": (lambda m: _rank(m, 2), "rank 2 is none of 2"),
    "negative start": (lambda m: _span(m, start=-5), "start"),
    "stop beyond the file": (lambda m: _span(m, stop=10**6), "sample 1000000 of 10"),
    "start after stop": (lambda m: _span(m, start=9, stop=3), "are none"),
    "no samples": (lambda m: _span(m, start=3, stop=3), "are none"),
    "first sample 2**62": (lambda m: _span(m, first_sample=2**62), "first_sample"),
    "span of no file": (lambda m: _span(m, file=7), "file 7"),
    "byteorder middle": (lambda m: _tensor(m, byteorder="middle"), "byteorder"),
    "dtype object": (lambda m: _tensor(m, dtype="object"), "'object' is not a dtype"),
    "offset beyond the file": (lambda m: _tensor(m, offset_bytes=500), "ends after the file"),
    "wide rows": (lambda m: _shape(m, 10, 50_000, 4), "ends after the file"),
    "more samples than the file": (lambda m: _shape(m, 9, 5, 4), "9 samples"),
    "no dimensions": (lambda m: _shape(m), "shape"),
    "too many dimensions": (lambda m: _shape(m, 10, *[1] * 40), "shape"),
    "order 0, 0": (lambda m: _order(m, 0, 0), "order"),
    "order -1, 0": (lambda m: _order(m, -1, 0), "order"),
    "run id as a path": (lambda m: setattr(m, "run_id", "../../etc"), "run_id"),
    "attempt 0": (lambda m: setattr(m, "attempt", 0), "attempt"),
    "batch size 0": (lambda m: setattr(m.options, "batch_size", 0), "batch_size"),
}


@pytest.mark.parametrize(("change", "words"), CASES.values(), ids=CASES)
def test_a_malformed_request_is_bad_input(message, change, words):
    assert to_model(message, InferRequest)
    change(message)
    with pytest.raises(BadInput) as caught:
        to_model(message, InferRequest)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[" * 5000, "null", '{"rank": "x"}', '{"rank": 1e999}'])
def test_json_in_a_message_is_checked_too(text):
    with pytest.raises(BadInput, match="RankCheck"):
        from_json(text, RankCheck)
