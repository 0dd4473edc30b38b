"""Opens a dataset file and reads rows of its tensors."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from skyfan import store
from skyfan.errors import DatasetError
from skyfan.formats.torch._archive import Archive
from skyfan.formats.torch._dtypes import numpy_dtype
from skyfan.formats.torch._spec import TensorSpec, reference_names, spec_of
from skyfan.formats.torch._unpickle import UNTYPED, RestrictedUnpickler, TensorDatasetRef, TensorRef

_MAX_DEPTH = 32
_MAX_NODES = 100_000


@dataclass(frozen=True, slots=True)
class TensorFile:
    """A dataset file: `samples` rows in each of `tensors` (name → spec, in the file's order)."""

    uri: str
    size_bytes: int
    etag: str
    samples: int
    tensors: dict[str, TensorSpec]

    def tensor(self, name: str) -> TensorSpec:
        """The spec of tensor `name`; `DatasetError` lists the names that there are."""
        if name not in self.tensors:
            raise DatasetError(f"{self.uri} has no tensor {name!r}; it holds {', '.join(self.tensors)}.")
        return self.tensors[name]


def open_tensorfile(uri: store.StrPath, *, stats: store.ReadStats | None = None) -> TensorFile:
    """Names, shapes and places of the tensors of a `.pt` file, from its metadata alone.

    Tensors are named by their position or key (`0`, `image`, nested: `survey.image`); three or two positional
    tensors in the reference layout are named `image`, `magnitude`, `redshift`. Raises `DatasetError` for
    anything that is not a dataset of at least one row, `LocationError` where the file cannot be read.
    """
    archive = Archive(uri, stats=stats)
    tree = RestrictedUnpickler(archive.read("data.pkl"), archive.uri).tree()
    named = list(_named_tensors(tree, archive.uri, iter(range(_MAX_NODES))))
    refs = dict(named)
    if len(refs) < len(named):
        raise archive.refuse("has two tensors of one name; rename the keys that hold dots")
    if not refs:
        raise archive.refuse("holds no tensors")
    names = reference_names({name: ref.shape for name, ref in refs.items()})
    refs = {names.get(name, name): ref for name, ref in refs.items()}
    offsets = storage_offsets(archive, refs)
    byteorder = archive.byteorder()
    tensors = {name: spec_of(name, ref, offsets[ref.storage.key], byteorder, archive.uri) for name, ref in refs.items()}
    return TensorFile(archive.uri, archive.size_bytes, archive.etag, _samples(tensors, archive), tensors)


def storage_offsets(archive: Archive, refs: dict[str, TensorRef]) -> dict[str, int]:
    """Storage key → first byte, for the storages of `refs`, each checked to hold all that its tensors need."""
    for name, ref in refs.items():
        entry = archive.entries.get(f"data/{ref.storage.key}")
        if entry is None:
            raise archive.refuse(f"is incomplete: the values of tensor {name!r} (data/{ref.storage.key}) are missing")
        itemsize = numpy_dtype(ref.dtype).itemsize
        extent = 0
        if all(ref.shape):
            last = sum((size - 1) * step for size, step in zip(ref.shape, ref.stride, strict=True))
            extent = (ref.offset + last + 1) * itemsize
        declared = ref.storage.numel * (1 if ref.storage.dtype == UNTYPED else itemsize)
        if max(extent, declared) > entry.size_bytes or extent > declared:
            raise archive.refuse(
                f"is damaged: tensor {name!r} needs {max(extent, declared)} bytes, "
                f"its storage data/{ref.storage.key} has {entry.size_bytes}"
            )
    keys = {ref.storage.key for ref in refs.values()}
    offsets = archive.data_offsets(sorted(f"data/{key}" for key in keys))
    return {name.removeprefix("data/"): offset for name, offset in offsets.items()}


def read_rows(
    source: TensorFile | store.StrPath,
    tensor: str | TensorSpec,
    start: int,
    stop: int,
    *,
    etag: str | None = None,
    stats: store.ReadStats | None = None,
) -> np.ndarray:
    """Rows [start, stop) of one tensor as an array [stop − start, *row_shape].

    `source` is an opened file, or a URI when `tensor` is a spec (from a plan: no header is read). Reads from
    an opened file, or with `etag`, raise `store.PreconditionFailed` if the file has changed since.
    """
    uri, spec, etag = _resolve(source, tensor, etag)
    return read_batch(uri, [spec], start, stop, etag=etag, stats=stats)[spec.name]


def read_batch(
    uri: store.StrPath,
    specs: Sequence[TensorSpec],
    start: int,
    stop: int,
    *,
    buffer: np.ndarray | None = None,
    etag: str | None = None,
    stats: store.ReadStats | None = None,
) -> dict[str, np.ndarray]:
    """Rows [start, stop) of several tensors by one parallel read: name → array [stop − start, *row_shape].

    The arrays are views of `buffer` (flat uint8, at least `batch_bytes(specs, stop - start)` long), which is
    made here where it is not given. A streaming reader gives the same buffer again when it is done with the arrays.
    """
    needed_bytes = batch_bytes(specs, stop - start)
    data = np.empty(needed_bytes, np.uint8) if buffer is None else buffer[:needed_bytes]
    if len(data) < needed_bytes:
        raise ValueError(f"the buffer has {len(data)} bytes, {needed_bytes} are needed")
    # widest elements first, so that every part is aligned
    ordered = sorted(specs, key=lambda spec: -spec.itemsize)
    ranges = [spec.byte_range(start, stop) for spec in ordered]
    store.read_into(uri, ranges, data.data, etag=etag, stats=stats)
    arrays, position = {}, 0
    for spec, (first, last) in zip(ordered, ranges, strict=True):
        part = data[position : position + last - first]
        arrays[spec.name] = spec.rows(part, stop - start)
        position += last - first
    return {spec.name: arrays[spec.name] for spec in specs}


def batch_bytes(specs: Sequence[TensorSpec], rows: int) -> int:
    """Bytes that `rows` rows of `specs` take."""
    return sum(spec.row_bytes for spec in specs) * rows


def check_unchanged(uri: store.StrPath, etag: str) -> None:
    """`DatasetError` if the file is no longer the one that had `etag` when it was opened."""
    if store.head(uri).etag != etag:
        raise DatasetError(f"{uri} has changed since it was planned; plan the run again.")


def _resolve(
    source: TensorFile | store.StrPath, tensor: str | TensorSpec, etag: str | None
) -> tuple[store.StrPath, TensorSpec, str | None]:
    if isinstance(source, TensorFile):
        spec = source.tensor(tensor) if isinstance(tensor, str) else tensor
        return source.uri, spec, etag or source.etag
    if isinstance(tensor, str):
        raise TypeError("reading a tensor by name needs the opened file; a URI needs the tensor's spec")
    return source, tensor, etag


def _named_tensors(
    tree: object, where: str, budget: Iterator[int], path: tuple[str, ...] = ()
) -> Iterator[tuple[str, TensorRef]]:
    """Every tensor of the tree with its name; refuses everything that is not a tensor or a container of some.

    Each node takes one from `budget`: a few hundred bytes of lists that hold each other can be a tree of billions.
    """
    if next(budget, None) is None:
        raise DatasetError(f"{where} holds more than {_MAX_NODES} tensors and containers.")
    if isinstance(tree, TensorRef):
        yield ".".join(path) or "0", tree
        return
    if len(path) > _MAX_DEPTH:
        raise DatasetError(f"{where} nests its tensors deeper than {_MAX_DEPTH} levels.")
    if isinstance(tree, TensorDatasetRef):
        tree = getattr(tree, "tensors", ())
    if isinstance(tree, tuple | list):
        members: Iterator[tuple[object, object]] = iter(enumerate(tree))
    elif isinstance(tree, dict):
        members = iter(tree.items())
    else:
        place = f" at {'.'.join(path)!r}" if path else ""
        raise DatasetError(
            f"{where} holds a {type(tree).__name__}{place}; Skyfan opens tensors, TensorDataset, and tuples, "
            "lists and dicts of tensors only."
        )
    for key, member in members:
        if not isinstance(key, str | int):
            raise DatasetError(f"{where} names a tensor by a {type(key).__name__}; name tensors by strings.")
        yield from _named_tensors(member, where, budget, (*path, str(key)))


def _samples(tensors: dict[str, TensorSpec], archive: Archive) -> int:
    counts = {name: spec.samples for name, spec in tensors.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise archive.refuse(f"has tensors with different numbers of samples ({listed})")
    samples = next(iter(counts.values()))
    if samples == 0:
        raise archive.refuse("holds 0 samples")
    return samples
