"""HDF5: contiguous datasets are byte ranges; chunks are byte ranges too, decoded here.

libhdf5 reads untrusted metadata only, and in a confined child only (`skyfan.formats.hdf5_describing`): it tells where
values lie, and never reads them. So no filter is ever loaded, and no other file is opened.
"""

from skyfan.formats.hdf5._chunks import read_rows
from skyfan.formats.hdf5._opening import open_file

__all__ = ["open_file", "read_rows"]
