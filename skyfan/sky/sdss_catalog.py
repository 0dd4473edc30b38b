"""The catalogue from which the sky is rendered: measured magnitudes and redshifts, one row per galaxy."""

import csv
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import IO, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from skyfan.errors import BadInput, LocationError

BANDS = ("u", "g", "r", "i", "z")
COLUMNS = ("z_spec", *BANDS, *(f"{band}_err" for band in BANDS))
Subset = Literal["all", "train", "test"]

_BRIGHTEST_MAG, _FAINTEST_MAG = 0.0, 40.0


@dataclass(frozen=True)
class Catalog:
    """`redshift` [n], `magnitude` and `magnitude_error` [n, 5] (AB mag, bands u g r i z), float64."""

    source: str
    redshift: NDArray[np.float64]
    magnitude: NDArray[np.float64]
    magnitude_error: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.redshift)

    def take(self, rows: NDArray[np.int64]) -> "Catalog":
        """The given rows, in the given order."""
        return Catalog(self.source, self.redshift[rows], self.magnitude[rows], self.magnitude_error[rows])


def subset_rows(rows: int, subset: Subset) -> NDArray[np.int64]:
    """The rows [n] of a catalogue that are `train` (four fifths), `test` (one fifth) or `all`, in catalogue order.

    Rows are ranked by the SHA-256 of their number; the first fifth of the ranking is `test`. This is the split of the
    demo model: 4,000 and 1,000 of the packaged 5,000. It depends only on the numbers of the rows, and so is the same on
    every machine and in every release.

    Raises:
        BadInput: `subset` is none of the three.
    """
    if subset not in get_args(Subset):
        raise BadInput(f"subset {subset!r} is unknown; use one of {', '.join(get_args(Subset))}.")
    ranking = sorted(range(rows), key=lambda row: hashlib.sha256(f"skyfan-split:{row}".encode()).digest())
    chosen = {"all": ranking, "test": ranking[: rows // 5], "train": ranking[rows // 5 :]}[subset]
    return np.array(sorted(chosen), dtype=np.int64)


def load_catalog(path: str | Path | None = None, columns: Mapping[str, str] | None = None) -> Catalog:
    """Reads a catalogue (CSV); without `path`, the packaged 5,000 SDSS galaxies.

    `columns` maps our names (`COLUMNS`) to the file's own where they differ.

    Raises:
        BadInput: a column is missing, or a value is no usable number; names the file, the line and the column.
        LocationError: the file cannot be read.
    """
    mapping = {name: name for name in COLUMNS} | dict(columns or {})
    unknown = sorted(set(mapping) - set(COLUMNS))
    if unknown:
        raise BadInput(f"columns: {unknown[0]!r} is no column of a catalogue; map {', '.join(COLUMNS)}.")
    if path is None:
        packaged = resources.files("skyfan.sky") / "data" / "mgs_galaxies.csv"
        with packaged.open(encoding="utf-8") as file:
            return _parse(file, "packaged SDSS galaxies", mapping)
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            return _parse(file, str(path), mapping)
    except OSError as error:
        raise LocationError(f"catalogue {path} cannot be read: {error.strerror}; check the path.") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"catalogue {path} is not a UTF-8 text file of comma-separated values.") from error


def _parse(file: IO[str], source: str, mapping: Mapping[str, str]) -> Catalog:
    reader = csv.reader(file)
    header = [name.strip() for name in next(reader, [])]
    missing = [f"{theirs!r}" for theirs in mapping.values() if theirs not in header]
    if missing:
        raise BadInput(
            f"catalogue {source} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}; "
            f"it has {', '.join(header) or 'nothing'}. Name yours with --columns z_spec=NAME,u=NAME,…"
        )
    positions = [(name, header.index(mapping[name])) for name in COLUMNS]
    rows = [_row(line, positions, f"catalogue {source} line {reader.line_num}") for line in reader if line]
    if not rows:
        raise BadInput(f"catalogue {source} holds no galaxies.")
    table = np.array(rows, dtype=np.float64)
    return Catalog(source, table[:, 0], table[:, 1:6], table[:, 6:11])


def _row(line: list[str], positions: list[tuple[str, int]], where: str) -> list[float]:
    values = []
    for name, position in positions:
        text = line[position] if position < len(line) else ""
        try:
            value = float(text)
        except ValueError:
            raise BadInput(f"{where}: column {name} holds {text!r}, which is not a number.") from None
        problem = _problem(name, value)
        if problem:
            raise BadInput(f"{where}: column {name} is {text}; {problem}.")
        values.append(value)
    return values


def _problem(name: str, value: float) -> str | None:
    if not math.isfinite(value):
        return "it must be a finite number"
    if name == "z_spec":
        return None if 0 < value < 10 else "a redshift must be above 0 and below 10"
    if name.endswith("_err"):
        return None if value >= 0 else "an error must not be negative"
    if _BRIGHTEST_MAG < value < _FAINTEST_MAG:
        return None
    return f"a magnitude must be between {_BRIGHTEST_MAG:g} and {_FAINTEST_MAG:g}"


def training_rows(rows: int, subset: Subset) -> NDArray[np.bool_]:
    """Which rows of a subset, [n], of a catalogue of `rows` rows are of its `train` part."""
    return np.isin(subset_rows(rows, subset), subset_rows(rows, "train"))
