"""Runs `hdf5_describing` in a confined child and serves it the file's bytes through a socket."""

import importlib.util
import json
import socket
import threading
from collections.abc import Sequence
from typing import Any

from skyfan import store
from skyfan.errors import DatasetError, SkyfanError
from skyfan.formats.base import refusal
from skyfan.formats.hdf5_describing import REQUEST
from skyfan.formats.notes import MAX_NOTE_BYTES, NOTE_KEY
from skyfan.sandbox import ChildDied, Limits, run_in_child

_LIMITS = Limits(deadline_s=120, memory_bytes=4 * 2**30)
_MAX_REQUEST_BYTES = 2**20
_NOTE = (NOTE_KEY, MAX_NOTE_BYTES)


def described(info: store.ObjectInfo, chunks: Sequence[str] = (), stats: store.ReadStats | None = None) -> Any:
    """The datasets and the note of a file as `hdf5_describing.describe` tells of them.

    Raises:
        DatasetError: h5py is not installed, the file cannot be read, or describing it did not end well.
        store.PreconditionFailed: the file has changed.
    """
    if importlib.util.find_spec("h5py") is None:
        raise DatasetError(f"{info.uri} is HDF5, for which h5py is needed: pip install 'skyfan[formats]'.")
    ours, theirs = socket.socketpair()
    failures: list[SkyfanError] = []
    server = threading.Thread(target=_serve, args=(ours, info, stats, failures), name="skyfan-hdf5", daemon=True)
    with ours, theirs:
        request = {"fd": theirs.fileno(), "size_bytes": info.size_bytes, "chunks": list(chunks), "note": _NOTE}
        server.start()
        try:
            found = run_in_child(
                "skyfan.formats.hdf5_describing:describe", json.dumps(request).encode(), _LIMITS, [theirs.fileno()]
            )
        except ChildDied as error:
            if failures:
                raise failures[0] from error
            raise refusal(info.uri, f"is damaged: reading what it holds {error}") from error
        finally:
            theirs.close()
            server.join()
    if "refused" in found:
        raise refusal(info.uri, found["refused"])
    return found


def _serve(
    stream: socket.socket, info: store.ObjectInfo, stats: store.ReadStats | None, failures: list[SkyfanError]
) -> None:
    """Answers requests for byte ranges until the other end is closed, or one cannot be read."""
    try:
        while request := _received(stream):
            start, stop = REQUEST.unpack(request)
            if not start <= stop <= min(info.size_bytes, start + _MAX_REQUEST_BYTES):
                return
            stream.sendall(store.read_range(info.uri, start, stop, etag=info.etag, stats=stats))
    except SkyfanError as error:
        failures.append(error)
    except OSError:
        return  # the child is gone, which its end tells
    finally:
        stream.shutdown(socket.SHUT_RDWR)


def _received(stream: socket.socket) -> bytes:
    data = b""
    while len(data) < REQUEST.size:
        part = stream.recv(REQUEST.size - len(data))
        if not part:
            return b""
        data += part
    return data
