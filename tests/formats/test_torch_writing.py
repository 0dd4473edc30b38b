"""Writing: torch reads what Skyfan writes, the same rows give the same bytes, and half a file never appears."""

import resource
import zipfile

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.data import TensorDataset

from skyfan import store
from skyfan.dtypes import DTYPES, numpy_dtype
from skyfan.errors import DatasetError, LocationError
from skyfan.formats import torch as tensorfile
from skyfan.formats.rows import read_rows
from skyfan.formats.torch import TensorFileWriter, open_tensorfile, write_tensorfile


def reference(samples=11):
    generator = np.random.default_rng(7)
    shapes = (samples, 5, 32, 32), (samples, 5), (samples,)
    return [generator.normal(size=shape).astype(np.float32) for shape in shapes]


def torch_tensors(path, weights_only):
    with torch.serialization.safe_globals([TensorDataset]):
        dataset = torch.load(path, weights_only=weights_only)
    assert type(dataset) is TensorDataset
    return dataset.tensors


def assert_same(tensor, array):
    assert tuple(tensor.shape) == array.shape
    assert str(tensor.dtype) == f"torch.{array.dtype.name}"
    if tensor.numel():
        assert tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() == array.tobytes()


@pytest.mark.parametrize("weights_only", [True, False])
def test_torch_reads_the_reference_layout(tmp_path, weights_only):
    arrays = reference()
    write_tensorfile(tmp_path / "x.pt", arrays)
    with zipfile.ZipFile(tmp_path / "x.pt") as file:
        assert file.testzip() is None  # every checksum is right
    for tensor, array in zip(torch_tensors(tmp_path / "x.pt", weights_only), arrays, strict=True):
        assert_same(tensor, array)
        assert tensor.data_ptr() % 64 == 0


@given(
    st.sampled_from(sorted(DTYPES)),
    st.lists(st.integers(1, 6), max_size=3),
    st.integers(1, 300),
    st.randoms(use_true_random=False),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_dtype_and_shape(tmp_path, dtype, row_shape, samples, random):
    size_bytes = samples * int(np.prod(row_shape)) * numpy_dtype(dtype).itemsize
    limit = 1 if dtype == "bool" else 255
    pattern = bytes(random.randint(0, limit) for _ in range(97)) * (size_bytes // 97 + 1)
    array = np.frombuffer(pattern[:size_bytes], np.uint8).view(numpy_dtype(dtype)).reshape(samples, *row_shape)
    write_tensorfile(tmp_path / "x.pt", [array, np.arange(samples)])
    opened = open_tensorfile(tmp_path / "x.pt")
    assert read_rows(opened, "0", 0, samples).tobytes() == array.tobytes()
    for weights_only in (True, False):
        assert_same(torch_tensors(tmp_path / "x.pt", weights_only)[0], array)


def test_blocks_give_the_same_file_as_the_whole_and_as_ever(tmp_path):
    arrays = reference()
    write_tensorfile(tmp_path / "whole.pt", arrays)
    described = [(array.dtype.name, array.shape[1:]) for array in arrays]
    with TensorFileWriter(tmp_path / "blocks.pt", 11, described) as writer:
        for start, stop in ((0, 4), (4, 4), (4, 11)):
            writer.write(*(array[start:stop] for array in arrays))
    whole = (tmp_path / "whole.pt").read_bytes()
    assert (tmp_path / "blocks.pt").read_bytes() == whole
    write_tensorfile(tmp_path / "another name.pt", arrays)
    assert (tmp_path / "another name.pt").read_bytes() == whole


def test_arrays_of_any_memory_layout_and_byte_order(tmp_path):
    image, magnitude, redshift = reference()
    write_tensorfile(
        tmp_path / "x.pt", [np.asfortranarray(image), magnitude.astype(">f4"), np.repeat(redshift, 2)[::2]]
    )
    for tensor, array in zip(torch_tensors(tmp_path / "x.pt", True), (image, magnitude, redshift), strict=True):
        assert_same(tensor, array)


def test_extension_dtypes_by_name(tmp_path):
    array = np.arange(6).reshape(3, 2).astype(ml_dtypes.bfloat16)
    write_tensorfile(tmp_path / "x.pt", [array])
    assert read_rows(open_tensorfile(tmp_path / "x.pt"), "0", 1, 3).dtype == array.dtype


def test_a_64_bit_archive_of_the_writer_is_read_by_torch(tmp_path):
    """Storages and offsets beyond 4 GiB: the rows are holes, the headers are real."""
    samples = 300_000
    described = [("float32", (5, 32, 32)), ("float32", (5,)), ("int64", ())]
    with TensorFileWriter(tmp_path / "x.pt", samples, described) as writer:
        writer._written = samples  # as if all rows had been given
    opened = open_tensorfile(tmp_path / "x.pt")
    assert opened.size_bytes > 6 * 10**9
    with torch.serialization.safe_globals([TensorDataset]):
        image, magnitude, number = torch.load(tmp_path / "x.pt", weights_only=True, mmap=True).tensors
    assert [tuple(tensor.shape) for tensor in (image, magnitude, number)] == [spec.shape for spec in opened.tensors]
    assert not number[-1:].any()


def _write_and_be_interrupted(uri):
    with TensorFileWriter(uri, 5, [("float32", (2,))]) as writer:
        writer.write(np.zeros((5, 2), np.float32))
        raise KeyboardInterrupt


@pytest.mark.parametrize("scheme", ["file", "memory"])
def test_nothing_appears_unless_all_rows_were_written(tmp_path, scheme):
    uri = f"{tmp_path}/x.pt" if scheme == "file" else f"memory://{tmp_path.name}/x.pt"
    with (
        pytest.raises(DatasetError, match="3 of the announced 5 samples"),
        TensorFileWriter(uri, 5, [("float32", (2,))]) as writer,
    ):
        writer.write(np.zeros((3, 2), np.float32))

    with pytest.raises(KeyboardInterrupt):
        _write_and_be_interrupted(uri)
    assert not store.exists(uri)
    assert list(tmp_path.iterdir()) == []


def test_a_file_elsewhere_is_uploaded_whole(tmp_path):
    uri = f"memory://{tmp_path.name}/x.pt"
    write_tensorfile(uri, reference())
    assert read_rows(open_tensorfile(uri), "redshift", 0, 11).tolist() == reference()[2].tolist()


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ([], "one or more arrays"),
        ([np.zeros(3), np.zeros(4)], "same number"),
        ([np.float32(1.0)], "same number"),
        ([np.zeros((0, 5))], "at least one sample"),
        ([np.array(["a"])], "dtype str"),
        ([np.array([object()])], "dtype object"),
    ],
)
def test_what_cannot_be_written(tmp_path, arrays, words):
    with pytest.raises(DatasetError, match=words) as caught:
        write_tensorfile(tmp_path / "x.pt", arrays)
    assert str(tmp_path / "x.pt") in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(LocationError, match=r"file/sky\.pt cannot be written: "):
        write_tensorfile(tmp_path / "file" / "sky.pt", reference())


@pytest.mark.parametrize(
    ("blocks", "words"),
    [
        ([np.zeros((1, 2), np.float32)], "1 arrays were given for 2 tensors"),
        ([np.zeros((1, 3), np.float32), np.zeros(1)], "float32 rows of shape"),
        ([np.zeros((1, 2)), np.zeros(1)], "not float64"),
        ([np.zeros((2, 2), np.float32), np.zeros(1)], "2 of them"),
        ([np.zeros((9, 2), np.float32), np.zeros(9)], "more than the announced 5"),
    ],
)
def test_blocks_that_do_not_fit(tmp_path, blocks, words):
    with (
        pytest.raises(DatasetError, match=words),
        tensorfile.TensorFileWriter(tmp_path / "x.pt", 5, [("float32", (2,)), ("float64", ())]) as writer,
    ):
        writer.write(*blocks)


@pytest.mark.parametrize("short_bytes", [1, 21, 700])
def test_a_disk_that_is_full_is_told_with_the_files_name_and_leaves_no_file(tmp_path, short_bytes):
    arrays = reference(2)
    write_tensorfile(tmp_path / "whole.pt", arrays)
    size_bytes = (tmp_path / "whole.pt").stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # As on a full disk, the first write beyond the limit writes a part and raises nothing.
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes - short_bytes, before[1]))
    try:
        with pytest.raises(LocationError, match=r"cut\.pt cannot be written: File too large"):
            write_tensorfile(tmp_path / "cut.pt", arrays)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == ["whole.pt"]
