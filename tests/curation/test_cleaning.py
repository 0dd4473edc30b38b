"""`clean` drops what cannot be used, keeps the rest bit for bit, and accounts for every dropped sample."""

import json

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from skyfan import curation, store
from skyfan.curation import Rules, sample_blocks
from skyfan.errors import BadInput
from skyfan.formats.rows import read_rows
from skyfan.formats.torch import open_tensorfile, write_tensorfile


@pytest.fixture
def parts(monkeypatch):
    monkeypatch.setattr(sample_blocks, "BLOCK_BYTES", 3 * 20_504)
    rng = np.random.default_rng(0)
    image = rng.normal(size=(14, 5, 32, 32)).astype(np.float32)
    magnitude = rng.uniform(15, 20, size=(14, 5)).astype(np.float32)
    redshift = rng.uniform(0.01, 0.3, size=14).astype(np.float32)
    return image, magnitude, redshift


@pytest.fixture
def dirty(tmp_path, parts):
    image, magnitude, redshift = parts
    image[1, 2, 3, 4] = np.nan
    magnitude[3, 0] = -9999
    redshift[5] = 0
    redshift[6] = np.inf
    image[8] = 0
    for part in parts:
        part[11] = part[2]
    magnitude[1, 1] = 99  # a second fault of sample 1: it is listed once
    path = tmp_path / "dirty.pt"
    write_tensorfile(path, parts)
    return path


def test_each_fault_is_dropped_and_named(tmp_path, dirty):
    report = curation.clean(dirty, tmp_path / "clean.pt")
    assert report.dropped == {
        "NaN or infinity in image": [1],
        "NaN or infinity in redshift": [6],
        "magnitude unknown (|m| ≥ 99)": [3],
        "redshift not within 0 to 10": [5],
        "image of one single value": [8],
        "duplicate": [11],
    }
    assert (report.samples, report.kept) == (14, 8)
    assert json.loads((tmp_path / "clean.pt.json").read_text()) == report.model_dump(mode="json")


def test_kept_samples_are_the_same_bytes_and_torch_reads_them(tmp_path, dirty, parts):
    curation.clean(dirty, tmp_path / "clean.pt")
    with torch.serialization.safe_globals([TensorDataset]):
        loaded = torch.load(tmp_path / "clean.pt", weights_only=True)
    kept = [0, 2, 4, 7, 9, 10, 12, 13]
    for tensor, part in zip(loaded.tensors, parts, strict=True):
        np.testing.assert_array_equal(tensor.numpy(), part[kept])


def test_rules_can_be_switched_off_and_moved(tmp_path, dirty):
    rules = Rules(
        nonfinite=False, brightest_mag=-1e5, faintest_mag=1e3, minimum_redshift=-1, maximum_redshift=np.inf,
        blank_images=False, duplicates=False,
    )  # fmt: skip
    report = curation.clean(dirty, tmp_path / "clean.pt", rules)
    assert report.dropped == {"redshift not within -1 to inf": [6]}
    bright = curation.clean(dirty, tmp_path / "bright.pt", Rules(faintest_mag=19.5))
    faint = bright.dropped["magnitude not within 5 to 19.5"]
    assert bright.dropped["magnitude unknown (|m| ≥ 99)"] == [3]
    assert 1 < len(faint) < 12


def test_cleaning_a_clean_dataset_changes_no_value(tmp_path, dirty):
    first = curation.clean(dirty, tmp_path / "one.pt")
    second = curation.clean(tmp_path / "one.pt", tmp_path / "two.pt")
    assert (second.kept, second.dropped) == (first.kept, {})
    assert (tmp_path / "one.pt").read_bytes() == (tmp_path / "two.pt").read_bytes()


def test_from_and_to_an_object_store(tmp_path, dirty):
    store.copy_in(dirty, "memory://clean/in.pt")
    curation.clean("memory://clean/in.pt", "memory://clean/out.pt")
    out = open_tensorfile("memory://clean/out.pt")
    assert read_rows(out, "redshift", 0, out.samples).shape == (8,)
    assert store.exists("memory://clean/out.pt.json")


def test_the_source_is_never_overwritten(dirty):
    before = dirty.read_bytes()
    with pytest.raises(BadInput, match="is the source itself"):
        curation.clean(dirty, dirty.parent / "." / dirty.name)
    assert dirty.read_bytes() == before


def test_nothing_usable_writes_nothing(tmp_path, dirty):
    with pytest.raises(BadInput, match=r"no usable sample \(.*magnitude not within 5 to 6: 11"):
        curation.clean(dirty, tmp_path / "clean.pt", Rules(faintest_mag=6))
    assert [path.name for path in tmp_path.iterdir()] == ["dirty.pt"]


def test_an_interrupted_copy_leaves_nothing_behind(tmp_path, dirty):
    def interrupt(done, total):
        if done > 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        curation.clean(dirty, tmp_path / "clean.pt", progress=interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["dirty.pt"]


def test_names_that_would_be_lost_are_refused(tmp_path):
    torch.save({"flux": torch.ones(3, 2), "z": torch.ones(3)}, tmp_path / "named.pt")
    with pytest.raises(BadInput, match="names its tensors flux, z, which a TensorDataset cannot keep"):
        curation.clean(tmp_path / "named.pt", tmp_path / "clean.pt")
