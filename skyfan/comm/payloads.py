"""What can be sent: numpy arrays of any dtype and shape, numbers (as arrays of no dimension) and bytes.

A value becomes a short description (JSON) and its memory. Nothing that arrives is ever executed or unpickled, and
dtypes that hold Python objects are refused. JSON, not Python's own notation: `ast.literal_eval` in several threads
fails in CPython before 3.11.9 and 3.12.3 (gh-106905), in the thread that parses or in any other one.
"""

import functools
import json
import zlib
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
import numpy.typing as npt

from skyfan.comm.errors import CommError
from skyfan.errors import BadInput

Array: TypeAlias = npt.NDArray[Any]
Value: TypeAlias = Array | bytes
Sendable: TypeAlias = Array | np.generic | complex | bytes | bytearray | memoryview

_NO_BYTES = memoryview(b"")
_ALIGNMENT_BYTES = 64


def as_array(value: object, what: str) -> Array:
    """`value` as an array whose elements lie one after another.

    Raises:
        BadInput: it is no number or array, or holds Python objects.
    """
    if not isinstance(value, np.ndarray | np.generic | int | float | complex):
        raise BadInput(f"{what} takes numpy arrays and numbers, not {type(value).__name__}.")
    array = np.ascontiguousarray(value) if np.ndim(value) else np.asarray(value)
    if array.dtype.hasobject:
        raise BadInput(f"{what} does not take arrays of Python objects; use a numeric or a fixed-size dtype.")
    return array


def raw_bytes(array: Array) -> memoryview:
    """The memory of a contiguous array."""
    if array.nbytes == 0:
        return _NO_BYTES
    return array.reshape(-1).view(np.uint8).data


def encode(value: object, what: str) -> tuple[bytes, memoryview]:
    """(description, memory) of a value."""
    if isinstance(value, bytes | bytearray | memoryview):
        view = memoryview(value).cast("B") if len(value) else _NO_BYTES
        return _aligned(b"bytes"), view
    array = as_array(value, what)
    return _aligned(_describe(array.dtype, array.shape)), raw_bytes(array)


def decode(description: bytes | memoryview, data: memoryview, peer: int) -> Value:
    """The value that `encode` described; arrays share memory with `data`.

    Raises:
        CommError: the description cannot be read.
    """
    text = bytes(description).rstrip().decode()
    if text == "bytes":
        return bytes(data)
    try:
        (family, name), shape = json.loads(text)
        dtype = np.dtype(getattr(ml_dtypes, name)) if family == "ml" else np.lib.format.descr_to_dtype(_as_descr(name))
        if dtype.itemsize == 0 or 0 in shape:
            return np.empty(shape, dtype)
        return np.frombuffer(data, np.uint8).view(dtype).reshape(shape)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise CommError(f"rank {peer} sent an array description that cannot be read ({error}).") from error


def fingerprint(array: Array) -> int:
    """CRC-32 of dtype and shape: what must agree on all ranks of a reduction."""
    return _fingerprint(array.dtype, array.shape)


@functools.lru_cache(maxsize=256)
def _fingerprint(dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
    return zlib.crc32(_describe(dtype, shape))


@functools.lru_cache(maxsize=256)
def _describe(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    if dtype.kind == "V" and dtype.names is None and hasattr(ml_dtypes, dtype.name):
        return json.dumps((("ml", dtype.name), shape)).encode()
    if hasattr(ml_dtypes, dtype.name) and not hasattr(np, dtype.name):
        return json.dumps((("ml", dtype.name), shape)).encode()
    return json.dumps((("np", np.lib.format.dtype_to_descr(dtype)), shape)).encode()


def _as_descr(field_or_list: Any) -> Any:
    """NumPy's description of a dtype, whose fields are tuples, from JSON, which has lists only."""
    if not isinstance(field_or_list, list):
        return field_or_list
    return [
        (tuple(name) if isinstance(name, list) else name, _as_descr(kind), *map(tuple, shape))
        for name, kind, *shape in field_or_list
    ]


def _aligned(description: bytes) -> bytes:
    """Padded so that memory which follows it (and an 8-byte length) is aligned."""
    return description.ljust(-(-(len(description) + 8) // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES - 8)
