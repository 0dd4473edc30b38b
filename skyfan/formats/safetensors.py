"""`.safetensors`: a JSON header of names, dtypes, shapes and byte ranges, then the values.

Source of the format: https://github.com/huggingface/safetensors#format.
"""

import itertools
import json
import struct

from skyfan import store
from skyfan.dtypes import SAFETENSORS_DTYPES, numpy_dtype
from skyfan.formats.base import MAX_COLUMNS, column, layout, refusal
from skyfan.formats.notes import NOTE_KEY, as_note
from skyfan.layout import FileLayout, TensorSpec

_MAX_HEADER_BYTES = 16 * 2**20
_FIRST_BYTES = 16 * 2**10
_LENGTH = struct.Struct("<Q")


def open_file(uri: store.StrPath) -> FileLayout:
    """Columns by the names of the tensors, in the file's order.

    Raises:
        DatasetError: it is no such file, or its tensors do not have equally many rows.
    """
    info = store.head(uri)
    header, start = _header(info)
    described = {name: entry for name, entry in header.items() if name != "__metadata__"}
    if len(described) > MAX_COLUMNS:
        raise refusal(info.uri, f"has {len(described)} tensors; at most {MAX_COLUMNS} are read")
    columns = sorted(
        (_column(info.uri, name, entry, start) for name, entry in described.items()),
        key=lambda spec: spec.offset_bytes,
    )
    for first, second in itertools.pairwise(columns):
        if first.end_bytes > second.offset_bytes:
            raise refusal(info.uri, f"is damaged: its tensors {first.name!r} and {second.name!r} overlap")
    about = header.get("__metadata__")
    note = as_note(about.get(NOTE_KEY)) if isinstance(about, dict) else ""
    return layout(info, "safetensors", columns, json.dumps(header, sort_keys=True).encode(), note=note)


def _header(info: store.ObjectInfo) -> tuple[dict[str, object], int]:
    """The header, and where the values begin."""
    head = store.read_range(info.uri, 0, min(_FIRST_BYTES, info.size_bytes), etag=info.etag)
    length_bytes = _LENGTH.unpack_from(head)[0] if len(head) >= _LENGTH.size else 0
    stop = _LENGTH.size + length_bytes
    if not 2 <= length_bytes <= _MAX_HEADER_BYTES or stop > info.size_bytes:
        raise refusal(info.uri, "is not a .safetensors file, or is damaged or truncated; copy it again")
    if stop > len(head):
        head = store.read_range(info.uri, 0, stop, etag=info.etag)
    try:
        found = json.loads(head[_LENGTH.size : stop], object_pairs_hook=_of_one_name)
    except (ValueError, RecursionError) as error:
        raise refusal(info.uri, "is not a .safetensors file: its header is no JSON, or names a tensor twice") from error
    if not isinstance(found, dict):
        raise refusal(info.uri, "is not a .safetensors file: its header is no object")
    return found, stop


def _of_one_name(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object; of two members of one name json keeps the last without a word."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("two members of one name")
    return found


def _column(uri: str, name: str, entry: object, start: int) -> TensorSpec:
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [int(first), int(last)]}:
            pass
        case _:
            raise refusal(uri, f"is damaged: its header describes the tensor {name[:60]!r} in another way")
    if not all(type(size) is int and 0 <= size < 2**62 for size in (*shape, first, last)):
        raise refusal(uri, f"is damaged: the tensor {name[:60]!r} has an impossible shape or offset")
    if dtype not in SAFETENSORS_DTYPES:
        raise refusal(uri, f"has a tensor {name[:60]!r} of type {dtype[:20]!r}; save it as numbers")
    spec = column(uri, name, numpy_dtype(SAFETENSORS_DTYPES[dtype]), shape, start + first)
    if spec.offset_bytes + spec.samples * spec.row_bytes != start + last:
        raise refusal(uri, f"is damaged: the tensor {name[:60]!r} has {last - first} bytes, which its shape has not")
    return spec
