"""The galaxies of a run whose redshift is known, with cut-outs and magnitudes of some of them from the dataset.

A dataset can be too large for one process to read, and can be gone or changed when a report is written. So cut-outs
are read of a few dozen galaxies and magnitudes of a bounded number, by byte ranges that the plan names. Where they
cannot be read, the page gives the reason and shows everything else.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Self, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from skyfan.columns import IN_TRAINING
from skyfan.errors import SkyfanError
from skyfan.formats.rows import read_batch
from skyfan.layout import FileLayout, TensorSpec
from skyfan.planning import Plan
from skyfan.report.shown_rows import ShownRow
from skyfan.science.metrics import delta_z
from skyfan.science.quality import SCORES, Labelled
from skyfan.science.sentinels import known_redshifts, sentinels

T = TypeVar("T")
R = TypeVar("R")

MAX_SHOWN = 1_000_000
MAX_CUTOUTS = 24
MAX_MAGNITUDES = 50_000
MAX_MAGNITUDE_READS = 64
# A larger cut-out shows more than one galaxy, and would make the page heavy.
MAX_CUTOUT_BYTES = 2**20
_READERS = 8
_SHOWN_TYPES = {"sample_index": pa.int64(), "z_pred": pa.float64(), "z_spec": pa.float64()}
SHOWN_COLUMNS = (*_SHOWN_TYPES, *SCORES, IN_TRAINING)
"""Of the results, those that the page shows."""
# The reference layout's bands are u g r i z.
R_BAND = 2


class Galaxies(Labelled):
    """Galaxies with a prediction and a spectroscopic redshift, in dataset order."""

    def to_table(self) -> pa.Table:
        """As rows of these columns."""
        return pa.table({"sample_index": self.index, "z_pred": self.z_pred, "z_spec": self.z_spec, **self.scores})

    @cached_property
    def residual(self) -> NDArray[np.float64]:
        """Δz = (z_pred − z_spec) / (1 + z_spec), shape [N]."""
        return delta_z(self.z_pred, self.z_spec)


class RedshiftSample:
    """What the page shows of a run's redshifts, taken rank by rank in dataset order, in bounded memory.

    It is every row of a run of up to `MAX_SHOWN` samples; of a larger one rows at equal distances, and the
    `MAX_CUTOUTS` galaxies with the largest |Δz| of all.
    """

    def __init__(self, samples: int) -> None:
        self._step = max(1, -(-samples // MAX_SHOWN))
        self._tables: list[pa.Table] = []
        self._worst = pa.table({name: pa.array([], kind) for name, kind in _SHOWN_TYPES.items()})

    @classmethod
    def of(cls, predictions: pa.Table) -> Self:
        """Of one table that holds the whole run."""
        sample = cls(len(predictions))
        sample.add(predictions)
        return sample

    def add(self, predictions: pa.Table) -> None:
        """The rows of the next rank."""
        names = [name for name in SHOWN_COLUMNS if name in predictions.column_names]
        if "z_pred" not in names:
            return
        self.__dict__.pop("galaxies", None)
        rows = predictions.select(names).replace_schema_metadata(None)
        if self._step == 1:
            self._tables.append(rows)
            return
        self._tables.append(rows.filter(rows["sample_index"].to_numpy() % self._step == 0))
        known = known_galaxies(rows)
        if known is not None:
            found = pa.concat_tables([self._worst, known.to_table()], promote_options="default")
            residual = np.abs(delta_z(found["z_pred"].to_numpy(), found["z_spec"].to_numpy()))
            self._worst = found.take(np.argsort(-residual, kind="stable")[:MAX_CUTOUTS])

    @cached_property
    def galaxies(self) -> Galaxies | None:
        """The galaxies whose redshift is known; None if there is none."""
        shown = [known for table in self._tables if (known := known_galaxies(table)) is not None]
        return _joined([*(one.to_table() for one in shown), self._worst])

    @property
    def z_pred(self) -> NDArray[np.float64]:
        """Predicted redshifts, shape [N]; those that are missing are left out."""
        found = [table["z_pred"].drop_null().to_numpy().astype(np.float64) for table in self._tables]
        return np.concatenate([np.empty(0), *found])


def _joined(tables: Sequence[pa.Table]) -> Galaxies | None:
    """Each galaxy once, in dataset order."""
    rows = pa.concat_tables(tables, promote_options="default")
    index, first = np.unique(rows["sample_index"].to_numpy(), return_index=True)
    if not len(index):
        return None
    columns = {name: rows[name].to_numpy()[first] for name in rows.column_names[1:]}
    return Galaxies(index, columns.pop("z_pred"), columns.pop("z_spec"), columns)


@dataclass(frozen=True)
class Outlier:
    """One of the galaxies with the largest |Δz|, or with the most unusual embedding (`distance`).

    `cutout` has shape [bands, height, width].
    """

    index: int
    r_magnitude: float | None = None
    cutout: NDArray[np.floating] | None = None
    z_pred: float | None = None
    z_spec: float | None = None
    residual: float | None = None
    distance: float | None = None


@dataclass(frozen=True)
class Observed:
    """What was read from the dataset: the outliers, and magnitudes [M, bands] of the galaxies in `rows` of `Galaxies`.

    `note` explains why nothing could be read. `rows_of` has, by sample index, what the results hold of the outliers.
    """

    outliers: tuple[Outlier, ...] = ()
    rows: NDArray[np.int64] | None = None
    magnitudes: NDArray[np.float64] | None = None
    note: str = ""
    rows_of: Mapping[int, ShownRow] = field(default_factory=dict)

    @property
    def r_magnitude(self) -> NDArray[np.float64] | None:
        """Shape [M]."""
        return None if self.magnitudes is None else self.magnitudes[:, R_BAND]


def known_galaxies(predictions: pa.Table | None) -> Galaxies | None:
    """The galaxies whose predicted and spectroscopic redshift are both known; None if there is none."""
    if predictions is None or not {"z_pred", "z_spec"} <= set(predictions.column_names):
        return None
    names = [name for name in SHOWN_COLUMNS if name in predictions.column_names]
    rows = predictions.select(names).drop_null()
    z_spec = known_redshifts(rows["z_spec"].to_numpy())
    known = np.isfinite(z_spec)
    if not known.any():
        return None
    z_pred = rows["z_pred"].to_numpy().astype(np.float64)
    scores = {name: rows[name].to_numpy()[known] for name in names if name not in _SHOWN_TYPES}
    return Galaxies(rows["sample_index"].to_numpy()[known], z_pred[known], z_spec[known], scores)


def observe(plan: Plan, galaxies: Galaxies | None, anomalies: Sequence[tuple[int, float]] = ()) -> Observed:
    """Reads cut-outs of the outliers, or anomalies, and a part of the magnitudes.

    `anomalies` are sample indices and distances. `note` explains what could not be read.
    """
    if galaxies is None and not anomalies:
        return Observed()
    found = [Outlier(index, distance=distance) for index, distance in anomalies]
    if galaxies is not None:
        worst = np.argsort(-np.abs(galaxies.residual), kind="stable")[:MAX_CUTOUTS]
        found = [_outlier(galaxies, int(row)) for row in worst]
    source = _Source(plan.files)
    try:
        outliers = tuple(_each(lambda one: _seen(one, source), found))
        if galaxies is None:
            return Observed(outliers)
        rows, magnitude = _magnitudes(galaxies, source, plan.samples)
    except SkyfanError as error:
        return Observed(tuple(found), note=f"The dataset could not be read for this page: {error}")
    return Observed(outliers, rows, magnitude) if len(rows) else Observed(outliers)


@dataclass(frozen=True)
class _Source:
    """The planned files, addressed by the dataset's sample index."""

    files: tuple[FileLayout, ...]

    def read(self, name: str, index: int, count: int) -> NDArray[np.floating] | None:
        """At most `count` rows from sample `index` to the end of its file, as float64 with NaN for sentinels.

        None where the file has no such tensor.
        """
        first = np.cumsum([0, *(file.samples for file in self.files)])
        number = int(np.searchsorted(first, index, side="right")) - 1
        file, row = self.files[number], index - int(first[number])
        spec = next((spec for spec in file.tensors if spec.name == name and _is_usable(spec)), None)
        if spec is None:
            return None
        rows = read_batch(file.uri, [spec], row, min(row + count, file.samples), etag=file.etag)
        values = rows[name].astype(np.float64)
        values[sentinels(name, values)] = np.nan
        return values


def _is_usable(spec: TensorSpec) -> bool:
    if spec.name == "image":
        return len(spec.row_shape) == 3 and spec.row_bytes <= MAX_CUTOUT_BYTES
    return len(spec.row_shape) == 1 and spec.row_shape[0] > R_BAND


def _outlier(galaxies: Galaxies, row: int) -> Outlier:
    return Outlier(
        index=int(galaxies.index[row]),
        z_pred=float(galaxies.z_pred[row]),
        z_spec=float(galaxies.z_spec[row]),
        residual=float(galaxies.residual[row]),
    )


def _seen(one: Outlier, source: _Source) -> Outlier:
    """With its magnitude and cut-out."""
    magnitude, cutout = source.read("magnitude", one.index, 1), source.read("image", one.index, 1)
    return replace(
        one,
        r_magnitude=None if magnitude is None or not np.isfinite(magnitude[0, R_BAND]) else float(magnitude[0, R_BAND]),
        cutout=None if cutout is None else cutout[0],
    )


def _magnitudes(galaxies: Galaxies, source: _Source, samples: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(rows of `galaxies`, their magnitudes [M, bands]) of stretches spread evenly over the dataset."""
    stretch = MAX_MAGNITUDES // MAX_MAGNITUDE_READS
    reads = min(MAX_MAGNITUDE_READS, -(-samples // stretch))
    firsts = [samples * number // reads for number in range(reads)]
    lengths = [min(stretch, stop - first) for first, stop in zip(firsts, [*firsts[1:], samples], strict=True)]
    found = _each(lambda piece: source.read("magnitude", *piece), list(zip(firsts, lengths, strict=True)))
    rows_of, magnitudes = [np.empty(0, np.int64)], []
    for first, rows in zip(firsts, found, strict=True):
        if rows is None:
            continue
        start, stop = np.searchsorted(galaxies.index, [first, first + len(rows)])
        rows_of.append(np.arange(start, stop))
        magnitudes.append(rows[galaxies.index[start:stop] - first])
    return np.concatenate(rows_of), np.concatenate(magnitudes) if magnitudes else np.empty((0, R_BAND + 1))


def _each(task: Callable[[T], R], pieces: Iterable[T]) -> list[R]:
    """The task's results in order, a few at once; raises the first error."""
    with ThreadPoolExecutor(_READERS) as readers:
        return list(readers.map(task, pieces))
