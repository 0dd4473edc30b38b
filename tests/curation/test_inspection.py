"""`inspect` tells what a dataset holds, without loading it whole."""

import numpy as np
import pytest

from skyfan import curation, store
from skyfan.curation import sample_blocks
from skyfan.errors import DatasetError, LocationError
from skyfan.formats.torch import write_tensorfile


def reference(samples=12, seed=0):
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(samples, 5, 32, 32)).astype(np.float32)
    magnitude = rng.uniform(15, 20, size=(samples, 5)).astype(np.float32)
    redshift = rng.uniform(0.01, 0.3, size=samples).astype(np.float32)
    return [image, magnitude, redshift]


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of two samples, so that every tally is put together from several."""
    monkeypatch.setattr(sample_blocks, "BLOCK_BYTES", 2 * 20_504)


def test_clean_dataset(tmp_path, small_blocks):
    image, magnitude, redshift = reference()
    write_tensorfile(tmp_path / "d.pt", [image, magnitude, redshift])
    report = curation.inspect(tmp_path / "d.pt")
    assert (report.samples, report.duplicates) == (12, 0)
    assert report.size_bytes == (tmp_path / "d.pt").stat().st_size
    by_name = {tensor.name: tensor for tensor in report.tensors}
    assert list(by_name) == ["image", "magnitude", "redshift"]
    assert by_name["image"].shape == (12, 5, 32, 32)
    assert by_name["image"].minimum == image.min()
    assert by_name["magnitude"].maximum == magnitude.max()
    assert by_name["redshift"].mean == pytest.approx(redshift.mean(), rel=1e-6)


def test_nonfinite_values_and_samples_are_counted_apart(tmp_path, small_blocks):
    image, magnitude, redshift = reference()
    image[3, 0, 0, :4] = np.nan
    image[3, 1, 0, 0] = np.inf
    image[7, 0, 0, 0] = -np.inf
    redshift[:] = np.nan
    write_tensorfile(tmp_path / "d.pt", [image, magnitude, redshift])
    seen = {tensor.name: tensor for tensor in curation.inspect(tmp_path / "d.pt").tensors}
    assert (seen["image"].nan_values, seen["image"].infinite_values) == (4, 2)
    assert seen["image"].samples_with_nonfinite == 2
    assert seen["image"].maximum == image[np.isfinite(image)].max()
    assert seen["redshift"].nan_values == 12
    assert seen["redshift"].minimum is seen["redshift"].mean is None


def test_duplicates_are_found_across_blocks_and_need_every_tensor(tmp_path, small_blocks):
    parts = reference()
    for part in parts:
        part[9] = part[1]
    parts[0][5], parts[1][5] = parts[0][2], parts[1][2]  # another redshift: another sample
    write_tensorfile(tmp_path / "d.pt", parts)
    report = curation.inspect(tmp_path / "d.pt")
    assert (report.duplicates, report.first_duplicates) == (1, [9])


@pytest.mark.parametrize("dtype", ["int64", "bool", "float16", "bfloat16", "complex64"])
def test_any_dtype(tmp_path, dtype):
    import ml_dtypes

    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    write_tensorfile(tmp_path / "d.pt", [np.array([[0, 1], [1, 1]]).astype(kind)])
    (tensor,) = curation.inspect(tmp_path / "d.pt").tensors
    assert (tensor.dtype, tensor.minimum, tensor.maximum, tensor.nan_values) == (dtype, 0, 1, 0)


def test_object_stores_and_progress(tmp_path):
    write_tensorfile(tmp_path / "d.pt", reference())
    store.copy_in(tmp_path / "d.pt", "memory://inspect/d.pt")
    steps = []
    report = curation.inspect("memory://inspect/d.pt", lambda done, total: steps.append((done, total)))
    assert report.uri == "memory://inspect/d.pt"
    assert steps[-1] == (12, 12)


def test_what_is_no_dataset_is_refused(tmp_path):
    (tmp_path / "d.pt").write_bytes(b"no zip" * 100)
    with pytest.raises(DatasetError):
        curation.inspect(tmp_path / "d.pt")
    with pytest.raises(LocationError, match="does not exist"):
        curation.inspect(tmp_path / "absent.pt")


def test_every_format_is_inspected_with_its_text_columns(tmp_path):
    names = np.array([b"a", b"b", b"c"])
    np.savez(tmp_path / "d.npz", name=names, magnitude=np.array([1.0, 1.0, np.nan]))
    report = curation.inspect(tmp_path / "d.npz")
    name, magnitude = report.tensors
    assert (name.dtype, name.minimum, magnitude.nan_values, report.skipped) == ("string", None, 1, [])
