"""The `.pt` container: metadata without loading, rows by byte ranges, writing without torch.

A `.pt` file is a ZIP whose entries are stored uncompressed, so a tensor's rows are a byte range of the file.
"""

from skyfan.formats.torch._archive import Archive
from skyfan.formats.torch._dtypes import numpy_dtype
from skyfan.formats.torch._reading import (
    TensorFile,
    batch_bytes,
    check_unchanged,
    open_tensorfile,
    read_batch,
    read_rows,
)
from skyfan.formats.torch._spec import TensorSpec, reference_names
from skyfan.formats.torch._writing import TensorFileWriter, write_tensorfile

__all__ = [
    "Archive",
    "TensorFile",
    "TensorFileWriter",
    "TensorSpec",
    "batch_bytes",
    "check_unchanged",
    "numpy_dtype",
    "open_tensorfile",
    "read_batch",
    "read_rows",
    "reference_names",
    "write_tensorfile",
]
