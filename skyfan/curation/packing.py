"""Makes one dataset of a folder with a file for every object: shards with IDs, and the catalogue's other columns.

Files are read in parallel. A shard appears when it is whole, so that the same command goes on where it was stopped;
`pack.json` in the output tells what is packed, and another packing of that folder is refused.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from skyfan import store
from skyfan.curation.object_files import SUFFIXES, Columns, read_object
from skyfan.errors import DatasetError, LocationError, RunConflict
from skyfan.events import Progress, unwatched
from skyfan.formats.dataset import natural_order
from skyfan.formats.notes import NOTE_KEY, joined
from skyfan.formats.registry import suffix_of
from skyfan.formats.tables import open_table, read_whole

SHARD_BYTES = 256 * 2**20
ROW_GROUP_BYTES = 16 * 2**20
READERS = 16
ID = "id"
_MANIFEST, _MISSING = "pack.json", "missing.txt"

PackFormat = Literal["parquet", "h5", "npz"]


class PackReport(BaseModel):
    """What was packed. `missing` are objects of the catalogue without a file, listed in `<output>/missing.txt` too."""

    output: str
    objects: int
    shards: int
    reused_shards: int
    missing: list[str]


@dataclass(frozen=True)
class _Objects:
    """Objects in the order in which they are packed: their files, and columns [N, …] beside the files' own."""

    uris: list[str]
    columns: Columns
    missing: list[str]
    note: str = ""
    """What their catalogue says of itself."""


def pack(
    folder: str, output: str, *, catalog: str | None = None, id_column: str = ID, progress: Progress = unwatched
) -> PackReport:
    """Packs the objects of `folder` into shards in `output`, a folder; its suffix, which is left off, is the format.

    With a `catalog` (Parquet, FITS, CSV, …), objects come in its order with all of its columns, and an object's file
    is called by its `id_column`; else every file is packed, its name without suffix the ID. `progress` counts objects.

    Raises:
        DatasetError: there are no such files, one of them differs in shape or type from the first, or the catalogue
            has a column that is called as an array of theirs.
        RunConflict: `output` holds something else.
    """
    target, form = _target(output)
    objects = _objects(folder, catalog, id_column)
    if not objects.uris:
        kinds = ", ".join(sorted(SUFFIXES))
        if catalog is None:
            raise DatasetError(f"{folder} holds no files of one object each ({kinds}); name the folder with them.")
        raise DatasetError(
            f"{folder} has a file ({kinds}) for none of the objects of {catalog}; name the column that files are "
            "called by with --id."
        )
    first, _ = read_object(objects.uris[0])
    twice = next((name for name in first if catalog and name in objects.columns), None)
    if twice is not None:
        raise DatasetError(f"{catalog} has a column {twice}, and so has {objects.uris[0]}; rename the catalogue's.")
    row_bytes = sum(values.nbytes for values in first.values())
    step = max(1, SHARD_BYTES // max(1, row_bytes))
    _claim(target, objects, form, step)
    starts = range(0, len(objects.uris), step)
    reused = 0
    with ThreadPoolExecutor(READERS, "skyfan-pack") as readers:
        for number, start in enumerate(starts):
            stop = min(start + step, len(objects.uris))
            uri = store.join(target, f"{PurePosixPath(target).name}-{number:05d}.{form}")
            if store.exists(uri):
                reused += 1
            else:
                rows, note = _stacked(readers, objects.uris[start:stop], first)
                beside = {name: values[start:stop] for name, values in objects.columns.items()}
                store.put(uri, _encoded({**beside, **rows}, form, joined([objects.note, note])))
            progress(stop, len(objects.uris))
    store.put(store.join(target, _MISSING), "".join(f"{name}\n" for name in objects.missing).encode())
    return PackReport(
        output=target, objects=len(objects.uris), shards=len(starts), reused_shards=reused, missing=objects.missing
    )


def _target(output: str) -> tuple[str, PackFormat]:
    forms: dict[str, PackFormat] = {".parquet": "parquet", ".h5": "h5", ".npz": "npz"}
    suffix = suffix_of(output)
    return (output[: -len(suffix)], forms[suffix]) if suffix in forms else (output, "parquet")


def _objects(folder: str, catalog: str | None, id_column: str) -> _Objects:
    files = sorted((one.uri for one in store.list(folder) if suffix_of(one.uri) in SUFFIXES), key=natural_order)
    by_name: dict[str, str] = {}
    for uri in files:
        # fpack makes 1.fits.fz of 1.fits.
        stem = PurePosixPath(uri.removesuffix(".fz") if uri.endswith((".fits.fz", ".fit.fz")) else uri).stem
        if stem in by_name:
            raise DatasetError(f"{uri} and {by_name[stem]} are both of the object {stem}; leave one of them out.")
        by_name[stem] = uri
    if catalog is None:
        return _Objects(files, {ID: _ids(list(by_name))}, [])
    table = open_table(catalog)
    columns = read_whole(table)
    if id_column not in columns:
        raise DatasetError(f"{catalog} has no column {id_column!r}; it holds {', '.join(columns)}. Name one with --id.")
    names = [str(name).strip() for name in columns[id_column].tolist()]
    here = np.array([name in by_name for name in names], dtype=bool)
    kept = {name: values[here] for name, values in columns.items()}
    uris = [by_name[name] for name in names if name in by_name]
    return _Objects(uris, kept, [name for name in names if name not in by_name], table.note)


def _ids(names: Sequence[str]) -> NDArray[np.generic]:
    """Whole numbers where all names are such and nothing is lost, else text."""
    if all(name.isdecimal() and str(int(name)) == name and int(name) < 2**63 for name in names):
        return np.array([int(name) for name in names], np.int64)
    return np.array(names, object)


def _claim(target: str, objects: _Objects, form: str, step: int) -> None:
    digest = hashlib.sha256("\n".join(objects.uris).encode())
    for name, values in objects.columns.items():
        digest.update(f"\n{name} {values.dtype} {values.shape}\n".encode())
        digest.update(repr(values.tolist()).encode() if values.dtype.hasobject else values.tobytes())
    manifest = {"objects": len(objects.uris), "sha256": digest.hexdigest(), "format": form, "step": step}
    uri, content = store.join(target, _MANIFEST), json.dumps(manifest, indent=2).encode()
    try:
        store.put_new(uri, content)
    except store.AlreadyExists as error:
        if store.read(uri) != content:
            raise RunConflict(f"{target} holds other packed objects; choose another output, or remove it.") from error


def _stacked(readers: ThreadPoolExecutor, uris: Sequence[str], first: Columns) -> tuple[Columns, str]:
    """The objects' arrays as columns, and what their files say of them."""
    notes: dict[str, None] = {}
    rows: Columns = {name: np.empty((len(uris), *values.shape), values.dtype) for name, values in first.items()}
    for position, (found, note) in enumerate(_in_order(readers, uris)):
        notes[note] = None
        for name, values in found.items():
            if name not in rows or rows[name].shape[1:] != values.shape or rows[name].dtype != values.dtype:
                known = ", ".join(f"{known} {one.dtype} {list(one.shape)}" for known, one in first.items())
                raise DatasetError(
                    f"{uris[position]} holds {name} {values.dtype} {list(values.shape)}, the first file {known}; "
                    "all objects need one shape and type."
                )
            rows[name][position] = values
        if len(found) < len(rows):
            raise DatasetError(f"{uris[position]} lacks {', '.join(sorted(set(rows) - set(found)))}.")
    return rows, joined(notes)


def _in_order(readers: ThreadPoolExecutor, uris: Sequence[str]) -> Iterator[tuple[Columns, str]]:
    """Objects in order, a few more read ahead than there are readers."""
    for start in range(0, len(uris), 4 * READERS):
        yield from readers.map(read_object, uris[start : start + 4 * READERS])


def _encoded(columns: Columns, form: PackFormat, note: str) -> bytes:
    file = io.BytesIO()
    match form:
        case "npz":
            np.savez(file, **{name: _fixed(values) for name, values in columns.items()})  # type: ignore[arg-type]
            with zipfile.ZipFile(file, "a") as archive:
                archive.comment = note.encode()
        case "h5":
            _write_hdf5(file, columns, note)
        case _:
            _write_parquet(file, columns, note)
    return file.getvalue()


def _fixed(values: NDArray[np.generic]) -> NDArray[np.generic]:
    """Text of fixed length, which these formats can be read by rows with."""
    return np.char.encode(values.astype(str), "utf-8") if values.dtype.kind in "OU" else values


def _write_hdf5(file: io.BytesIO, columns: Columns, note: str) -> None:
    try:
        import h5py
    except ImportError as error:
        raise LocationError("writing HDF5 needs h5py: pip install 'skyfan[formats]'.") from error
    with h5py.File(file, "w") as written:
        for name, values in columns.items():
            written[name] = _fixed(values)
        if note:
            written.attrs[NOTE_KEY] = np.bytes_(note.encode())


def _write_parquet(file: io.BytesIO, columns: Columns, note: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays = {}
    for name, values in columns.items():
        array = pa.array(values.reshape(-1))
        for size in values.shape[:0:-1]:
            array = pa.FixedSizeListArray.from_arrays(array, size)
        arrays[name] = array
    rows = len(next(iter(columns.values())))
    row_bytes = sum(values.nbytes for values in columns.values()) // max(1, rows)
    table = pa.table(arrays, metadata={NOTE_KEY: note} if note else None)
    pq.write_table(table, file, row_group_size=max(1, ROW_GROUP_BYTES // max(1, row_bytes)))
