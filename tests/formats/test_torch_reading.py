"""Reading against torch itself: whatever torch saves is read back by byte ranges, row by row."""

import json
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.data import TensorDataset

from skyfan import store
from skyfan.formats import torch as tensorfile
from skyfan.formats.rows import batch_bytes, read_batch, read_rows
from skyfan.layout import TensorSpec

NUMPY_DTYPES = [
    *(torch.bool, torch.uint8, torch.uint16, torch.uint32, torch.uint64),
    *(torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.float16, torch.float32, torch.float64, torch.complex64, torch.complex128),
]
EXTENSION_DTYPES = [
    *(torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2),
    *(torch.float8_e4m3fnuz, torch.float8_e5m2fnuz, torch.float8_e8m0fnu),
]


def raw(tensor):
    """The elements' bytes in row-major order: equality without a float's NaN or a dtype that numpy lacks."""
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


def assert_rows_equal(read, tensor):
    assert read.shape == tuple(tensor.shape)
    assert read.dtype.name == str(tensor.dtype).removeprefix("torch.")
    assert np.ascontiguousarray(read).tobytes() == raw(tensor)


def random_bytes_tensor(dtype, shape, seed=0):
    """Any bit pattern of the dtype (bool: 0 and 1)."""
    generator = torch.Generator().manual_seed(seed)
    size_bytes = int(np.prod(shape)) * torch.empty(0, dtype=dtype).element_size()
    values = torch.randint(0, 2 if dtype is torch.bool else 256, (size_bytes,), generator=generator)
    return values.to(torch.uint8).view(dtype).reshape(shape)


@pytest.mark.parametrize("dtype", NUMPY_DTYPES + EXTENSION_DTYPES, ids=str)
def test_every_dtype(tmp_path, dtype):
    tensor = random_bytes_tensor(dtype, (7, 3, 2))
    torch.save([tensor], tmp_path / "x.pt")
    opened = tensorfile.open_tensorfile(tmp_path / "x.pt")
    assert_rows_equal(read_rows(opened, "0", 2, 6), tensor[2:6])


@st.composite
def layouts(draw):
    """A tensor of any dense layout with the samples outermost, as a view somewhere in a larger storage."""
    dtype = draw(st.sampled_from(NUMPY_DTYPES + EXTENSION_DTYPES))
    shape = draw(st.lists(st.integers(1, 4), min_size=0, max_size=4))
    order = draw(st.permutations(range(len(shape))))
    samples, before, after = draw(st.integers(1, 6)), draw(st.integers(0, 3)), draw(st.integers(0, 2))
    stored = random_bytes_tensor(dtype, (before + samples + after, *(shape[axis] for axis in order)), seed=samples)
    view = stored[before : before + samples].permute(0, *(1 + order.index(axis) for axis in range(len(shape))))
    start = draw(st.integers(0, samples))
    return view, start, draw(st.integers(start, samples))


@given(layouts())
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_dense_layout(tmp_path, case):
    tensor, start, stop = case
    torch.save({"x": tensor}, tmp_path / "x.pt")
    opened = tensorfile.open_tensorfile(tmp_path / "x.pt")
    assert opened.samples == len(tensor)
    assert_rows_equal(read_rows(opened, "x", start, stop), tensor[start:stop])


def test_channels_last(tmp_path):
    image = torch.randn(6, 5, 4, 4).to(memory_format=torch.channels_last)
    torch.save(TensorDataset(image), tmp_path / "x.pt")
    opened = tensorfile.open_tensorfile(tmp_path / "x.pt")
    assert_rows_equal(read_rows(opened, "0", 1, 5), image[1:5])


def reference(samples=9):
    return torch.randn(samples, 5, 32, 32), torch.randn(samples, 5), torch.rand(samples)


@pytest.mark.parametrize("wrap", [lambda *t: TensorDataset(*t), tuple, list], ids=["TensorDataset", "tuple", "list"])
def test_the_reference_layout_has_names(tmp_path, wrap):
    tensors = reference()
    torch.save(wrap(*tensors) if wrap not in (tuple, list) else wrap(tensors), tmp_path / "x.pt")
    opened = tensorfile.open_tensorfile(tmp_path / "x.pt")
    assert list(opened.names) == ["image", "magnitude", "redshift"]
    for name, tensor in zip(opened.names, tensors, strict=True):
        assert_rows_equal(read_rows(opened, name, 0, 9), tensor)


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (torch.zeros(3, 2), ["0"]),
        ((torch.zeros(3, 5, 8, 8), torch.zeros(3, 5)), ["image", "magnitude"]),
        ((torch.zeros(3, 5, 8, 8), torch.zeros(3, 4), torch.zeros(3)), ["0", "1", "2"]),
        ([torch.zeros(3)] * 4, ["0", "1", "2", "3"]),
        ({"z": torch.zeros(3), "a": torch.zeros(3, 1)}, ["z", "a"]),
        ({"s": {"x": torch.zeros(3), 7: [torch.zeros(3)]}}, ["s.x", "s.7.0"]),
        (torch.nn.Parameter(torch.zeros(3, 2)), ["0"]),
        (TensorDataset(torch.zeros(3, requires_grad=True), torch.zeros(3)), ["0", "1"]),
    ],
)
def test_names(tmp_path, content, names):
    torch.save(content, tmp_path / "x.pt")
    assert list(tensorfile.open_tensorfile(tmp_path / "x.pt").names) == names


def test_ordered_dicts_with_attributes_and_tensors_with_attributes(tmp_path):
    layer = torch.nn.Linear(3, 4, bias=False)
    tagged = torch.ones(4, 2)
    tagged.survey = "SDSS"
    torch.save({"state": layer.state_dict(), "tagged": tagged}, tmp_path / "x.pt")
    opened = tensorfile.open_tensorfile(tmp_path / "x.pt")
    assert list(opened.names) == ["state.weight", "tagged"]
    assert_rows_equal(read_rows(opened, "state.weight", 0, 4), layer.weight.detach())


@pytest.mark.parametrize("protocol", range(1, 6))
def test_every_pickle_protocol(tmp_path, protocol):
    tensors = reference(3)
    torch.save(TensorDataset(*tensors), tmp_path / "x.pt", pickle_protocol=protocol)
    opened = tensorfile.open_tensorfile(tmp_path / "x.pt")
    assert_rows_equal(read_rows(opened, "image", 1, 3), tensors[0][1:3])


def test_shared_storage(tmp_path):
    base = torch.arange(24.0).reshape(12, 2)
    torch.save({"first": base[:6], "second": base[6:], "again": base[:6]}, tmp_path / "x.pt")
    opened = tensorfile.open_tensorfile(tmp_path / "x.pt")
    assert_rows_equal(read_rows(opened, "second", 1, 6), base[7:])
    assert_rows_equal(read_rows(opened, "again", 0, 6), base[:6])


def test_a_spec_survives_json_and_reads_without_the_header(tmp_path):
    tensors = reference()
    torch.save(TensorDataset(*tensors), tmp_path / "x.pt")
    opened = tensorfile.open_tensorfile(tmp_path / "x.pt")
    carried = json.loads(json.dumps(asdict(opened.tensor("image"))))
    spec = TensorSpec(**{key: tuple(v) if isinstance(v, list) else v for key, v in carried.items()})
    assert spec == opened.tensor("image")
    stats = store.ReadStats()
    read = read_batch(opened.uri, [spec], 3, 5, etag=opened.etag, stats=stats)["image"]
    assert_rows_equal(read, tensors[0][3:5])
    assert stats.bytes_read == 2 * spec.row_bytes == 2 * 20_480


def test_a_batch_of_several_tensors_in_the_callers_buffer(tmp_path):
    content = {
        "flag": torch.tensor([True, False, True, True]),
        "z": torch.rand(4, dtype=torch.float64),
        "image": torch.randn(4, 3, 2),
    }
    torch.save(content, tmp_path / "x.pt")
    opened = tensorfile.open_tensorfile(tmp_path / "x.pt")
    specs = list(opened.tensors)
    buffer = np.empty(batch_bytes(specs, 3), np.uint8)
    for start, stop in ((0, 3), (1, 4), (3, 4)):
        batch = read_batch(opened.uri, specs, start, stop, buffer=buffer, etag=opened.etag)
        assert list(batch) == ["flag", "z", "image"]
        for name, array in batch.items():
            assert_rows_equal(array, content[name][start:stop])
            assert np.shares_memory(array, buffer)
            assert array.flags.aligned


def test_a_file_that_changed_is_noticed(tmp_path):
    torch.save(TensorDataset(*reference()), tmp_path / "x.pt")
    opened = tensorfile.open_tensorfile(tmp_path / "x.pt")
    torch.save(TensorDataset(*reference()), tmp_path / "x.pt")
    with pytest.raises(store.PreconditionFailed, match="changed"):
        read_rows(opened, "image", 0, 1)


def test_opening_reads_little_and_needs_no_torch(tmp_path):
    torch.save(
        TensorDataset(torch.zeros(2_000, 5, 32, 32), torch.zeros(2_000, 5), torch.zeros(2_000)), tmp_path / "x.pt"
    )
    program = (
        "import sys; from skyfan import store; from skyfan.formats import torch as tensorfile; "
        "stats = store.ReadStats(); "
        f"tensorfile.open_tensorfile({str(tmp_path / 'x.pt')!r}, stats=stats); "
        "assert stats.bytes_read < 100_000, stats; assert stats.requests <= 3, stats; "
        "assert not {'torch', 'boto3', 'ml_dtypes'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_the_whole_survey_in_one_file_is_opened_by_a_few_small_reads(tmp_path):
    samples = 659_817
    shapes = (samples, 5, 32, 32), (samples, 5), (samples,)
    with torch.serialization.skip_data():  # torch's own 64-bit archive of 13.5 GB, all holes
        torch.save(TensorDataset(*(torch.empty(shape) for shape in shapes)), tmp_path / "survey.pt")
    stats = store.ReadStats()
    opened = tensorfile.open_tensorfile(tmp_path / "survey.pt", stats=stats)
    assert [spec.shape for spec in opened.tensors] == list(shapes)
    assert stats.bytes_read < 100_000
    assert stats.requests <= 4
    _first, last = opened.tensor("image").byte_range(samples - 1, samples)
    assert last == opened.tensor("image").offset_bytes + samples * 20_480
    assert not read_rows(opened, "redshift", samples - 2, samples).any()
