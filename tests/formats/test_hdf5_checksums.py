"""The checksums of an HDF5 file's chunks are compared, as libhdf5 does."""

import h5py
import numpy as np
import pytest

from skyfan.errors import DatasetError
from skyfan.formats.dataset import open_dataset


@pytest.mark.parametrize("values", [np.arange(999, dtype="u1"), np.zeros((7, 5), "f4"), np.ones(300_000, "f8")])
def test_a_changed_byte_is_noticed(tmp_path, values):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("data", data=values, chunks=values.shape, fletcher32=True)
        at = file["data"].id.get_chunk_info(0).byte_offset
    np.testing.assert_array_equal(open_dataset(str(path)).read(0, len(values))["data"], values)
    content = bytearray(path.read_bytes())
    content[at + values.nbytes // 2] ^= 4
    path.write_bytes(content)
    with h5py.File(path) as file, pytest.raises(OSError, match="Can't"):
        file["data"][:]
    with pytest.raises(DatasetError, match="a chunk of data is not what its filters make"):
        open_dataset(str(path)).read(0, len(values))
