"""Opens an HDF5 file: columns of the datasets that have one row a sample."""

import json
import math
from typing import Any

import numpy as np

from skyfan import store
from skyfan.formats.base import MAX_DECODED_BYTES, column, layout, refusal
from skyfan.formats.hdf5._serving import described
from skyfan.formats.notes import as_note
from skyfan.layout import FileLayout, TensorSpec

DEFLATE, SHUFFLE, FLETCHER32 = 1, 2, 3
_OTHERS = {4: "szip", 5: "nbit", 6: "scaleoffset", 32000: "LZF", 32001: "Blosc", 32004: "LZ4", 32015: "Zstandard"}


def open_file(uri: store.StrPath) -> FileLayout:
    """Columns by the datasets' paths (`image`, `survey/flux`); a table's fields by `path.field`.

    Those that have another number of rows than the largest dataset are left out, as are scalars and text of no fixed
    length.

    Raises:
        DatasetError: it is no HDF5 file, keeps values in other files, or compresses them by a filter not known here.
    """
    info = store.head(uri)
    described_file = described(info)
    everything = described_file["datasets"]
    found = [one for one in everything if one["shape"] and one["dtype"] != "O"]
    largest = max(found, key=lambda one: math.prod(one["shape"]) * one["itemsize"], default=None)
    columns: list[TensorSpec] = []
    for one in found:
        if largest is not None and one["shape"][0] == largest["shape"][0]:
            columns += _columns(info.uri, one)
    held = {spec.name for spec in columns}
    left_out = [
        f"{one['name']} ({one['dtype']} {list(one['shape'])})"
        for one in everything
        if one["name"] not in held and not any(name.startswith(f"{one['name']}.") for name in held)
    ]
    header, note = json.dumps(found, sort_keys=True).encode(), as_note(described_file["note"])
    return layout(info, "hdf5", columns, header, left_out=left_out, note=note)


def _columns(uri: str, one: dict[str, Any]) -> list[TensorSpec]:
    name, shape, offset = one["name"], tuple(one["shape"]), one["offset"]
    if offset is not None and one["fields"]:
        return [
            column(uri, f"{name}.{field}", np.dtype(kind), (*shape, *rest), offset + at, stride_bytes=one["itemsize"])
            for field, kind, at, rest in one["fields"]
        ]
    if one["fields"] or (offset is None and one["chunk"] is None):
        return []  # a table in chunks; values inside the header, or never written
    if offset is not None:
        return [column(uri, name, np.dtype(one["dtype"]), (*shape, *one["row_shape"]), offset)]
    unknown = [number for number in one["filters"] if number not in (DEFLATE, SHUFFLE, FLETCHER32)]
    if unknown:
        kind = _OTHERS.get(unknown[0], f"filter {unknown[0]}")
        raise refusal(
            uri, f"compresses {name} by {kind}, which is not loaded; use gzip: h5repack -f GZIP=4 FILE NEW_FILE"
        )
    spec = column(uri, name, np.dtype(one["dtype"]), shape, storage="hdf5")
    if max(math.prod(one["chunk"]) * spec.itemsize, spec.row_bytes) > MAX_DECODED_BYTES:
        raise refusal(uri, f"has chunks or rows of {name} that are larger than {MAX_DECODED_BYTES // 2**20} MB")
    return [spec]
