"""Files of every other format, damaged or made to lie: opened, first and last row of every column read.

python -m tests.fuzz.formats --format parquet --executions 10000
"""

import argparse
import functools
import io
import struct
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np

from skyfan.errors import DatasetError
from skyfan.formats.registry import open_file
from skyfan.formats.rows import read_rows
from tests.fuzz.runner import main

_FOLDER = Path(tempfile.mkdtemp(prefix="skyfan-fuzz-"))
_INTERESTING = (0, 1, 2, 7, 0x7F, 0x80, 0xFF)
_WIDE = (0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**64 - 1)


def _columns() -> dict[str, np.ndarray]:
    rows = np.arange(12, dtype="f4")
    return {"image": np.outer(rows, np.arange(8)).astype("f4").reshape(12, 2, 4), "id": rows.astype("i8")}


def _npy() -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros(12, [("image", "f4", (2, 4)), ("id", "i8"), ("name", "S5")]))
    return file.getvalue()


def _npz() -> bytes:
    file = io.BytesIO()
    np.savez(file, **_columns())  # type: ignore[arg-type]
    return file.getvalue()


def _safetensors() -> bytes:
    from safetensors.numpy import save

    return save(_columns())


def _parquet() -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = _columns()
    lists = pa.FixedSizeListArray.from_arrays(pa.array(columns["image"].reshape(-1)), 8)
    file = io.BytesIO()
    names = pa.array([f"n{row}" for row in range(12)])
    pq.write_table(pa.table({"image": lists, "id": columns["id"], "name": names}), file, row_group_size=5)
    return file.getvalue()


def _fits() -> bytes:
    from astropy.io import fits
    from astropy.table import Table

    columns, file = _columns(), io.BytesIO()
    table = fits.BinTableHDU(Table({"id": columns["id"], "name": ["a"] * 12, "u": columns["id"].astype("u2")}))
    fits.HDUList([fits.PrimaryHDU(columns["image"]), table]).writeto(file)
    return file.getvalue()


def _hdf5() -> bytes:
    import h5py

    file = io.BytesIO()
    with h5py.File(file, "w") as written:
        written["id"] = _columns()["id"]
        written.create_dataset("image", data=_columns()["image"], chunks=(5, 1, 3), compression="gzip", shuffle=True)
    return file.getvalue()


FORMATS: dict[str, Callable[[], bytes]] = {
    ".npy": _npy,
    ".npz": _npz,
    ".safetensors": _safetensors,
    ".parquet": _parquet,
    ".fits": _fits,
    ".h5": _hdf5,
}


def damaged(random: Random, content: bytes) -> bytes:
    """The content with a few bytes, numbers or digits changed, pieces moved, or its end cut off."""
    data = bytearray(content)
    # Metadata are at the ends, and are what matters.
    ends = [*range(min(3000, len(data))), *range(max(0, len(data) - 1500), len(data))]
    for _ in range(random.choice((1, 1, 2, 4, 16))):
        at = random.choice(ends) if random.random() < 0.8 else random.randrange(len(data))
        at = min(at, len(data) - 1)
        match random.randrange(6):
            case 0:
                data[at] ^= 1 << random.randrange(8)
            case 1:
                data[at] = random.choice(_INTERESTING)
            case 2:
                kind = random.choice("<>") + random.choice("IQ")
                value = random.choice(_WIDE) % 2 ** (8 * struct.calcsize(kind))
                data[at : at + struct.calcsize(kind)] = struct.pack(kind, value)
            case 3:
                digits = [place for place in ends if place < len(data) and chr(data[place]).isdigit()]
                if digits:
                    place = random.choice(digits)
                    data[place : place + 1] = random.choice((b"0", b"9", b"-1", b"99999999999999999999"))
            case 4:
                other = random.randrange(len(data))
                data[at : at + 16] = data[other : other + 16]
            case _:
                del data[random.randrange(len(data)) :]
                data = data or bytearray(b"\0")
                ends = [place for place in ends if place < len(data)] or [0]
    return bytes(data)


@functools.cache
def whole(suffix: str) -> bytes:
    """A file of the format that can be read."""
    return FORMATS[suffix]()


def open_and_read(random: Random, suffix: str) -> None:
    """One execution."""
    path = _FOLDER / f"case{suffix}"
    path.write_bytes(damaged(random, whole(suffix)) if random.random() < 0.95 else whole(suffix))
    layout = open_file(path)
    for name in layout.names:
        for row in (0, layout.samples - 1):
            read_rows(layout, name, row, row + 1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--format", choices=[suffix[1:] for suffix in FORMATS], required=True)
    chosen, sys.argv[1:] = parser.parse_known_args()
    main(functools.partial(open_and_read, suffix=f".{chosen.format}"), DatasetError)
