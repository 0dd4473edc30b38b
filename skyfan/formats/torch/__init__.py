"""The `.pt` container: metadata without loading, writing without torch.

A `.pt` file is a ZIP whose entries are stored uncompressed, so a tensor's rows are a byte range of the file.
"""

from skyfan.formats.torch._archive import Archive
from skyfan.formats.torch._reading import open_tensorfile
from skyfan.formats.torch._reading import open_tensorfile as open_file
from skyfan.formats.torch._spec import attribute_names, reference_names
from skyfan.formats.torch._writing import TensorFileWriter, write_tensorfile

__all__ = [
    "Archive",
    "TensorFileWriter",
    "attribute_names",
    "open_file",
    "open_tensorfile",
    "reference_names",
    "write_tensorfile",
]
