"""Opens a `.pt` dataset file: names, shapes and byte ranges of its tensors."""

import dataclasses

from skyfan import store
from skyfan.dtypes import numpy_dtype
from skyfan.errors import DatasetError
from skyfan.formats.base import layout
from skyfan.formats.torch._archive import Archive
from skyfan.formats.torch._members import REMEDY, read_members
from skyfan.formats.torch._spec import reference_names, spec_of
from skyfan.formats.torch.unpickler import UNTYPED, TensorRef, load_tree
from skyfan.layout import FileLayout, TensorSpec

# A storage may be seen by more than one tensor, but a few bytes of names must not unfold to gigabytes of rows.
_MAX_UNFOLDING = 4


def open_tensorfile(uri: store.StrPath, *, stats: store.ReadStats | None = None) -> FileLayout:
    """Names, shapes and offsets of the tensors of a `.pt` file, from its metadata alone.

    Tensors are named by their position or key (`0`, `image`, nested: `survey.image`); three or two positional
    tensors in the reference layout are named `image`, `magnitude`, `redshift`. Raises `DatasetError` for
    anything that is not a dataset of at least one row, `LocationError` where the file cannot be read.
    """
    archive = Archive(uri, stats=stats)
    info, where = archive.info, archive.info.uri
    members = read_members(load_tree(archive.read("data.pkl"), where, DatasetError, REMEDY), where)
    refs = members.tensors
    names = reference_names({name: ref.shape for name, ref in refs.items()})
    refs = {names.get(name, name): ref for name, ref in refs.items()}
    offsets = storage_offsets(archive, refs)
    byteorder = archive.byteorder()
    tensors = tuple(
        _with_checksum(spec_of(name, ref, offsets[ref.storage.key], byteorder, where), ref, archive)
        for name, ref in refs.items()
    )
    unfolded_bytes = sum(spec.samples * spec.row_bytes for spec in tensors)
    if unfolded_bytes > _MAX_UNFOLDING * info.size_bytes:
        raise archive.refuse(
            f"is damaged: its tensors would be {unfolded_bytes} bytes, the whole file has {info.size_bytes}"
        )
    return layout(info, "torch", tensors, identity=archive.identity(), left_out=members.skipped, note=archive.note)


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
        if max(extent, declared) > entry.file_size or extent > declared:
            raise archive.refuse(
                f"is damaged: tensor {name!r} needs {max(extent, declared)} bytes, "
                f"its storage data/{ref.storage.key} has {entry.file_size}"
            )
    keys = {ref.storage.key for ref in refs.values()}
    offsets = archive.data_offsets(sorted(f"data/{key}" for key in keys))
    return {name.removeprefix("data/"): offset for name, offset in offsets.items()}


def _with_checksum(spec: TensorSpec, ref: TensorRef, archive: Archive) -> TensorSpec:
    """The archive's CRC-32 is one of the tensor's rows where the tensor is all of its storage."""
    entry = archive.entries[f"data/{ref.storage.key}"]
    whole = ref.offset == 0 and spec.samples * spec.row_bytes == entry.file_size
    return dataclasses.replace(spec, crc32=entry.CRC) if whole and entry.CRC else spec
