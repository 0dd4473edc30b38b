"""Opens a `.pt` dataset file: names, shapes and byte ranges of its tensors."""

import dataclasses
from collections.abc import Iterator

from skyfan import store
from skyfan.dtypes import numpy_dtype
from skyfan.errors import DatasetError
from skyfan.formats.torch._archive import Archive
from skyfan.formats.torch._spec import reference_names, spec_of
from skyfan.formats.torch._unpickle import UNTYPED, RestrictedUnpickler, TensorDatasetRef, TensorRef
from skyfan.layout import FileLayout, TensorSpec

_MAX_DEPTH = 32
_MAX_NODES = 100_000


def open_tensorfile(uri: store.StrPath, *, stats: store.ReadStats | None = None) -> FileLayout:
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
    tensors = tuple(
        _with_checksum(spec_of(name, ref, offsets[ref.storage.key], byteorder, archive.uri), ref, archive)
        for name, ref in refs.items()
    )
    return FileLayout(
        uri=archive.uri,
        etag=archive.etag,
        size_bytes=archive.size_bytes,
        samples=_samples(tensors, archive),
        tensors=tensors,
        identity=archive.identity(),
    )


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


def _with_checksum(spec: TensorSpec, ref: TensorRef, archive: Archive) -> TensorSpec:
    """The archive's CRC-32 is one of the tensor's rows where the tensor is all of its storage."""
    entry = archive.entries[f"data/{ref.storage.key}"]
    whole = ref.offset == 0 and spec.samples * spec.row_bytes == entry.size_bytes
    return dataclasses.replace(spec, crc32=entry.crc32) if whole and entry.crc32 else spec


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


def _samples(tensors: tuple[TensorSpec, ...], archive: Archive) -> int:
    counts = {spec.name: spec.samples for spec in tensors}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise archive.refuse(f"has tensors with different numbers of samples ({listed})")
    samples = next(iter(counts.values()))
    if samples == 0:
        raise archive.refuse("holds 0 samples")
    return samples
