"""The dtypes of dataset files: torch's names, numpy's names, and how bytes become arrays.

Storage class names are those of `torch/__init__.py` and `torch/storage.py`; dtypes that numpy lacks come
from ml_dtypes.
"""

import sys
from functools import cache

import numpy as np

STORAGE_DTYPES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexDoubleStorage": "complex128",
    "ComplexFloatStorage": "complex64",
}
"""torch's typed storage classes and the dtype of their elements."""

_EXTENSION_DTYPES = (
    "bfloat16",
    "float8_e4m3fn",
    "float8_e4m3fnuz",
    "float8_e5m2",
    "float8_e5m2fnuz",
    "float8_e8m0fnu",
)
_NUMPY_DTYPES = (
    "bool",
    *("uint8", "uint16", "uint32", "uint64"),
    *("int8", "int16", "int32", "int64"),
    *("float16", "float32", "float64"),
    *("complex64", "complex128"),
)
DTYPES = frozenset((*_NUMPY_DTYPES, *_EXTENSION_DTYPES))
"""Every dtype that can be read and written, by the name that torch and numpy share."""
STRING = "string"
"""Text, one a row: an array of Python's or numpy's strings, None where there is none."""
MAX_STRING_CHARACTERS = 10_000
_TEXT_WORD_BYTES = {"S": 1, "U": 4}

TORCH_ALIASES = {"float": "float32", "double": "float64", "half": "float16", "long": "int64", "int": "int32"}

SAFETENSORS_DTYPES = {
    "BOOL": "bool",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    **{f"{kind}{bits}": f"{name}{bits}" for kind, name in (("U", "uint"), ("I", "int")) for bits in (8, 16, 32, 64)},
    **{f"F{bits}": f"float{bits}" for bits in (16, 32, 64)},
}
"""Names in the headers of safetensors files and the dtypes that they are of."""

UNSUPPORTED_STORAGES = {
    "QInt8Storage": "qint8",
    "QUInt8Storage": "quint8",
    "QInt32Storage": "qint32",
    "QUInt4x2Storage": "quint4x2",
    "QUInt2x4Storage": "quint2x4",
    "ComplexHalfStorage": "complex32",
}
UNSUPPORTED_DTYPES = frozenset(
    (
        *UNSUPPORTED_STORAGES.values(),
        *("float4_e2m1fn_x2", "complex32", "bits8", "bits16", "bits1x8", "bits2x4", "bits4x2"),
        *(f"{kind}{bits}" for kind in ("int", "uint") for bits in range(1, 8)),
    )
)
"""dtypes of torch that neither numpy nor ml_dtypes can hold."""


def is_stored_dtype(name: str) -> bool:
    """Whether values can lie in a file as this: a dtype, or text of fixed length (`S8`: bytes, `U8`: characters)."""
    text = name[:1] in _TEXT_WORD_BYTES and name[1:].isdecimal() and 1 <= int(name[1:6]) <= MAX_STRING_CHARACTERS
    return name in DTYPES or (text and len(name) < 7)


@cache
def numpy_dtype(name: str) -> np.dtype:
    """The numpy dtype of native byte order for a name in `DTYPES`, for `string`, or for text of fixed length (`S8`)."""
    if name == STRING:
        return np.dtype(object)
    if name not in _EXTENSION_DTYPES:
        return np.dtype(name)
    import ml_dtypes

    extension: np.dtype = np.dtype(getattr(ml_dtypes, name))
    return extension


def as_dtype(data: np.ndarray, name: str, byteorder: str) -> np.ndarray:
    """A flat uint8 array as a flat array of dtype `name`; swaps bytes in place where the order is foreign."""
    dtype = numpy_dtype(name)
    word_bytes = dtype.itemsize // 2 if dtype.kind == "c" else _TEXT_WORD_BYTES.get(dtype.kind, dtype.itemsize)
    if byteorder != sys.byteorder and word_bytes > 1:
        data.view(f"u{word_bytes}").byteswap(inplace=True)
    return data.view(dtype)
