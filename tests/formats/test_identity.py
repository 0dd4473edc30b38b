"""The identity of a file is its content: copies and touched files are the same file, other contents are not."""

import os
import shutil
import zipfile

import pytest
import torch
from torch.utils.data import TensorDataset

from skyfan import store
from skyfan.formats.identity import SAMPLED_BLOCK_BYTES, content_identity, sampled_spans
from skyfan.formats.torch import open_tensorfile

BIG_BYTES = 3 * 2**20


def save(path, seed, **options):
    generator = torch.Generator().manual_seed(seed)
    torch.save(TensorDataset(torch.rand(8, 5, 4, 4, generator=generator)), path, **options)


def test_copies_links_and_touched_files_are_the_same_file(tmp_path):
    file, copy, link = tmp_path / "x.pt", tmp_path / "elsewhere" / "y.pt", tmp_path / "link.pt"
    save(file, 1)
    before = open_tensorfile(file)
    copy.parent.mkdir()
    shutil.copy(file, copy)
    link.symlink_to(file)
    os.utime(file, (1, 1))
    for other in (file, copy, link):
        opened = open_tensorfile(other)
        assert opened.identity == before.identity
    assert open_tensorfile(file).etag != before.etag


def test_the_name_that_torch_gives_the_archive_is_no_content(tmp_path):
    save(tmp_path / "one.pt", 1)
    save(tmp_path / "another.pt", 1)
    assert open_tensorfile(tmp_path / "one.pt").identity == open_tensorfile(tmp_path / "another.pt").identity


@pytest.mark.parametrize("checksums", [True, False])
def test_other_values_are_another_file_even_where_torch_stored_no_checksums(tmp_path, checksums):
    torch.serialization.set_crc32_options(checksums)
    try:
        for seed in (1, 2):
            save(tmp_path / f"{seed}.pt", seed)
    finally:
        torch.serialization.set_crc32_options(True)
    first, second = (open_tensorfile(tmp_path / f"{seed}.pt") for seed in (1, 2))
    assert first.size_bytes == second.size_bytes
    assert first.identity != second.identity
    shutil.copy(tmp_path / "1.pt", tmp_path / "copy.pt")
    assert open_tensorfile(tmp_path / "copy.pt").identity == first.identity


def test_tensors_that_fill_their_storage_carry_its_checksum(tmp_path):
    whole, sliced = torch.rand(8, 3), torch.rand(9, 3)[:8]
    torch.save({"whole": whole, "sliced": sliced}, tmp_path / "x.pt")
    opened = open_tensorfile(tmp_path / "x.pt")
    with zipfile.ZipFile(tmp_path / "x.pt") as archive:
        assert opened.tensor("whole").crc32 == archive.getinfo("x/data/0").CRC
    assert opened.tensor("sliced").crc32 is None


def test_a_file_without_checksums_is_known_by_its_size_header_and_blocks(tmp_path):
    path = tmp_path / "x.npy"
    content = bytearray(os.urandom(BIG_BYTES))
    path.write_bytes(content)
    identity = content_identity(store.head(path), b"header")
    shutil.copy(path, tmp_path / "copy.npy")
    assert content_identity(store.head(tmp_path / "copy.npy"), b"header") == identity
    assert content_identity(store.head(path), b"other header") != identity
    for start, stop in sampled_spans(BIG_BYTES):
        for at in (start, stop - 1):
            changed = content.copy()
            changed[at] ^= 1
            path.write_bytes(changed)
            assert content_identity(store.head(path), b"header") != identity
    path.write_bytes(content + b"\0")
    assert content_identity(store.head(path), b"header") != identity


@pytest.mark.parametrize("size_bytes", [0, 1, 16 * SAMPLED_BLOCK_BYTES, 16 * SAMPLED_BLOCK_BYTES + 1, 2**40])
def test_the_sampled_blocks_are_within_the_file_and_at_most_a_megabyte(size_bytes):
    spans = sampled_spans(size_bytes)
    assert spans[0][0] == 0
    assert spans[-1][1] == size_bytes
    assert all(start <= stop <= size_bytes for start, stop in spans)
    assert sum(stop - start for start, stop in spans) <= 16 * SAMPLED_BLOCK_BYTES
