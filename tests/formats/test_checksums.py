"""What is read is compared with what was saved, whichever way the rows are cut into blocks and ranks."""

import itertools
import os
import random
import zlib

import numpy as np
import pytest
import torch

from skyfan.errors import DatasetError
from skyfan.formats.checksums import ReadChecksums, RowsChecksum, combined, verify
from skyfan.formats.torch import open_tensorfile
from skyfan.planning import PlanItem, Span
from skyfan.stages.read_ahead import ReadAhead

SAMPLES = 700


@pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 0), (0, 7), (3, 2**20), (10_000, 12_345)])
def test_two_checksums_make_that_of_both_pieces(first, second):
    a, b = os.urandom(first), os.urandom(second)
    assert combined(zlib.crc32(a), zlib.crc32(b), len(b)) == zlib.crc32(a + b)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "x.pt"
    torch.save({"image": torch.rand(SAMPLES, 5, 32, 32), "magnitude": torch.rand(SAMPLES, 5)}, path)
    return path


def read(layout, start, stop, batch_size=64):
    """What the rank that computes rows [start, stop) reads: its checksums, and all of its rows."""
    item = PlanItem(
        rank=0, world_size=1, files=(layout,), spans=(Span(file=0, start=start, stop=stop, first_sample=start),)
    )
    checksums = ReadChecksums()
    with ReadAhead(item, {"image", "magnitude"}, batch_size, checksums=checksums).blocks() as blocks:
        rows = np.concatenate([block.tensors["image"].copy() for block in blocks])
    return checksums.ranges(), rows


def change_unseen(path):
    """Another value in the middle, with the file's time put back: size, inode, time and directory are as before."""
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(status.st_size // 2)
        byte = file.read(1)[0]
        file.seek(status.st_size // 2)
        file.write(bytes([byte ^ 0x40]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("batch_size", [7, 64, SAMPLES])
def test_a_whole_file_is_compared_in_any_blocks(file, batch_size):
    layout = open_tensorfile(file)
    ranges, _ = read(layout, 0, SAMPLES, batch_size)
    assert verify([layout], ranges) == 2
    change_unseen(file)
    assert open_tensorfile(file) == layout  # nothing else tells
    ranges, _ = read(layout, 0, SAMPLES, batch_size)
    with pytest.raises(DatasetError, match=r"x\.pt: the values of tensor 'image' are not those that were saved"):
        verify([layout], ranges)


def test_the_ranks_of_a_file_are_compared_together(file):
    layout = open_tensorfile(file)
    edges = [0, 100, 333, SAMPLES]
    cut = [read(layout, start, stop)[0] for start, stop in itertools.pairwise(edges)]
    assert verify([layout], cut[0]) == 0  # a part alone cannot be compared
    assert verify([layout], [*cut[2], *cut[0], *cut[1], *cut[1]]) == 2
    assert verify([layout], [*cut[2], *cut[0]]) == 0
    change_unseen(file)
    cut = [read(layout, start, stop)[0] for start, stop in itertools.pairwise(edges)]
    random.shuffle(cut)
    with pytest.raises(DatasetError, match="image"):
        verify([layout], [one for part in cut for one in part])


def test_the_values_are_those_of_the_file(file):
    layout = open_tensorfile(file)
    _, rows = read(layout, 0, SAMPLES)
    assert np.array_equal(rows, torch.load(file)["image"].numpy())


def test_a_tensor_without_a_checksum_is_not_compared(file):
    layout = open_tensorfile(file)
    bare = layout.model_copy(update={"tensors": (layout.tensors[0],)})
    ranges, _ = read(layout, 0, SAMPLES)
    assert verify([bare], [one for one in ranges if one.tensor == "image"]) == 1
    assert verify([layout], [RowsChecksum(layout.identity, "image", 0, SAMPLES - 1, 0)]) == 0
