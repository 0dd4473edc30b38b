"""Hostile files of every format: refused in one sentence, nothing executed, no other file opened."""

import json
import os
import struct

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from safetensors.numpy import save_file

from skyfan.errors import DatasetError
from skyfan.formats import parquet
from skyfan.formats.dataset import read_layouts
from skyfan.formats.registry import open_file
from skyfan.formats.rows import read_rows

ROWS = np.arange(6, dtype="f4")


class Bomb:
    """Unpickled, it leaves a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def open_and_read(path):
    layout = open_file(path)
    for name in layout.names:
        read_rows(layout, name, 0, layout.samples)


def refused(path):
    with pytest.raises(DatasetError) as caught:
        open_and_read(path)
    sentence = str(caught.value)
    assert sentence.isprintable()
    assert sentence.endswith(".")
    return sentence


@pytest.mark.parametrize("save", [np.save, lambda path, values: np.savez(path, image=values)])
def test_pickled_arrays_are_not_opened(tmp_path, save):
    path = tmp_path / ("x.npy" if save is np.save else "x.npz")
    save(path, np.array([Bomb(tmp_path / "executed")] * 3))
    assert "Python objects" in refused(path)
    assert not (tmp_path / "executed").exists()


def npy_header(text, length=None):
    data = text.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(data) if length is None else length) + data + bytes(64)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a .npy file"),
        (npy_header("__import__('os').mkdir('executed')"), "not a .npy file"),
        (npy_header("(" * 5000), "not a .npy file"),
        (npy_header("{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 3)}"), "impossible shape"),
        (npy_header("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 3)}"), "damaged or truncated"),
        (npy_header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 3)}"), "impossible shape"),
        (npy_header("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 3)}"), "holds 0 samples"),
        (npy_header("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3)}"), "Fortran order"),
        (npy_header("{'descr': '<M8[s]', 'fortran_order': False, 'shape': (2,)}"), "save it as numbers"),
    ],
)
def test_npy_headers(tmp_path, content, words):
    (tmp_path / "x.npy").write_bytes(content)
    assert words in refused(tmp_path / "x.npy")


def test_compressed_npz_tells_the_way_on(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", image=ROWS)
    assert "save it again with numpy.savez" in refused(tmp_path / "x.npz")


def test_encrypted_npz_is_not_called_compressed(tmp_path):
    np.savez(tmp_path / "x.npz", image=ROWS)
    content = bytearray((tmp_path / "x.npz").read_bytes())
    content[content.find(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "x.npz").write_bytes(content)
    assert "is encrypted" in refused(tmp_path / "x.npz")


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({key: {"dtype": "F32", "shape": [6], "data_offsets": [0, 24]} for key in "ab"}, "overlap"),
        ({"a": {"dtype": "F32", "shape": [2**61, 0], "data_offsets": [0, 0]}}, "no rows that can be read"),
        ({"a": {"dtype": "F32", "shape": [7], "data_offsets": [0, 24]}}, "bytes, which its shape has not"),
        ({"a": {"dtype": "F32", "shape": [6], "data_offsets": [-24, 0]}}, "impossible shape or offset"),
        ({"a": {"dtype": "F32", "shape": [10**400], "data_offsets": [0, 24]}}, "impossible shape or offset"),
        ({"\x1b[2J": {"dtype": "F32", "shape": [6], "data_offsets": [0, 24]}}, "names a column"),
        ({"a": [1]}, "in another way"),
        ({}, "no column with samples"),
    ],
)  # fmt: skip
def test_safetensors_headers(tmp_path, header, words):
    text = json.dumps(header).encode()
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(24))
    assert words in refused(tmp_path / "x.safetensors")


def test_of_two_tensors_of_one_name_none_is_dropped(tmp_path):
    one = b'"a":{"dtype":"F32","shape":[3],"data_offsets":[%d,%d]}'
    text = b"{%b,%b}" % (one % (0, 12), one % (12, 24))
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(24))
    assert "names a tensor twice" in refused(tmp_path / "x.safetensors")


@pytest.mark.parametrize("content", [b"", struct.pack("<Q", 2**63) + b"{}", struct.pack("<Q", 9000) + b"[" * 9000])
def test_no_safetensors(tmp_path, content):
    (tmp_path / "x.safetensors").write_bytes(content)
    assert "is not a .safetensors file" in refused(tmp_path / "x.safetensors")


def external_link(file, other):
    file["image"] = ROWS
    file["stolen"] = h5py.ExternalLink(other, "secret")


def external_storage(file, other):
    file.create_dataset("image", (6,), "f4", external=[(other, 0, 24)])


def virtual(file, other):
    layout = h5py.VirtualLayout((6,), "f4")
    layout[:] = h5py.VirtualSource(other, "secret", shape=(6,))
    file.create_virtual_dataset("image", layout)


@pytest.mark.parametrize("make", [external_link, external_storage, virtual])
def test_hdf5_that_points_to_other_files(tmp_path, make):
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["secret"] = ROWS + 100
    with h5py.File(tmp_path / "x.h5", "w") as file:
        make(file, str(tmp_path / "other.h5"))
    assert "not opened" in refused(tmp_path / "x.h5")


def test_hdf5_filters_are_not_loaded(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("image", data=ROWS, chunks=(2,), compression="lzf")
    assert "h5repack" in refused(tmp_path / "x.h5")


def test_hdf5_groups_in_a_ring_end(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["a/image"] = ROWS
        file["a/back"] = file["/"]
        file["a/b"] = file["a"]
    assert open_file(tmp_path / "x.h5").names == ("a/image",)


@pytest.mark.parametrize("content", [b"", b"\x89HDF\r\n\x1a\n", b"\x89HDF\r\n\x1a\n" + bytes(3000)])
def test_no_hdf5(tmp_path, content):
    (tmp_path / "x.h5").write_bytes(content)
    assert "is not an HDF5 file" in refused(tmp_path / "x.h5")


def test_parquet_lists_of_several_lengths(tmp_path):
    lists = pa.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0, 7.0], [8.0]])
    pq.write_table(pa.table({"image": lists}), tmp_path / "x.parquet")
    assert "several lengths" in refused(tmp_path / "x.parquet")


def test_parquet_row_groups_beyond_the_limit_are_not_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "MAX_DECODED_BYTES", 20)
    pq.write_table(pa.table({"image": ROWS}), tmp_path / "x.parquet", row_group_size=5)
    assert open_file(tmp_path / "x.parquet").samples == 6
    pq.write_table(pa.table({"image": ROWS}), tmp_path / "x.parquet")
    assert "smaller row_group_size" in refused(tmp_path / "x.parquet")


def test_parquet_columns_in_other_files(tmp_path):
    pq.write_table(pa.table({"image": ROWS}), tmp_path / "other.parquet")
    collected: list[pq.FileMetaData] = []
    pq.write_table(pa.table({"image": ROWS}), tmp_path / "one.parquet", metadata_collector=collected)
    collected[0].set_file_path("other.parquet")
    collected[0].write_metadata_file(str(tmp_path / "x.parquet"))
    assert "file_path" in refused(tmp_path / "x.parquet")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1\xff\xff\xff\x7fPAR1", b"PAR1\x01\0\0\0PARE"])
def test_no_parquet(tmp_path, content):
    (tmp_path / "x.parquet").write_bytes(content)
    assert "Parquet file" in refused(tmp_path / "x.parquet")


@pytest.mark.parametrize(
    ("name", "words"),
    [("x.csv", "DataFrame.to_parquet"), ("x.zip", "unpack it"), ("x.fits.gz", "gunzip"), ("x.pkl", "numpy.savez")],
)
def test_other_files_tell_the_way_on(tmp_path, name, words):
    (tmp_path / name).write_bytes(b"x")
    assert words in refused(tmp_path / name)


def write_npz(path, image, magnitude):
    np.savez(path, image=image, magnitude=magnitude)


def write_safetensors(path, image, magnitude):
    save_file({"image": image, "magnitude": magnitude}, path)


def write_hdf5(path, image, magnitude):
    with h5py.File(path, "w") as file:
        file["image"], file["magnitude"] = image, magnitude


def write_fits(path, image, magnitude):
    columns = [fits.Column("image", "4E", array=image), fits.Column("magnitude", "E", array=magnitude)]
    fits.BinTableHDU.from_columns(columns, nrows=0).writeto(path)


@pytest.mark.parametrize(
    ("name", "write", "words"),
    [
        ("x.npz", write_npz, "holds 0 samples"),
        ("x.safetensors", write_safetensors, "holds 0 samples"),
        ("x.h5", write_hdf5, "no column with samples"),
        ("x.fits", write_fits, "no column with samples"),
    ],
)
def test_a_file_without_samples_is_not_called_damaged(tmp_path, name, write, words):
    write(tmp_path / name, np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
    assert words in refused(tmp_path / name)


def test_a_folder_of_several_formats_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", ROWS)
    np.savez(tmp_path / "b.npz", image=ROWS)
    with pytest.raises(DatasetError, match=r"several formats \(1 npy, 1 npz\)"):
        read_layouts(str(tmp_path))
