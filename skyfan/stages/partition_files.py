"""Partitions as real files, `1.pt`, `2.pt`, …: the layout that the reference system's splitter wrote."""

from skyfan import store
from skyfan.errors import DatasetError, LocationError
from skyfan.events import Progress
from skyfan.formats.dataset import read_layouts
from skyfan.formats.rows import read_batch
from skyfan.formats.torch import attribute_names, write_tensorfile
from skyfan.job import PartitionSize
from skyfan.layout import FileLayout
from skyfan.partitioning import make_partitions


def write_partitions(
    dataset: str, partition_size: PartitionSize, output: str, progress: Progress, file_limit: int | None = None
) -> list[str]:
    """Writes each partition to `<output>/<number>.pt`; refuses a folder that holds such files already.

    Stopped half-way it leaves none of them, since fewer partitions would look like a whole, smaller dataset.
    """
    files = read_layouts(dataset)
    attributes = _checked_names(files[0])
    partitions = make_partitions(files, partition_size)[:file_limit]
    if any(entry.uri.endswith(".pt") for entry in store.list(output)):
        raise LocationError(f"{output} holds .pt files already; choose another --output or remove them.")
    targets = [store.join(output, f"{number}.pt") for number in range(1, len(partitions) + 1)]
    try:
        for number, (part, target) in enumerate(zip(partitions, targets, strict=True), start=1):
            file = files[part.file]
            arrays = read_batch(file.uri, file.tensors, part.start, part.stop, etag=file.etag)
            write_tensorfile(target, list(arrays.values()), note=file.note, attributes=attributes)
            progress(number, len(partitions))
    except BaseException:
        for target in targets:
            store.delete(target)
        raise
    return targets


def _checked_names(file: FileLayout) -> tuple[str, ...]:
    """The columns that are attributes; names that reading a partition would not give again are not thrown away."""
    attributes = attribute_names(file)
    if attributes is None:
        raise DatasetError(
            f"{file.uri} names its tensors {', '.join(file.names)}, which partition files would lose; "
            "run on the file itself, no partition files are needed."
        )
    return attributes
