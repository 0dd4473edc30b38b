"""What a dataset holds: shapes, ranges, values that are no numbers, samples that are there twice."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from skyfan.curation._blocks import Progress, blocks, digests, numbers, repeats
from skyfan.formats.torch import open_tensorfile
from skyfan.layout import FileLayout, TensorSpec
from skyfan.store import StrPath


class TensorReport(BaseModel):
    """One tensor. Minimum, maximum and mean are over its finite values; None where there are none."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    minimum: float | None
    maximum: float | None
    mean: float | None
    nan_values: int
    infinite_values: int
    samples_with_nonfinite: int


class DatasetReport(BaseModel):
    """A whole file. A duplicate is a sample whose bytes, in all tensors, an earlier sample has too."""

    uri: str
    size_bytes: int
    samples: int
    tensors: list[TensorReport]
    duplicates: int
    first_duplicates: list[int]


_DUPLICATES_LISTED = 20


def inspect(uri: StrPath, progress: Progress | None = None) -> DatasetReport:
    """Read the `.pt` dataset at `uri` once, block by block.

    Raises `DatasetError` or `LocationError` as `open_tensorfile` does.
    """
    file = open_tensorfile(uri)
    tallies = {spec.name: _Tally(spec) for spec in file.tensors}
    seen = [np.empty(0, dtype="V16")]
    for block in blocks(file):
        for name, rows in block.rows.items():
            tallies[name].add(rows)
        seen.append(digests(block))
        if progress:
            progress(block.stop, file.samples)
    return _report(file, tallies, repeats(np.concatenate(seen)))


def _report(file: FileLayout, tallies: Mapping[str, "_Tally"], repeated: NDArray[np.int64]) -> DatasetReport:
    return DatasetReport(
        uri=file.uri,
        size_bytes=file.size_bytes,
        samples=file.samples,
        tensors=[tally.report() for tally in tallies.values()],
        duplicates=len(repeated),
        first_duplicates=repeated[:_DUPLICATES_LISTED].tolist(),
    )


class _Tally:
    """Running figures of one tensor."""

    def __init__(self, spec: TensorSpec) -> None:
        self._spec = spec
        self._minimum = np.inf
        self._maximum = -np.inf
        self._sum = 0.0
        self._finite = self._nan = self._infinite = self._samples = 0

    def add(self, rows: NDArray[np.generic]) -> None:
        values = numbers(rows)
        finite = np.isfinite(values)
        good = values[finite]
        if good.size:
            self._minimum = min(self._minimum, float(good.min()))
            self._maximum = max(self._maximum, float(good.max()))
            self._sum += float(good.sum(dtype=np.float64))
        nan_values = int(np.isnan(values).sum())
        self._finite += good.size
        self._nan += nan_values
        self._infinite += values.size - good.size - nan_values
        self._samples += int((~finite.all(axis=1)).sum())

    def report(self) -> TensorReport:
        known = self._finite > 0
        return TensorReport(
            name=self._spec.name,
            dtype=self._spec.dtype,
            shape=tuple(self._spec.shape),
            minimum=self._minimum if known else None,
            maximum=self._maximum if known else None,
            mean=self._sum / self._finite if known else None,
            nan_values=self._nan,
            infinite_values=self._infinite,
            samples_with_nonfinite=self._samples,
        )
