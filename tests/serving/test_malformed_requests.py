"""What a caller with the token can ask for is still checked: one sentence, before anything is read or allocated."""

import json

import pytest

from skyfan.comm.check_messages import RankCheck
from skyfan.errors import BadInput
from skyfan.job import Job
from skyfan.layout import FileLayout, TensorSpec
from skyfan.planning import PlanItem, Span
from skyfan.rpc.envelope import pack, unpack
from skyfan.stages.messages import InferRequest, ModelFile


@pytest.fixture
def request_():
    """A sound request, as the JSON that travels."""
    spec = TensorSpec("image", "float32", (10, 5, 4), 64, (0, 1))
    layout = FileLayout(uri="sky.pt", etag="1", size_bytes=1000, samples=10, tensors=(spec,))
    span = Span(file=0, start=0, stop=10, first_sample=0)
    request = InferRequest(
        run_id="0" * 16,
        job=Job(dataset="sky.pt", output="run", model="demo"),
        item=PlanItem(rank=0, world_size=2, files=(layout,), spans=(span,)),
        model=ModelFile(uri="demo", digest="00", source_digest="00", engine="openvino"),
    )
    return json.loads(pack(request).content)


def _read(content, kind=InferRequest):
    envelope = pack(ModelFile(uri="", digest="", source_digest="", engine=""))
    envelope.schema = envelope.schema.replace("ModelFile", kind.__name__)
    envelope.content = content if isinstance(content, bytes) else json.dumps(content).encode()
    return unpack(envelope, kind)


def _rank(m, value):
    m["item"]["rank"] = value


def _span(m, **values):
    m["item"]["spans"][0].update(values)


def _tensor(m, **values):
    m["item"]["files"][0]["tensors"][0].update(values)


def _order(m, *order):
    _tensor(m, order=order)


def _shape(m, *shape):
    _tensor(m, shape=shape)


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
    "rows of no values": (lambda m: (_shape(m, 10, 0), _order(m, 0)), "hold no values"),
    "no samples to compute": (lambda m: m["item"].update(spans=[]), "rank 0 has no samples"),
    "no files": (lambda m: m["item"].update(spans=[], files=[]), "rank 0 has no samples"),
    "order 0, 0": (lambda m: _order(m, 0, 0), "order"),
    "order -1, 0": (lambda m: _order(m, -1, 0), "order"),
    "run id as a path": (lambda m: m.update(run_id="../../etc"), "run_id"),
    "attempt 0": (lambda m: m.update(attempt=0), "attempt"),
    "batch size 0": (lambda m: m["job"].update(batch_size=0), "batch_size"),
}


@pytest.mark.parametrize(("change", "words"), CASES.values(), ids=CASES)
def test_a_malformed_request_is_bad_input(request_, change, words):
    assert _read(request_)
    change(request_)
    with pytest.raises(BadInput) as caught:
        _read(request_)
    assert words in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 5000, b"null", b'{"rank": "x"}', b'{"rank": 1e999}', b"\xff"])
def test_content_that_is_no_request_is_bad_input(content):
    with pytest.raises(BadInput, match="RankCheck"):
        _read(content, RankCheck)
