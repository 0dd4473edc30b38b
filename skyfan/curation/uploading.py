"""Uploads a file or folder to an object store. Objects appear whole, and a second upload sends only what is missing."""

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from skyfan import store
from skyfan.errors import LocationError
from skyfan.events import Progress, unwatched
from skyfan.formats.identity import sampled_blocks


class UploadReport(BaseModel):
    """The URIs that were written, and those that already held the same content."""

    uploaded: list[str]
    skipped: list[str]
    uploaded_bytes: int


def upload(
    source: str | Path, destination: str, *, force: bool = False, progress: Progress = unwatched
) -> UploadReport:
    """Copies the file `source`, or all files below the folder `source`, to `destination`.

    A file becomes the object `destination`, or an object below it if that ends with "/"; a folder's files keep their
    relative names below it. An object that holds the same content (see `_same`) is skipped unless `force`. `progress`
    counts bytes.

    Raises:
        LocationError: `source` does not exist or holds no files, or `destination` cannot be written.
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

            def advance(sent_bytes: int, before_bytes: int = done_bytes) -> None:
                progress(before_bytes + sent_bytes, total_bytes)

            store.copy_in(path, uri, advance)
            report.uploaded.append(uri)
            report.uploaded_bytes += size_bytes
        done_bytes += size_bytes
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
    """Whether size and 16 blocks of 64 KiB agree, the first and the last among them; small files are compared whole.

    A `.pt` file ends with a ZIP directory of every entry's CRC-32.
    """
    if not store.exists(uri):
        return False
    there, size_bytes = store.head(uri), path.stat().st_size
    return there.size_bytes == size_bytes and sampled_blocks(str(path), size_bytes) == sampled_blocks(
        uri, size_bytes, there.etag
    )
