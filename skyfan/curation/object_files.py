"""Files of one object each: FITS cutouts, `.npy` arrays and `.pt` tensors."""

import io

import numpy as np
from numpy.typing import NDArray

from skyfan import store
from skyfan.errors import DatasetError
from skyfan.formats.base import MAX_DECODED_BYTES, refusal
from skyfan.formats.registry import suffix_of
from skyfan.formats.rows import read_batch
from skyfan.formats.torch import open_tensorfile

IMAGE = "image"
SUFFIXES = (".fits", ".fit", ".fz", ".npy", ".pt")

Columns = dict[str, NDArray[np.generic]]


def read_object(uri: str) -> tuple[Columns, str]:
    """The arrays of one object by name, and its file's note; the only array of a file is called `image`.

    Raises:
        DatasetError: the file is none of these, holds no array, or is damaged.
        LocationError: it cannot be read.
    """
    match suffix_of(uri):
        case ".pt":
            file = open_tensorfile(uri)
            found = read_batch(file.uri, file.tensors, 0, file.samples, etag=file.etag)
            return found if len(found) > 1 else {IMAGE: next(iter(found.values()))}, file.note
        case ".npy":
            return {IMAGE: _npy(uri)}, ""
        case _:
            return {IMAGE: _fits(uri)}, ""


def _bytes(uri: str) -> io.BytesIO:
    info = store.head(uri)
    if info.size_bytes > MAX_DECODED_BYTES:
        raise refusal(info.uri, f"is larger than the {MAX_DECODED_BYTES // 2**20} MB that one object may have")
    return io.BytesIO(store.read_range(info.uri, 0, info.size_bytes, etag=info.etag))


def _npy(uri: str) -> NDArray[np.generic]:
    try:
        found = np.load(_bytes(uri), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise refusal(uri, "is not a .npy file, holds Python objects, or is damaged; save it again") from error
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "biufc":
        raise refusal(uri, "holds no array of numbers")
    return _native(found)


def _fits(uri: str) -> NDArray[np.generic]:
    """The first image of a file, tile-compressed ones too."""
    try:
        from astropy.io import fits
    except ImportError as error:
        raise DatasetError(f"{uri} is FITS, for which astropy is needed: pip install 'skyfan[formats]'.") from error
    try:
        with fits.open(_bytes(uri), memmap=False) as parts:
            for part in parts:
                if part.is_image and part.header.get("NAXIS"):
                    sizes = [part.header[f"NAXIS{n + 1}"] for n in range(part.header["NAXIS"])]
                    if 0 < np.prod(sizes, dtype=float) * 8 <= MAX_DECODED_BYTES:
                        return _native(part.data)
    except (OSError, ValueError, TypeError, KeyError, IndexError, fits.VerifyError) as error:
        raise refusal(uri, "is a damaged FITS file; copy it again") from error
    raise refusal(uri, "holds no image that can be read")


def _native(values: NDArray[np.generic]) -> NDArray[np.generic]:
    return np.ascontiguousarray(values, values.dtype.newbyteorder("="))
