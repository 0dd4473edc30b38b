"""The ranks' work as it lies in a run's folder: items.jsonl, and byte ranges of it in items.json.

A Distributed Map takes its items from there, and so does a rank over gRPC whose item is too large for a message.
"""

import json

from skyfan import store
from skyfan.errors import LocationError
from skyfan.planning import Plan, PlanItem
from skyfan.runs.folder import RunFolder
from skyfan.stages.messages import InferByReference, InferRequest, ItemReference


def write_items(planned: Plan, folder: RunFolder, committed: frozenset[int]) -> None:
    """Items for a Distributed Map: small references into one file, so that no state carries the work itself.

    Ranks that are committed already are left out of the map's items; `group_rank` counts the others.
    """
    lines: list[bytes] = []
    references: list[ItemReference] = []
    position = 0
    for item in planned.items():
        line = item.model_dump_json().encode() + b"\n"
        if item.rank not in committed:
            references.append(
                ItemReference(
                    rank=item.rank,
                    group_rank=len(references),
                    items_uri=folder.items_uri,
                    start=position,
                    stop=position + len(line),
                )
            )
        lines.append(line)
        position += len(line)
    store.put(folder.items_uri, b"".join(lines))
    store.put(folder.map_items_uri, json.dumps([reference.model_dump() for reference in references]).encode())


def ranks_to_compute(folder: RunFolder) -> frozenset[int]:
    """The ranks that were not committed when the run was last planned."""
    return frozenset(reference["rank"] for reference in json.loads(store.read(folder.map_items_uri)))


def by_reference(request: InferRequest) -> InferByReference:
    """The same request without the item itself.

    Raises:
        LocationError: the run was planned again meanwhile, and this rank was committed by then.
    """
    folder, rank = RunFolder(request.job.output), request.item.rank
    found = (one for one in json.loads(store.read(folder.map_items_uri)) if one["rank"] == rank)
    reference = next(found, None)
    if reference is None:
        raise LocationError(f"{folder.map_items_uri} has no rank {rank}: another start of this run committed it.")
    return InferByReference(item=ItemReference.model_validate(reference), **request.beside_item())


def read_item(reference: ItemReference) -> PlanItem:
    """The work of one rank, as it was planned."""
    return PlanItem.model_validate_json(store.read_range(reference.items_uri, reference.start, reference.stop))
