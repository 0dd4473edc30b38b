"""One start of a planned run for a scheduler's array: what its tasks need to know, and which ranks are theirs.

`starts/start-<start>.json` holds the job and the model; every task reads it. `starts/todo-<start>.json` is a JSON array
of the ranks that were not committed when the run was planned, as references to their items. All its entries have the
same number of bytes, so that a task of a million reads its own and no other.
"""

import bisect
import json
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from skyfan import store
from skyfan.errors import BadInput, LocationError
from skyfan.job import DEMO_MODEL, Job
from skyfan.planning import RunId
from skyfan.runs.folder import RunFolder, parse_document, write_json
from skyfan.stages.items import read_item
from skyfan.stages.messages import InferRequest, ItemReference, ModelFile
from skyfan.validation import Frozen

START_SCHEMA: Literal["skyfan.start/1"] = "skyfan.start/1"
StartName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,79}$")]
"""A part of file names; the name of a Step Functions execution is one."""
_BEGIN, _BETWEEN, _END = b"[\n", b",\n", b"\n]\n"


class Start(Frozen):
    """`start-<name>.json`: `ranks` are to be done by the tasks of the scheduler that is called `target`.

    `entry_bytes` is the length of each entry of the list of ranks.
    """

    schema_: Literal["skyfan.start/1"] = Field(START_SCHEMA, alias="schema")
    name: StartName
    run_id: RunId
    job: Job
    model: ModelFile
    target: str
    planned_at: datetime
    plan_s: float = Field(0.0, ge=0)
    ranks: int = Field(ge=0)
    entry_bytes: int = Field(ge=0)


def new_start_name() -> str:
    """When it was planned, and something that no other start of that second has."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(2)}"


def write_start(
    job: Job, run_id: str, model: ModelFile, *, target: str, name: str | None = None, plan_s: float = 0.0
) -> Start:
    """Leaves what the tasks read, for the ranks that the plan left to do; the plan and the model are there already.

    The same call again, as by a retry, is not an error.

    Raises:
        LocationError: there is another start of this name, or the output cannot be written.
    """
    folder = RunFolder(job.output)
    references = json.loads(store.read(folder.map_items_uri))
    lines = [json.dumps(reference).encode() for reference in references]
    width = max(map(len, lines), default=0)
    start = Start(
        name=name or new_start_name(),
        run_id=run_id,
        job=job,
        model=_located(model, store.canonical),
        target=target,
        planned_at=datetime.now(UTC),
        plan_s=plan_s,
        ranks=len(lines),
        entry_bytes=width,
    )
    todo = _BEGIN + _BETWEEN.join(line.ljust(width) for line in lines) + _END
    try:
        store.put_new(folder.todo_uri(start.name), todo)
    except store.AlreadyExists:  # an attempt of the same step, which may have ended between the two files
        if store.read(folder.todo_uri(start.name)) != todo:
            raise
    write_json(folder.start_uri(start.name), start.model_dump(mode="json", by_alias=True))
    return start


def read_start(folder: RunFolder, name: str | None = None) -> Start:
    """The start of this name, or the newest one.

    Raises:
        LocationError: there is none; the sentence says how to make one.
    """
    if name is not None:
        return _read(folder, folder.start_uri(name))
    prefix = f"{store.canonical(folder.starts_uri)}/start-"
    found = [entry.uri for entry in store.list(folder.starts_uri) if entry.uri.startswith(prefix)]
    if not found:
        raise LocationError(
            f"{folder.uri} was not planned for an array; run `skyfan plan --dataset DATA --output {folder.uri} --write`"
            " first."
        )
    return max((_read(folder, uri) for uri in found), key=lambda start: start.planned_at)


def _read(folder: RunFolder, uri: str) -> Start:
    try:
        content = store.read(uri)
    except store.NotFound as error:
        raise LocationError(
            f"{folder.uri} has no such start ({error}); `skyfan plan --write` prints its name."
        ) from error
    return parse_document(uri, content, Start)


def entry(folder: RunFolder, start: Start, position: int) -> ItemReference:
    """The rank at this position of the list of ranks to do.

    Raises:
        BadInput: the list is shorter.
    """
    if not 0 <= position < start.ranks:
        raise BadInput(f"task {position} has no rank: {start.ranks} are to do in start {start.name}, counted from 0.")
    first = len(_BEGIN) + position * (start.entry_bytes + len(_BETWEEN))
    content = store.read_range(folder.todo_uri(start.name), first, first + start.entry_bytes)
    found = parse_document(folder.todo_uri(start.name), content, ItemReference)
    # Where the run's folder is for this process, which may have been planned on another machine.
    return found.model_copy(update={"items_uri": folder.items_uri})


def ranks_of(folder: RunFolder, start: Start) -> frozenset[int]:
    """All ranks that the start had to do."""
    return frozenset(reference["rank"] for reference in json.loads(store.read(folder.todo_uri(start.name))))


def position_of(folder: RunFolder, start: Start, rank: int) -> int | None:
    """The position of a rank in the list; None where it was committed before this start."""
    position = bisect.bisect_left(range(start.ranks), rank, key=lambda at: entry(folder, start, at).rank)
    return position if position < start.ranks and entry(folder, start, position).rank == rank else None


def infer_request(folder: RunFolder, start: Start, reference: ItemReference, attempt: int) -> InferRequest:
    """What a rank of this start is asked.

    Raises:
        LocationError: the run was planned again since, with its files at other places.
    """
    try:
        item = read_item(reference)
    except ValueError:  # half of one item and half of another
        item = None
    if item is None or item.rank != reference.rank:
        raise LocationError(
            f"{reference.items_uri} was planned again since start {start.name}; submit the newest start instead."
        )
    planned_at = f"{store.canonical(start.job.output)}/"

    def here(uri: str) -> str:
        """A file in the run's folder, where that is for this process."""
        return store.join(folder.uri, uri.removeprefix(planned_at)) if uri.startswith(planned_at) else uri

    model = _located(start.model, here)
    job = start.job.model_copy(update={"output": folder.uri})
    return InferRequest(run_id=start.run_id, job=job, item=item, model=model, attempt=attempt)


def _located(model: ModelFile, place: Callable[[str], str]) -> ModelFile:
    """The model, or each of several, with its file's URI as `place` gives it; the packaged one has none."""
    uri = model.uri if model.uri in ("", DEMO_MODEL) else place(model.uri)
    return model.model_copy(update={"uri": uri, "parts": tuple(_located(part, place) for part in model.parts)})
