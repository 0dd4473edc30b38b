"""Reading ahead: every row once and in order, in few requests, by whatever blocks it comes."""

import numpy as np
import pytest

from skyfan.formats.torch import write_tensorfile
from skyfan.job import Job
from skyfan.stages import read_ahead as reading
from skyfan.stages.plan import draft
from skyfan.stages.read_ahead import ReadAhead
from tests.conftest import make_sample

NAMES = {"image", "magnitude", "redshift"}


@pytest.fixture
def sample(tmp_path):
    return make_sample(tmp_path / "sky.pt")


def item_of(sample):
    return draft(Job(dataset=str(sample.path), partition_size=30 * 20_504, world_size=1), "0" * 64).item(0)


@pytest.mark.parametrize("block_rows", [4, 16, 1000])
@pytest.mark.parametrize("window_bytes", [1, 700, 2**20])
def test_every_row_once_and_in_order(sample, monkeypatch, block_rows, window_bytes):
    monkeypatch.setattr(reading, "BLOCK_BYTES", block_rows * 20_504)
    monkeypatch.setattr(reading, "NARROW_BYTES", block_rows * 21)
    monkeypatch.setattr(reading, "WINDOW_BYTES", window_bytes)
    found = {name: [] for name in NAMES}
    first = 0
    with ReadAhead(item_of(sample), NAMES, batch_size=4).blocks() as blocks:
        for block in blocks:
            assert block.first_sample == first
            first += block.count
            for name in NAMES:
                found[name].append(block.tensors[name].copy())
    for name, expected in (("image", sample.image), ("magnitude", sample.magnitude), ("redshift", sample.redshift)):
        np.testing.assert_array_equal(np.concatenate(found[name]), expected)


def test_narrow_tensors_cost_one_request_for_many_blocks(sample, monkeypatch):
    monkeypatch.setattr(reading, "BLOCK_BYTES", 8 * 20_504)
    reader = ReadAhead(item_of(sample), NAMES, batch_size=8)
    monkeypatch.setattr(reading, "NARROW_BYTES", 8 * 21)
    with reader.blocks() as blocks:
        count = sum(1 for _ in blocks)
    assert count == 13
    assert reader.stats.requests == count + 2
    assert reader.read_s > 0


@pytest.mark.parametrize("buffers", [2, 6])
def test_rows_that_are_not_finite_are_found_while_reading(sample, monkeypatch, buffers):
    monkeypatch.setattr(reading, "BLOCK_BYTES", 8 * 20_504)
    monkeypatch.setattr(reading, "NARROW_BYTES", 8 * 21)
    sample.image[40, 0, 3, 3], sample.image[41, 4, 31, 31] = np.nan, np.inf
    write_tensorfile(sample.path, [sample.image, sample.magnitude, sample.redshift])
    with ReadAhead(item_of(sample), NAMES, batch_size=8, buffers=buffers).blocks() as blocks:
        finite = np.concatenate([block.finite["image"] for block in blocks])
    assert np.flatnonzero(~finite).tolist() == [40, 41]
