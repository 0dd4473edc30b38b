"""A HATS catalogue: the rows in Parquet files by HEALPix pixel, which lsdb and other tools search and crossmatch.

The format: https://hats.readthedocs.io/ ; the pixels are made as large as `MAX_ROWS` rows in each allow.
"""

import csv
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from skyfan.errors import BadInput
from skyfan.runs.exports.results import Results

INDEX, INDEX_ORDER = "_healpix_29", 29
MAX_ROWS = 1_000_000
# Of one pixel's rows, which are sorted in memory.
MAX_PIXEL_BYTES = 128 * 2**20
# Finest pixels that are counted: 786,432 of 0.05 square degrees.
COUNTED_ORDER = 8
Pixel = tuple[int, int]
"""Order and number."""


def write_hats(results: Results, path: Path) -> int:
    """Writes the catalogue into the folder `path` and returns its number of rows.

    Raises:
        BadInput: the results have no columns `ra` and `dec`, or rows without a position.
    """
    names = results.schema.names
    if not {"ra", "dec"} <= set(names):
        raise BadInput(
            f"a HATS catalogue is sorted by position, and the results have {', '.join(names)}; run again with "
            "--keep ra,dec and another --output."
        )
    counts = np.zeros(12 * 4**COUNTED_ORDER, np.int64)
    row_bytes, rows = 1, 0
    for table in results.pieces():
        counts += np.bincount(_index(table) >> (2 * (INDEX_ORDER - COUNTED_ORDER)), minlength=len(counts))
        rows += len(table)
        row_bytes = max(row_bytes, table.nbytes // max(1, len(table)))
    pixels = _pixels(counts, max(1, min(MAX_ROWS, MAX_PIXEL_BYTES // row_bytes)))
    schema = results.schema.append(pa.field(INDEX, pa.int64()))
    with tempfile.TemporaryDirectory(prefix=".skyfan-", dir=path) as spool:
        sorting = _Sorting(Path(spool))
        for table in results.pieces():
            sorting.add(table.append_column(INDEX, pa.array(_index(table))), pixels)
        found = [_write_pixel(path, pixel, sorting.rows(pixel)) for pixel in pixels]
    pq.write_metadata(schema, path / "dataset" / "_common_metadata")
    pq.write_metadata(schema, path / "dataset" / "_metadata", metadata_collector=found)
    _write_description(path, results.name, pixels, rows)
    return rows


def _index(table: pa.Table) -> NDArray[np.int64]:
    """The HEALPix pixel of order 29 of each row, in the nested scheme."""
    import astropy.units as u
    from astropy.coordinates import Latitude, Longitude
    from cdshealpix.nested import lonlat_to_healpix

    ra, dec = (table[name].to_numpy().astype(np.float64) for name in ("ra", "dec"))
    lost = ~np.isfinite(ra) | ~(np.abs(dec) <= 90)
    if lost.any():
        first = int(table["sample_index"].to_numpy()[lost.argmax()])
        raise BadInput(
            f"{int(lost.sum()):,} rows have no position (such as sample {first}); a HATS catalogue needs one."
        )
    found = lonlat_to_healpix(Longitude(ra, u.deg), Latitude(dec, u.deg), INDEX_ORDER)
    return np.asarray(found).astype(np.int64)


def _pixels(counts: NDArray[np.int64], max_rows: int) -> list[Pixel]:
    """The largest pixels with at most `max_rows` rows, those of `COUNTED_ORDER` whatever they have; none is empty."""
    found: list[Pixel] = []
    order, candidates = 0, np.arange(12)
    while len(candidates):
        rows = counts.reshape(12 * 4**order, -1).sum(axis=1)[candidates]
        kept = (rows > 0) & ((rows <= max_rows) | (order == COUNTED_ORDER))
        found += [(order, int(number)) for number in candidates[kept]]
        split = candidates[(rows > 0) & ~kept]
        candidates = (split[:, None] * 4 + np.arange(4)).ravel()
        order += 1
    return found


@dataclass
class _Sorting:
    """Rows by pixel, on disk where they are many."""

    folder: Path
    held: dict[Pixel, list[pa.Table]] = field(default_factory=dict)
    held_bytes: int = 0

    def add(self, table: pa.Table, pixels: list[Pixel]) -> None:
        """Gives each row to its pixel."""
        index = table[INDEX].to_numpy()
        for order in sorted({order for order, _ in pixels}):
            numbers = index >> (2 * (INDEX_ORDER - order))
            wanted = {number for at, number in pixels if at == order}
            for number in wanted.intersection(np.unique(numbers).tolist()):
                self.held.setdefault((order, number), []).append(table.filter(pa.array(numbers == number)))
        self.held_bytes += table.nbytes
        if self.held_bytes > MAX_PIXEL_BYTES:
            self._write()

    def rows(self, pixel: Pixel) -> pa.Table:
        """All rows of a pixel, sorted."""
        files = sorted(self.folder.glob(f"{pixel[0]}-{pixel[1]}-*.parquet"))
        tables = [*(pq.read_table(file) for file in files), *self.held.pop(pixel, [])]
        return pa.concat_tables(tables).sort_by(INDEX)

    def _write(self) -> None:
        for (order, number), tables in self.held.items():
            count = sum(1 for _ in self.folder.glob(f"{order}-{number}-*.parquet"))
            pq.write_table(pa.concat_tables(tables), self.folder / f"{order}-{number}-{count}.parquet")
        self.held, self.held_bytes = {}, 0


def _write_pixel(path: Path, pixel: Pixel, rows: pa.Table) -> pq.FileMetaData:
    order, number = pixel
    name = Path(f"Norder={order}", f"Dir={number // 10_000 * 10_000}", f"Npix={number}.parquet")
    target = path / "dataset" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    written: list[pq.FileMetaData] = []
    pq.write_table(rows, target, compression="zstd", metadata_collector=written)
    written[0].set_file_path(name.as_posix())
    return written[0]


def _write_description(path: Path, name: str, pixels: list[Pixel], rows: int) -> None:
    with (path / "partition_info.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("Norder", "Npix"), *pixels])
    text = "".join(f"{key}={value}\n" for key, value in _properties(name, pixels, rows))
    for file_name in ("hats.properties", "properties"):
        (path / file_name).write_text(f"#HATS catalog\n{text}", encoding="utf-8")


def _properties(name: str, pixels: list[Pixel], rows: int) -> Iterator[tuple[str, object]]:
    yield from (
        ("obs_collection", name),
        ("dataproduct_type", "object"),
        ("hats_nrows", rows),
        ("hats_col_ra", "ra"),
        ("hats_col_dec", "dec"),
        ("hats_col_healpix", INDEX),
        ("hats_col_healpix_order", INDEX_ORDER),
        ("hats_npix_suffix", ".parquet"),
        ("hats_order", max(order for order, _ in pixels)),
        ("moc_sky_fraction", sum(1 / (12 * 4**order) for order, _ in pixels)),
        ("hats_creation_date", f"{datetime.now(UTC):%Y-%m-%dT%H:%MUTC}"),
        ("hats_builder", "skyfan"),
        ("hats_version", "v1.0"),
    )
