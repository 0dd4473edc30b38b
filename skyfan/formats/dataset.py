"""A dataset: one file, or a folder of files of one format in natural order (2.pt before 10.pt)."""

import contextlib
import queue
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from skyfan import store
from skyfan.columns import ColumnOptions
from skyfan.errors import DatasetError
from skyfan.formats.mapping import mapped
from skyfan.formats.registry import FORMATS, is_data, open_file, suffix_of
from skyfan.formats.rows import read_batch
from skyfan.layout import FileLayout

MAX_FILES = 100_000
# Reading a header is a few small requests, so it waits on the network, not on the processor.
HEADER_READERS = 16
# What the only array of a file is called, and up to how many of its first dimension are taken for an image's bands.
_UNNAMED = ("0", "data")
MAX_BANDS = 10
_SIGN_OF_LIFE_S = 1.0
# https://www.ivoa.net/documents/Notes/HATS: dataset/Norder=4/Dir=0/Npix=7.parquet, or a folder of that name.
_HATS_PARTITION = re.compile(r"/Norder=[0-9]+/Dir=[0-9]+/Npix=[0-9]+(/[^/]+)?\.parquet$")

Beside = Callable[[FileLayout], FileLayout]
"""Gives a file the columns that a catalogue has of its rows."""
Advance = Callable[[int, int | None], None]
"""Called with how many files are found or read, and of how many: None while they are still being listed."""


@dataclass(frozen=True)
class Dataset:
    """The files of a dataset; samples are numbered through all of them in order."""

    uri: str
    files: tuple[FileLayout, ...]

    @property
    def samples(self) -> int:
        """Number of samples."""
        return sum(file.samples for file in self.files)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tensors that every sample has."""
        return self.files[0].names

    def read(self, start: int, stop: int, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """Samples [start, stop) of the named tensors, or of all: name → array [stop − start, *row_shape].

        Raises:
            DatasetError: there are no such samples or tensors.

        >>> skyfan.open_dataset("sky.pt").read(0, 10)["image"].shape
        (10, 5, 32, 32)
        """
        if not 0 <= start <= stop <= self.samples:
            raise DatasetError(f"{self.uri} has samples 0 to {self.samples}, not [{start}, {stop}).")
        spans, first = [], 0
        for file in self.files:
            inside = max(0, start - first), min(file.samples, stop - first)
            if inside[0] < inside[1]:
                spans.append((file, *inside))
            first += file.samples
        spans = spans or [(self.files[0], 0, 0)]
        wanted = names or self.names
        parts = [
            read_batch(file.uri, [file.tensor(name) for name in wanted], lo, hi, etag=file.etag)
            for file, lo, hi in spans
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in wanted}


def open_dataset(uri: str) -> Dataset:
    """The dataset at a path or URI, a file or a folder of them; reads metadata only.

    Raises:
        DatasetError: there is none, or its files do not hold the same tensors.
        LocationError: a file cannot be read.

    >>> skyfan.open_dataset("sky.pt").names
    ('image', 'magnitude', 'redshift')
    """
    return Dataset(uri, read_layouts(uri))


def dataset_files(dataset: str, advance: Advance | None = None) -> list[str]:
    """URIs of the dataset's files, by name with numbers as numbers; a file named itself may have any suffix.

    A folder is listed before anything is asked of it as an object: S3 answers that with 403, not 404, to callers who
    may list under a prefix only.

    Raises:
        DatasetError: there are none, or too many, they lie in several folders, or an entry of the folder that would
            be data cannot be read (a link to nothing, a linked folder, a FIFO, a folder called like a file).
        LocationError: the store cannot be read.
    """
    if is_data(dataset):
        return [dataset]
    found = _of_one_format(dataset, sorted(_data_files(dataset, advance), key=natural_order))
    if not found and store.exists(dataset):
        return [dataset]
    if not found and (path := store.local_path(dataset)) is not None and not path.exists():
        raise DatasetError(f"{path} does not exist; check the path.")
    if not found:
        raise DatasetError(
            f"{dataset} is neither a dataset file nor a folder with any in it ({', '.join(FORMATS)}); check --dataset."
        )
    folders = {uri.rsplit("/", 1)[0] for uri in found}
    if len(folders) > 1 and not all(_HATS_PARTITION.search(uri) for uri in found):
        # Such a tree often holds the same data cut in several sizes, and then every sample would count twice.
        raise DatasetError(
            f"{dataset} holds {suffix_of(found[0])} files in {len(folders)} folders "
            f"({', '.join(sorted(folders)[:3])}); name one of them."
        )
    return found


def _of_one_format(dataset: str, uris: list[str]) -> list[str]:
    """A HATS catalogue's partitions, or the `.pt` files, whatever lies beside them; else all, of one format."""
    for chosen in (
        [uri for uri in uris if _HATS_PARTITION.search(uri)],
        [uri for uri in uris if FORMATS[suffix_of(uri)] == "torch"],
    ):
        if chosen:
            return chosen
    formats = Counter(FORMATS[suffix_of(uri)] for uri in uris)
    if len(formats) > 1:
        listed = ", ".join(f"{count} {name}" for name, count in formats.items())
        raise DatasetError(f"{dataset} holds files of several formats ({listed}); put files of one into one folder.")
    return uris


def _data_files(dataset: str, advance: Advance | None) -> Iterator[str]:
    count = 0
    for entry in store.list(dataset, _refuse_if_data):
        if not is_data(entry.uri):
            continue
        name = entry.uri.rsplit("/", 1)[-1]
        if name.startswith("._"):
            raise DatasetError(f"{entry.uri} is a note of macOS beside a file, not data; remove it (dot_clean FOLDER).")
        count += 1
        if count > MAX_FILES:
            raise DatasetError(f"{dataset} holds more than the {MAX_FILES} files that one run takes.")
        if advance and not count % 1000:
            advance(count, None)
        yield entry.uri


def _refuse_if_data(path: str, kind: str) -> None:
    """Whatever could be data is read or refused; the rest of a folder is the user's."""
    if kind == store.LINKED_FOLDER:
        raise DatasetError(f"{path} is {kind}, which is not followed; name that folder, or remove the link.")
    if not is_data(path):
        return
    if kind == store.DANGLING_LINK:
        raise DatasetError(f"{path} is {kind}; fetch the file (git annex get, a restore), or remove the link.")
    raise DatasetError(f"{path} is not a file but {kind}; move it out of the dataset's folder.")


def natural_order(uri: str) -> tuple[list[tuple[int, str]], str]:
    """Sort key by which numbers in names count as numbers; names that are then equal (1, 01) as they are written."""
    parts = re.split(r"([0-9]+)", uri)
    return [(int(part), "") if number % 2 else (-1, part) for number, part in enumerate(parts)], uri


def read_layouts(
    dataset: str,
    advance: Advance | None = None,
    columns: ColumnOptions | None = None,
    beside: Beside | None = None,
) -> tuple[FileLayout, ...]:
    """Layouts of all files; they must hold the same tensors, or a rank would fail long after the start.

    `columns` tells how a job means them. `advance` is called at least every second while files are opened, also where
    none answers.

    Raises:
        DatasetError: there are no files, or not of one kind, or one of them is no dataset.
        LocationError: a file cannot be read.
    """
    uris = dataset_files(dataset, advance)
    files = _opened(uris, advance)
    _refuse_objects(dataset, files)
    first = _signature(files[0])
    for file in files[1:]:
        if _signature(file) != first:
            raise DatasetError(
                f"{file.uri} holds other tensors than {files[0].uri} ({_signature(file)}, not {first}); "
                "put files of one kind into one folder."
            )
    if beside:
        files = tuple(map(beside, files))
    return tuple(mapped(file, columns) for file in files) if columns else files


def _refuse_objects(dataset: str, files: Sequence[FileLayout]) -> None:
    """A folder with a file for every object: dimension 0 of such a file is bands or lines of an image, not samples."""
    if len(files) < 2 or any(len(file.tensors) > 1 for file in files):
        return
    form, shapes = files[0].format, {file.tensors[0].shape for file in files}
    shape = files[0].tensors[0].shape
    unnamed = all(file.names[0] in _UNNAMED for file in files)
    if (
        (len(shapes) == 1 and len(shape) == 3 and shape[0] <= MAX_BANDS and (unnamed or form == "fits"))
        or (form == "fits" and any(len(shape) < 3 for shape in shapes))
        or (form == "npy" and (any(shape[0] < 2 for shape in shapes) or len({shape[1:] for shape in shapes}) > 1))
    ):
        raise DatasetError(
            f"{dataset} seems to hold one object a file ({files[0].uri} holds {list(shape)}); make one dataset of all: "
            f"skyfan data pack {dataset} OUT."
        )


def first_layout(
    dataset: str, columns: ColumnOptions, advance: Advance | None = None, beside: Beside | None = None
) -> FileLayout:
    """The layout of the dataset's first file as a job means its columns: enough to see whether a model fits.

    Raises:
        DatasetError: there is none, or it is no dataset.
        LocationError: it cannot be read.
    """
    files = [open_file(uri) for uri in dataset_files(dataset, advance)[:2]]
    _refuse_objects(dataset, files)
    return mapped(beside(files[0]) if beside else files[0], columns)


def _opened(uris: list[str], advance: Advance | None) -> tuple[FileLayout, ...]:
    """All files' layouts in the order given; the first error ends it, without waiting for other files."""
    readers = ThreadPoolExecutor(min(HEADER_READERS, len(uris)), "skyfan-headers")
    try:
        asked = [readers.submit(open_file, uri) for uri in uris]
        done: queue.SimpleQueue[Future[FileLayout]] = queue.SimpleQueue()
        for future in asked:
            future.add_done_callback(done.put)
        count = 0
        while count < len(uris):
            with contextlib.suppress(queue.Empty):
                done.get(timeout=_SIGN_OF_LIFE_S).result()
                count += 1
            if advance:
                advance(count, len(uris))
        return tuple(future.result() for future in asked)
    finally:
        readers.shutdown(wait=False, cancel_futures=True)


def _signature(file: FileLayout) -> str:
    return ", ".join(f"{spec.name} {spec.dtype} {list(spec.row_shape)}" for spec in file.tensors)
