"""The plan of a run: which samples each rank computes, and the identity of what is computed.

A partition is a range of samples [start, stop) of one file, about `partition_size_bytes` large; it is never
copied. A plan holds every file's tensor layout once, and per rank the spans it owns; `Plan.item(rank)` is the
self-contained piece that travels to an executor, so that no rank reads a header again.
"""

import hashlib
import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import Field, FiniteFloat, StringConstraints, model_validator

from skyfan.job import Job, RunOptions
from skyfan.layout import FileLayout, NonNegative
from skyfan.records import CatalogJoin
from skyfan.validation import Frozen

PLAN_SCHEMA: Literal["skyfan.plan/2"] = "skyfan.plan/2"
ResultsSchema = Literal[1, 2]
RESULTS_SCHEMA: ResultsSchema = 2
"""How a run's results are laid out (`skyfan.runs.folder`); a run keeps the schema that it was begun with."""
_JOB_OF_SCHEMA_1 = ("dataset", "model", "options", "partition_size_bytes", "file_limit")

# A hundred times what one Distributed Map has at work at once, and about what a plan can hold in memory and in one
# file; beyond it the partitions are too small.
MAX_RANKS = 1_000_000
ID_NAMES = frozenset({"id", "object_id", "objectid", "objid", "source_id", "targetid", "specobjid"})
"""Columns that hold object IDs in the catalogues of SDSS, Gaia, DESI, Rubin and others, in small letters."""

RunId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]


class Span(Frozen):
    """Samples [start, stop) of file number `file`; the first of them is sample `first_sample` of the dataset."""

    file: NonNegative
    start: NonNegative
    stop: NonNegative
    first_sample: NonNegative

    @model_validator(mode="after")
    def _holds_samples(self) -> Self:
        if self.start >= self.stop:
            raise ValueError(f"samples {self.start} to {self.stop} are none")
        return self

    @property
    def samples(self) -> int:
        """Number of samples."""
        return self.stop - self.start


class PlanItem(Frozen):
    """The work of one rank, complete in itself. Spans' `file` counts in `files`."""

    rank: int = Field(ge=0)
    world_size: int = Field(ge=1, le=MAX_RANKS)
    files: tuple[FileLayout, ...]
    spans: tuple[Span, ...]
    results_schema: ResultsSchema = RESULTS_SCHEMA

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        """An item comes over the wire too: its spans are samples of its files, and its rank is one of the world."""
        if self.rank >= self.world_size:
            raise ValueError(f"rank {self.rank} is none of {self.world_size} ranks")
        for span in self.spans:
            if span.file >= len(self.files):
                raise ValueError(f"a span is of file {span.file}, but the item has {len(self.files)} files")
            if span.stop > self.files[span.file].samples:
                raise ValueError(f"a span ends at sample {span.stop} of {self.files[span.file].samples}")
        return self

    @property
    def samples(self) -> int:
        """Number of samples of this rank."""
        return sum(span.samples for span in self.spans)

    @property
    def data_bytes(self) -> int:
        """Bytes of all tensors over this rank's samples."""
        return sum(span.samples * self.files[span.file].sample_bytes for span in self.spans)

    @property
    def data_path(self) -> str:
        """What the rank reads, for people: `my.pt[0:1278]`, `a.pt[0:10] (+2 more)`."""
        if not self.spans:
            return ""
        span = self.spans[0]
        more = f" (+{len(self.spans) - 1} more)" if len(self.spans) > 1 else ""
        return f"{self.files[span.file].uri}[{span.start}:{span.stop}]{more}"


class Calibration(Frozen):
    """How intervals are calibrated: on `samples` galaxies of the dataset at `uri`, see `skyfan.science.conformal`.

    `identity` names that dataset's content; `half_width` is in units of 1 + z_pred.
    """

    uri: str
    identity: str
    samples: int = Field(ge=1)
    half_width: FiniteFloat


class Generation(Frozen):
    """What one start with --extend added to a run: files, ranks and samples, each after those before."""

    files: int
    ranks: int
    samples: int


class Plan(Frozen):
    """All ranks' work, and what the run is: the job as it was first asked for, and what its files are.

    `world_size` is the number of ranks, which the job may leave open. `rank_bytes`: about how much data each of them
    has, where they have several partitions because they run on a GPU. `generations` are those of a run that was
    extended, the first one included; its ID stays that of the first.
    """

    schema_: Literal["skyfan.plan/2"] = Field(default=PLAN_SCHEMA, alias="schema")
    run_id: RunId
    job: Job
    model_digest: str
    world_size: int
    samples: int
    data_bytes: int
    partitions: int
    files: tuple[FileLayout, ...]
    ranks: tuple[tuple[Span, ...], ...]
    results_schema: ResultsSchema = RESULTS_SCHEMA
    calibration: Calibration | None = None
    catalog: CatalogJoin | None = None
    generations: tuple[Generation, ...] = ()
    rank_bytes: int | None = Field(default=None, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _of_schema_1(cls, content: Any) -> Any:
        """A plan of schema 1 had the job's parts beside the others."""
        if not isinstance(content, dict) or content.get("schema") != "skyfan.plan/1":
            return content
        kept = {name: value for name, value in content.items() if name not in _JOB_OF_SCHEMA_1}
        asked = {name: content[name] for name in _JOB_OF_SCHEMA_1 if name != "options" and name in content}
        job = {**asked, **content.get("options", {})}
        return {**kept, "schema": PLAN_SCHEMA, "job": job, "results_schema": 1}

    @property
    def id_column(self) -> str | None:
        """The dataset's column of object IDs."""
        return id_column(self.job, self.files[0])

    def item(self, rank: int) -> PlanItem:
        """The self-contained work of `rank`, with only the files it reads."""
        spans = self.ranks[rank]
        used = sorted({span.file for span in spans})
        positions = {file: position for position, file in enumerate(used)}
        return PlanItem(
            rank=rank,
            world_size=self.world_size,
            files=tuple(self.files[file] for file in used),
            spans=tuple(span.model_copy(update={"file": positions[span.file]}) for span in spans),
            results_schema=self.results_schema,
        )

    def items(self) -> Iterator[PlanItem]:
        """Work items of the ranks that have any samples, in rank order."""
        return (self.item(rank) for rank, spans in enumerate(self.ranks) if spans)

    @property
    def rank_samples(self) -> tuple[int, ...]:
        """How many samples each rank has."""
        return tuple(sum(span.samples for span in spans) for spans in self.ranks)

    @property
    def working_ranks(self) -> tuple[int, ...]:
        """Ranks that own samples; with more ranks than partitions the last ones own none."""
        return tuple(rank for rank, spans in enumerate(self.ranks) if spans)


def run_identity(
    files: tuple[FileLayout, ...],
    ranks: tuple[tuple[Span, ...], ...],
    model_digest: str,
    options: RunOptions,
    calibrated_on: str = "",
    catalog_identity: str | None = None,
) -> str:
    """16 hex digits that name what is computed: contents of the files, who computes which samples, model, options.

    `calibrated_on` is the identity of the dataset that intervals are calibrated on (`dataset_identity`): what is
    computed of it differs in its last digits from machine to machine, and is stored with the plan.
    Where the files lie, and where and how fast it runs (backend, workers, threads, output), is no part of it.
    """
    content: dict[str, object] = {
        "files": [file.identity for file in files],
        "ranks": [[(s.file, s.start, s.stop) for s in spans] for spans in ranks],
        "model": model_digest,
        "options": options.model_dump(mode="json"),
        **({"catalog": catalog_identity} if catalog_identity else {}),
    }
    if calibrated_on:
        content["calibrated_on"] = calibrated_on
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def dataset_identity(files: tuple[FileLayout, ...]) -> str:
    """Names the content of these files together."""
    return hashlib.sha256("\n".join(file.identity for file in files).encode()).hexdigest()[:16]


def is_same_run(earlier: Plan, plan: Plan) -> bool:
    """Whether both plans compute the same, so that `plan` may finish what `earlier` began.

    The ID of a plan from before files had identities was made of their paths and versions; such a plan is the same
    run if files, ranks, model and options are the same as then.
    """
    return (earlier.run_id == plan.run_id and len(earlier.files) == len(plan.files)) or (
        (earlier.model_digest, earlier.job.options) == (plan.model_digest, plan.job.options)
        and earlier.job.catalog is plan.job.catalog is None
        and has_same_files(earlier, plan)
        and earlier.ranks == plan.ranks
        and earlier.job.calibrate is None
        and plan.job.calibrate is None
    )


def has_same_files(earlier: Plan, plan: Plan) -> bool:
    """Whether both plans are of the same contents in the same order."""
    return len(earlier.files) == len(plan.files) and all(map(_is_same_file, earlier.files, plan.files))


def _is_same_file(earlier: FileLayout, file: FileLayout) -> bool:
    if earlier.identity:
        return earlier.identity == file.identity
    return (earlier.uri, earlier.etag, earlier.size_bytes) == (file.uri, file.etag, file.size_bytes)


def relocated(earlier: Plan, plan: Plan) -> Plan:
    """The earlier plan of the same run, with the files where they lie now."""
    if list(map(_version, earlier.files)) == list(map(_version, plan.files)) and (
        plan.catalog is None or _catalog_uris(earlier) == _catalog_uris(plan)
    ):
        return earlier
    moved = {"dataset": plan.job.dataset, "model": plan.job.model, "catalog": plan.job.catalog}
    job = earlier.job.model_copy(update=moved)
    return earlier.model_copy(update={"files": plan.files, "job": job})


def _version(file: FileLayout) -> tuple[str, str]:
    return file.uri, file.etag


def _catalog_uris(plan: Plan) -> set[str]:
    """Where a catalogue's columns lie, once they are joined."""
    return {spec.uri for file in plan.files for spec in file.tensors}


def id_column(options: RunOptions, file: FileLayout) -> str | None:
    """The dataset's column of object IDs: the one that the job names, else one with a customary name; None: neither."""
    customary = (spec.name for spec in file.tensors if spec.name.lower() in ID_NAMES and not spec.row_shape)
    return options.id or next(customary, None)
