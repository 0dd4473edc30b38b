"""The same galaxies in the formats that Skyfan reads."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.conftest import Sample

Columns = dict[str, NDArray[np.generic]]


def columns_of(sample: Sample) -> Columns:
    """The sample's columns by name."""
    return {"image": sample.image, "magnitude": sample.magnitude, "redshift": sample.redshift}


def as_records(columns: Columns) -> NDArray[np.void]:
    """One structured row a galaxy."""
    kinds = [(name, values.dtype, values.shape[1:]) for name, values in columns.items()]
    records = np.empty(len(next(iter(columns.values()))), kinds)
    for name, values in columns.items():
        records[name] = values
    return records


def write_npy_folder(columns: Columns, target: Path) -> Path:
    """Three shards of structured rows."""
    target.mkdir()
    for number, part in enumerate(np.array_split(as_records(columns), 3)):
        np.save(target / f"{number}.npy", part)
    return target


def write_npz(columns: Columns, target: Path) -> Path:
    """One stored archive."""
    path = target.with_suffix(".npz")
    np.savez(path, **columns)
    return path


def write_safetensors(columns: Columns, target: Path) -> Path:
    """One file."""
    from safetensors.numpy import save_file

    path = target.with_suffix(".safetensors")
    save_file(columns, path)
    return path


def write_parquet(columns: Columns, target: Path) -> Path:
    """Row groups of 20 galaxies; images as lists of a fixed size, magnitudes as ordinary lists."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    image = pa.FixedSizeListArray.from_arrays(pa.array(columns["image"].reshape(-1)), 32)
    for size in (32, 5):
        image = pa.FixedSizeListArray.from_arrays(image, size)
    table = pa.table(
        {
            "image": image,
            "magnitude": pa.array(columns["magnitude"].tolist(), pa.list_(pa.float32())),
            "redshift": columns["redshift"],
        }
    )
    path = target.with_suffix(".parquet")
    pq.write_table(table, path, row_group_size=20)
    return path


WRITERS: dict[str, Callable[[Columns, Path], Path]] = {
    "npy": write_npy_folder,
    "npz": write_npz,
    "safetensors": write_safetensors,
    "parquet": write_parquet,
}
