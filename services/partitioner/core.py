"""Planning: files → layouts → partitions → ranks, from metadata alone."""

import json
import re
from concurrent.futures import ThreadPoolExecutor

import structlog

from services.partitioner.requests import DatasetCut, PlanReply, PlanRequest
from skyfan import store
from skyfan.errors import DatasetError
from skyfan.plan import FileLayout, Plan, RunOptions, cut, distribute, run_identity
from skyfan.runfolder import RunFolder
from skyfan.tensorfile import open_tensorfile

MAX_FILES = 100_000
# Reading a header is a few small requests, so it waits on the network, not on the processor.
HEADER_READERS = 16


def plan(request: PlanRequest) -> PlanReply:
    """Plans the run, claims its place and writes plan.json and the map's items."""
    planned = draft(request, model=request.model, model_digest=request.model_digest, options=request.options)
    folder = RunFolder(request.output)
    committed = folder.claim(planned, resume=request.resume)
    _write_items(planned, folder, frozenset(committed))
    structlog.get_logger("partitioner").info(
        "planned",
        run_id=planned.run_id,
        samples=planned.samples,
        partitions=planned.partitions,
        ranks=len(planned.working_ranks),
        committed=len(committed),
    )
    return PlanReply(
        run_id=planned.run_id,
        plan_uri=folder.plan_uri,
        world_size=planned.world_size,
        ranks=len(planned.working_ranks),
        samples=planned.samples,
        data_bytes=planned.data_bytes,
        partitions=planned.partitions,
        committed_ranks=tuple(committed),
    )


def draft(request: DatasetCut, *, model: str, model_digest: str, options: RunOptions) -> Plan:
    """The plan, without writing anything."""
    files = read_layouts(request.dataset)
    partitions = cut(files, request.partition_size_bytes)
    if request.file_limit is not None:
        partitions = partitions[: request.file_limit]
    world_size = request.world_size or len(partitions)
    ranks = distribute(partitions, world_size)
    return Plan(
        run_id=run_identity(files, ranks, model_digest, options),
        dataset=request.dataset,
        model=model,
        model_digest=model_digest,
        options=options,
        partition_size_bytes=request.partition_size_bytes,
        world_size=world_size,
        file_limit=request.file_limit,
        samples=sum(part.samples for part in partitions),
        data_bytes=sum(part.samples * files[part.file].sample_bytes for part in partitions),
        partitions=len(partitions),
        files=files,
        ranks=ranks,
    )


def read_layouts(dataset: str) -> tuple[FileLayout, ...]:
    """Layouts of a `.pt` file, or of all `.pt` files of a folder in natural order (2.pt before 10.pt)."""
    uris = _dataset_files(dataset)
    with ThreadPoolExecutor(min(HEADER_READERS, len(uris))) as readers:
        files = tuple(readers.map(_layout, uris))
    _check_alike(files)
    return files


def _dataset_files(dataset: str) -> list[str]:
    if dataset.endswith(".pt"):
        return [dataset]
    found = sorted((entry.uri for entry in store.list(dataset) if entry.uri.endswith(".pt")), key=_natural)
    if not found:
        raise DatasetError(f"{dataset} is neither a .pt file nor a folder with .pt files in it.")
    if len(found) > MAX_FILES:
        raise DatasetError(f"{dataset} holds {len(found)} files, more than the {MAX_FILES} that one run takes.")
    return found


def _natural(uri: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", uri)]


def _layout(uri: str) -> FileLayout:
    opened = open_tensorfile(uri)
    return FileLayout(
        uri=opened.uri,
        etag=opened.etag,
        size_bytes=opened.size_bytes,
        samples=opened.samples,
        tensors=tuple(opened.tensors.values()),
    )


def _check_alike(files: tuple[FileLayout, ...]) -> None:
    """All files of a dataset must hold the same tensors, or a rank would fail long after the start."""

    def signature(file: FileLayout) -> list[tuple[str, str, tuple[int, ...]]]:
        return [(tensor.name, tensor.dtype, tuple(tensor.shape[1:])) for tensor in file.tensors]

    first = signature(files[0])
    for file in files[1:]:
        if signature(file) != first:
            raise DatasetError(
                f"{file.uri} holds other tensors than {files[0].uri}: {signature(file)} and {first}; "
                "put files of one kind into one folder."
            )


def _write_items(planned: Plan, folder: RunFolder, committed: frozenset[int]) -> None:
    """Items for a Distributed Map: small references into one file, so that no state carries the work itself.

    Ranks that are committed already are left out of the map's items.
    """
    lines: list[bytes] = []
    references: list[dict[str, int | str]] = []
    position = 0
    for item in planned.items():
        line = item.model_dump_json().encode() + b"\n"
        if item.rank not in committed:
            references.append(
                {"rank": item.rank, "items_uri": folder.items_uri, "start": position, "stop": position + len(line)}
            )
        lines.append(line)
        position += len(line)
    store.put(folder.items_uri, b"".join(lines))
    store.put(folder.map_items_uri, json.dumps(references).encode())
