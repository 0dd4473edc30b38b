"""A dataset: one `.pt` file, or a folder of them in natural order (2.pt before 10.pt)."""

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from skyfan import store
from skyfan.errors import DatasetError
from skyfan.formats.rows import read_rows
from skyfan.formats.torch import open_tensorfile
from skyfan.layout import FileLayout

MAX_FILES = 100_000
SUFFIX = ".pt"
# Reading a header is a few small requests, so it waits on the network, not on the processor.
HEADER_READERS = 16


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
        return {
            name: np.concatenate([read_rows(file, name, lo, hi) for file, lo, hi in spans])
            for name in names or self.names
        }


def open_dataset(uri: str) -> Dataset:
    """The dataset at a path or URI, a `.pt` file or a folder of them; reads metadata only.

    Raises:
        DatasetError: there is none, or its files do not hold the same tensors.
        LocationError: a file cannot be read.
    """
    return Dataset(uri, read_layouts(uri))


def dataset_files(dataset: str) -> list[str]:
    """URIs of the dataset's files; a file that is named itself need not end in `.pt`."""
    if dataset.endswith(SUFFIX) or store.exists(dataset):
        return [dataset]
    found = sorted((entry.uri for entry in store.list(dataset) if entry.uri.endswith(SUFFIX)), key=natural_order)
    if not found:
        raise DatasetError(f"{dataset} is neither a .pt file nor a folder with .pt files in it; check --dataset.")
    folders = {uri.rsplit("/", 1)[0] for uri in found}
    if len(folders) > 1:
        # Such a tree often holds the same data cut in several sizes, and then every sample would count twice.
        raise DatasetError(
            f"{dataset} holds .pt files in {len(folders)} folders ({', '.join(sorted(folders)[:3])}); name one of them."
        )
    if len(found) > MAX_FILES:
        raise DatasetError(f"{dataset} holds {len(found)} files, more than the {MAX_FILES} that one run takes.")
    return found


def natural_order(uri: str) -> list[tuple[int, str]]:
    """Sort key by which numbers in names count as numbers."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", uri)]


def read_layouts(dataset: str) -> tuple[FileLayout, ...]:
    """Layouts of all files; they must hold the same tensors, or a rank would fail long after the start."""
    uris = dataset_files(dataset)
    with ThreadPoolExecutor(min(HEADER_READERS, len(uris))) as readers:
        files = tuple(readers.map(open_tensorfile, uris))
    first = _signature(files[0])
    for file in files[1:]:
        if _signature(file) != first:
            raise DatasetError(
                f"{file.uri} holds other tensors than {files[0].uri} ({_signature(file)}, not {first}); "
                "put files of one kind into one folder."
            )
    return files


def _signature(file: FileLayout) -> str:
    return ", ".join(f"{spec.name} {spec.dtype} {list(spec.row_shape)}" for spec in file.tensors)
