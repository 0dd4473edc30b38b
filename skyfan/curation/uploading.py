"""Bring a file or folder to an object store; interrupted, nothing half-written stays, and again takes the rest up."""

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from skyfan import store
from skyfan.curation._blocks import Progress
from skyfan.errors import LocationError

_EDGE_BYTES = 64 * 2**10


class UploadReport(BaseModel):
    """URIs that were written and URIs that held the same content already."""

    uploaded: list[str]
    skipped: list[str]
    uploaded_bytes: int


def upload(
    source: str | Path, destination: str, *, force: bool = False, progress: Progress | None = None
) -> UploadReport:
    """Copy the file, or all files below the folder, `source` to `destination`.

    A file goes to the object `destination`, or below it where that ends with "/"; a folder's files keep their
    relative names below it. What is there already is skipped (see `_same`) unless `force`. `progress` is called
    with (bytes done, bytes in all). Objects appear only when complete.
    """
    pairs = list(_pairs(Path(source), destination))
    total_bytes = sum(path.stat().st_size for path, _ in pairs)
    report = UploadReport(uploaded=[], skipped=[], uploaded_bytes=0)
    done_bytes = 0
    for path, uri in pairs:
        size_bytes = path.stat().st_size
        if not force and _same(path, uri):
            report.skipped.append(uri)
        else:
            base_bytes = done_bytes
            step = (lambda sent, base=base_bytes: progress(base + sent, total_bytes)) if progress else None
            store.copy_in(path, uri, step)
            report.uploaded.append(uri)
            report.uploaded_bytes += size_bytes
        done_bytes += size_bytes
        if progress:
            progress(done_bytes, total_bytes)
    return report


def _pairs(source: Path, destination: str) -> Iterator[tuple[Path, str]]:
    if source.is_file():
        yield source, store.join(destination, source.name) if destination.endswith("/") else destination
        return
    if not source.is_dir():
        raise LocationError(f"{source} does not exist; name a file or a folder to upload.")
    files = sorted(
        path
        for path in source.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(source).parts)
    )
    if not files:
        raise LocationError(f"{source} holds no files to upload.")
    for path in files:
        yield path, store.join(destination, *path.relative_to(source).parts)


def _same(path: Path, uri: str) -> bool:
    """Same size, same first and last 64 KiB. The end of a `.pt` file is a ZIP directory with every entry's CRC-32."""
    if not store.exists(uri):
        return False
    there, size_bytes = store.head(uri), path.stat().st_size
    if there.size_bytes != size_bytes:
        return False
    edge_bytes = min(_EDGE_BYTES, size_bytes)
    spans = [(start, start + edge_bytes) for start in (0, size_bytes - edge_bytes)]
    return all(store.read_range(str(path), *span) == store.read_range(uri, *span, etag=there.etag) for span in spans)
