"""`.npy`: a header, then the rows. A structured array's fields are columns, row by row.

Source of the format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html.
"""

import io
import tokenize
from typing import Any

import numpy as np

from skyfan import store
from skyfan.formats.base import column, layout, refusal
from skyfan.layout import FileLayout, TensorSpec

COLUMN = "data"
"""What the only array of a file is called."""
MAGIC = b"\x93NUMPY"
MAX_HEADER_BYTES = 64 * 2**10
_READERS: dict[tuple[int, int], Any] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def open_file(uri: store.StrPath) -> FileLayout:
    """The array of a `.npy` file as column `data`, or the fields of a structured one by their names.

    Raises:
        DatasetError: it is none, holds Python objects, or its rows are not blocks (Fortran order).
    """
    info = store.head(uri)
    header = store.read_range(info.uri, 0, min(MAX_HEADER_BYTES, info.size_bytes), etag=info.etag)
    return layout(info, "npy", columns(info.uri, COLUMN, header, 0), header)


def columns(uri: str, name: str, header: bytes, offset_bytes: int) -> list[TensorSpec]:
    """The columns of the array whose header begins at `offset_bytes` of the file.

    Raises:
        DatasetError: as `open_file`.
    """
    file = io.BytesIO(header)
    try:
        version = np.lib.format.read_magic(file)
        shape, fortran, dtype = _READERS[version](file, max_header_size=MAX_HEADER_BYTES)
    except (ValueError, KeyError, SyntaxError, TypeError, RecursionError, MemoryError, tokenize.TokenError) as error:
        what = f"has an array {name!r} whose header is not one of .npy" if offset_bytes else "is not a .npy file"
        raise refusal(uri, f"{what}, or it is damaged; save it again with numpy.save") from error
    if not all(isinstance(size, int) and 0 <= size < 2**62 for size in shape):
        raise refusal(uri, f"has an array {name!r} of an impossible shape")
    start = offset_bytes + file.tell()
    if fortran and len(shape) > 1:
        raise refusal(
            uri,
            f"has an array {name!r} in Fortran order, whose samples do not lie together; save "
            "numpy.ascontiguousarray(ARRAY) instead",
        )
    if dtype.fields is None:
        return [column(uri, name, dtype, shape, start)]
    fields = ((field, *dtype.fields[field][:2]) for field in dtype.names or ())
    return [
        column(uri, field, kind.base, (*shape, *kind.shape), start + offset, stride_bytes=dtype.itemsize)
        for field, kind, offset in fields
    ]
