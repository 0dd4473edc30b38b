"""In a confined child: what an HDF5 file holds and where, from metadata; its bytes come through a socket.

Beside the package `hdf5` and not in it, so that the child, which is started for each file, imports nothing else.
"""

import io
import json
import os
import socket
import struct
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

REQUEST = struct.Struct(">2Q")
_BLOCK_BYTES = 128 * 2**10
_BLOCKS = 512
_MAX_OBJECTS = 10_000
_MAX_DEPTH = 32
MAX_CHUNKS = 200_000


class _Refused(Exception):
    """The file cannot be read; the message goes on after its name."""


def describe(data: bytes) -> dict[str, Any]:
    """`{"datasets": […], "note"}` of the file that is served, or `{"refused": reason}`; with `chunks`, of those only.

    The request is `{"fd", "size_bytes", "chunks": [names], "note": [attribute, largest size in bytes]}` in JSON.
    """
    os.environ["HDF5_PLUGIN_PRELOAD"] = "::"  # no plug-in is looked for, whatever path is set
    import h5py

    request = json.loads(data)
    with socket.socket(fileno=request["fd"]) as served:
        try:
            with h5py.File(_ServedFile(served, request["size_bytes"]), "r") as file:
                if request["chunks"]:
                    return {"datasets": [_chunks(h5py, file, name) for name in request["chunks"]]}
                datasets = [_dataset(h5py, name, found) for name, found in _walk(h5py, file)]
                return {"datasets": datasets, "note": _note(file, *request["note"])}
        except _Refused as error:
            return {"refused": str(error)}
        except (OSError, RuntimeError, KeyError, ValueError, TypeError, UnicodeError) as error:
            if isinstance(error, ConnectionError):
                raise
            return {"refused": "is not an HDF5 file, or is damaged or truncated; copy it again"}


def _note(file: Any, name: str, largest_bytes: int) -> str:
    """An attribute of the root that is text of fixed length; empty where it is missing, longer or anything else."""
    if name not in file.attrs:
        return ""
    found = file.attrs.get_id(name)
    if found.shape != () or found.dtype.kind != "S" or found.dtype.itemsize > largest_bytes:
        return ""
    return bytes(file.attrs[name]).decode("utf-8", "replace")


def _walk(h5py: Any, file: Any) -> Iterator[tuple[str, Any]]:
    """Name and dataset of each dataset that is in the file itself."""
    waiting: list[tuple[str, Any, int]] = [("", file, 0)]
    seen: set[Any] = set()
    while waiting:
        prefix, group, depth = waiting.pop()
        for name in group:
            kind = group.get(name, getlink=True)
            if isinstance(kind, h5py.ExternalLink):
                raise _Refused(
                    f"has a link to another file ({prefix}{name}), which is not opened; repack it as one file"
                )
            if not isinstance(kind, h5py.HardLink):
                continue
            found = group[name]
            if found.id in seen:
                continue
            if len(seen) > _MAX_OBJECTS or depth > _MAX_DEPTH:
                raise _Refused(f"holds more than {_MAX_OBJECTS} objects, or nests them deeper than {_MAX_DEPTH} levels")
            seen.add(found.id)
            if isinstance(found, h5py.Group):
                waiting.append((f"{prefix}{name}/", found, depth + 1))
            elif isinstance(found, h5py.Dataset):
                yield f"{prefix}{name}", found


def _dataset(h5py: Any, name: str, found: Any) -> dict[str, Any]:
    if found.is_virtual or found.external:
        raise _Refused(f"keeps the values of {name} in other files, which are not opened; repack it as one file")
    plist = found.id.get_create_plist()
    kind = found.dtype
    fields = [
        [field, kind.fields[field][0].base.str, kind.fields[field][1], kind.fields[field][0].shape]
        for field in kind.names or ()
    ]
    references = h5py.check_dtype(ref=kind) is not None or h5py.check_vlen_dtype(kind) is not None
    return {
        "name": name,
        "shape": found.shape,
        "dtype": "O" if references or kind.hasobject else kind.base.str if kind.kind != "b" else "|b1",
        "fields": fields,
        "itemsize": kind.itemsize,
        "row_shape": kind.shape,
        "offset": found.id.get_offset() if plist.get_layout() == h5py.h5d.CONTIGUOUS else None,
        "chunk": found.chunks,
        "filters": [plist.get_filter(number)[0] for number in range(plist.get_nfilters())],
    }


def _chunks(h5py: Any, file: Any, name: str) -> dict[str, Any]:
    """The dataset with `index`: for each chunk its first element's place, byte offset, size and skipped filters."""
    found = file[name]
    index: list[tuple[Any, ...]] = []

    def add(chunk: Any) -> None:
        if len(index) == MAX_CHUNKS:
            raise _Refused(f"has more than {MAX_CHUNKS} chunks in {name}; write it again with larger ones")
        index.append((*chunk.chunk_offset, chunk.byte_offset, chunk.size, chunk.filter_mask))

    found.id.chunk_iter(add)
    fill = "" if found.fillvalue is None else found.fillvalue.tobytes().hex()
    return {**_dataset(h5py, name, found), "index": index, "fill": fill}


class _ServedFile(io.RawIOBase):
    """The file behind the socket, in blocks that are kept."""

    def __init__(self, served: socket.socket, size_bytes: int) -> None:
        super().__init__()
        self._stream = served.makefile("rwb")
        self._size_bytes, self._position = size_bytes, 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size_bytes}[whence] + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view, done = memoryview(buffer).cast("B"), 0
        while done < len(view) and self._position < self._size_bytes:
            number, inside = divmod(self._position, _BLOCK_BYTES)
            part = self._block(number)[inside : inside + len(view) - done]
            view[done : done + len(part)] = part
            done += len(part)
            self._position += len(part)
        return done

    def _block(self, number: int) -> bytes:
        if number not in self._blocks:
            start = number * _BLOCK_BYTES
            stop = min(start + _BLOCK_BYTES, self._size_bytes)
            self._stream.write(REQUEST.pack(start, stop))
            self._stream.flush()
            block = self._stream.read(stop - start)
            if len(block) < stop - start:
                raise ConnectionError("the file is served no longer")
            while len(self._blocks) >= _BLOCKS:
                self._blocks.popitem(last=False)
            self._blocks[number] = block
        self._blocks.move_to_end(number)
        return self._blocks[number]
