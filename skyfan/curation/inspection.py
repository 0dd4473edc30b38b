"""Reports what a dataset holds: shapes, ranges, NaN, infinities, sentinels and repeated samples."""

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from skyfan.curation.sample_blocks import blocks, digests, repeats
from skyfan.events import Progress, unwatched
from skyfan.formats.registry import open_file
from skyfan.formats.row_values import real_values
from skyfan.layout import TensorSpec
from skyfan.science.sentinels import sentinels
from skyfan.store import StrPath


class TensorReport(BaseModel):
    """One tensor.

    `sentinel_values` counts values that mean "not measured" (`skyfan.science.sentinels`). Minimum, maximum and mean are
    over the other finite values; None where there are none.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    minimum: float | None
    maximum: float | None
    mean: float | None
    nan_values: int
    infinite_values: int
    sentinel_values: int
    samples_with_nonfinite: int


class DatasetReport(BaseModel):
    """A whole file. A duplicate is a sample that equals an earlier one, byte by byte in all tensors.

    `skipped` names what lies in the file beside tensors and is not read; `note` is what it says of its data.
    """

    uri: str
    size_bytes: int
    samples: int
    tensors: list[TensorReport]
    duplicates: int
    first_duplicates: list[int]
    skipped: list[str]
    note: str = ""


_DUPLICATES_LISTED = 20


def inspect(uri: StrPath, progress: Progress = unwatched) -> DatasetReport:
    """Reads the dataset at `uri` (a path or URI) once, block by block; `progress` counts samples.

    Raises:
        DatasetError: the file is not a dataset.
        LocationError: the file cannot be read.
    """
    file = open_file(uri)
    tallies = {spec.name: _Tally(spec) for spec in file.tensors}
    seen = [np.empty(0, dtype="V16")]
    for block in blocks(file):
        for name, rows in block.rows.items():
            tallies[name].add(rows)
        seen.append(digests(block))
        progress(block.stop, file.samples)
    repeated = repeats(np.concatenate(seen))
    return DatasetReport(
        uri=file.uri,
        size_bytes=file.size_bytes,
        samples=file.samples,
        tensors=[tally.report() for tally in tallies.values()],
        duplicates=len(repeated),
        first_duplicates=repeated[:_DUPLICATES_LISTED].tolist(),
        skipped=list(file.left_out),
        note=file.note,
    )


class _Tally:
    """Running figures of one tensor."""

    def __init__(self, spec: TensorSpec) -> None:
        self._spec = spec
        self._minimum = np.inf
        self._maximum = -np.inf
        self._sum = 0.0
        self._known = self._nan = self._infinite = self._sentinels = self._samples = 0

    def add(self, rows: NDArray[np.generic]) -> None:
        values = real_values(rows)
        finite, sentinel = np.isfinite(values), sentinels(self._spec.name, values)
        good = values[finite & ~sentinel]
        if good.size:
            self._minimum = min(self._minimum, float(good.min()))
            self._maximum = max(self._maximum, float(good.max()))
            self._sum += float(good.sum(dtype=np.float64))
        self._known += good.size
        self._nan += int(np.isnan(values).sum())
        self._infinite += int(np.isinf(values).sum())
        self._sentinels += int(sentinel.sum())
        self._samples += int((~finite.all(axis=1)).sum())

    def report(self) -> TensorReport:
        known = self._known > 0
        return TensorReport(
            name=self._spec.name,
            dtype=self._spec.dtype,
            shape=tuple(self._spec.shape),
            minimum=self._minimum if known else None,
            maximum=self._maximum if known else None,
            mean=self._sum / self._known if known else None,
            nan_values=self._nan,
            infinite_values=self._infinite,
            sentinel_values=self._sentinels,
            samples_with_nonfinite=self._samples,
        )
