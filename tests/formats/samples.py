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
    others = {name: values for name, values in columns.items() if values.ndim == 1}
    texts = {name: values.astype(str) for name, values in others.items() if values.dtype.kind == "S"}
    magnitude = pa.array(columns["magnitude"].tolist(), pa.list_(pa.float32()))
    table = pa.table({"image": image, "magnitude": magnitude, **others, **texts})
    path = target.with_suffix(".parquet")
    pq.write_table(table, path, row_group_size=20)
    return path


def write_hdf5(columns: Columns, target: Path) -> Path:
    """Contiguous datasets, one of them in a group's place as far as names go."""
    import h5py

    path = target.with_suffix(".h5")
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            file[name] = values
        file["version"] = 3
        file["wavelength"] = np.arange(7.0)
    return path


def write_hdf5_chunked(columns: Columns, target: Path) -> Path:
    """Compressed chunks that do not divide the shapes."""
    import h5py

    path = target.with_suffix(".hdf5")
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            chunk = {4: (7, 2, 20, 32), 2: (9, 4), 1: (50,)}[values.ndim]
            file.create_dataset(
                name, data=values, chunks=chunk, compression="gzip", shuffle=True, fletcher32=values.ndim == 4
            )
    return path


def write_fits(columns: Columns, target: Path) -> Path:
    """An image cube and a table, in big-endian order as FITS has it."""
    from astropy.io import fits
    from astropy.table import Table

    table = fits.BinTableHDU(Table({name: columns[name] for name in columns if name != "image"}), name="CATALOG")
    path = target.with_suffix(".fits")
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(columns["image"], name="image"), table]).writeto(path)
    return path


WRITERS: dict[str, Callable[[Columns, Path], Path]] = {
    "npy": write_npy_folder,
    "npz": write_npz,
    "safetensors": write_safetensors,
    "parquet": write_parquet,
    "hdf5": write_hdf5,
    "hdf5_chunked": write_hdf5_chunked,
    "fits": write_fits,
}
