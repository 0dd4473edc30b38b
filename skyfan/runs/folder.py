"""Where everything of one run lies, and how its documents are read.

<output>/plan.json                         the plan; written once, claims the output
<output>/plan-2.json, …                    the plan with a second generation of files (--extend), claimed like
                                           plan.json, which is then a copy of the last
<output>/items.jsonl, items.json           the same work as items for a Distributed Map
<output>/starts/start-<start>.json         one start of the run for a scheduler's array, and the ranks that it has to do
<output>/starts/todo-<start>.json          (`skyfan.stages.starts`)
<output>/failures/<start>/rank-0000003-1.json  why rank 3 of that start failed for the first time
<output>/catalog/<digest>.npy               with --catalog: its columns, one row a sample; written once
<output>/model/<sha256>.safetensors        the AstroMAE that ranks load, where it had to be converted
<output>/model/<sha256>/engine.json        of any other model: the engine that was chosen and the files that it loads
<output>/predictions/rank-0000003.parquet  of rank 3, written once: this put is the rank's commit. Seven digits, so that
                                           the order of names is the dataset's; runs of schema 1 have `rank-3.parquet`
<output>/<rank>.json                       the rank record, derived from the Parquet footer; with --collectives
                                           it also has what was learned from other ranks after the commit
<output>/comm/                             messages of ranks that meet here; gone when the last one left
<output>/combined_data.json                all rank records
<output>/summary.json, report.html         the run
"""

import json
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from skyfan import store
from skyfan.errors import LocationError
from skyfan.planning import RESULTS_SCHEMA, Plan, ResultsSchema
from skyfan.records import Summary
from skyfan.validation import first_problem

B = TypeVar("B", bound=BaseModel)


@dataclass(frozen=True)
class RunFolder:
    """The files of one run under `uri`; `results_schema` is that of its plan."""

    uri: str
    results_schema: ResultsSchema = RESULTS_SCHEMA

    @property
    def plan_uri(self) -> str:
        """plan.json."""
        return store.join(self.uri, "plan.json")

    def generation_uri(self, number: int) -> str:
        """The plan of generation `number`, 2 or later."""
        return store.join(self.uri, f"plan-{number}.json")

    @property
    def items_uri(self) -> str:
        """The plan's items, one JSON line a rank."""
        return store.join(self.uri, "items.jsonl")

    @property
    def map_items_uri(self) -> str:
        """What a Distributed Map's ItemReader reads: a JSON array of byte ranges of `items_uri`."""
        return store.join(self.uri, "items.json")

    @property
    def summary_uri(self) -> str:
        """summary.json."""
        return store.join(self.uri, "summary.json")

    @property
    def combined_uri(self) -> str:
        """combined_data.json."""
        return store.join(self.uri, "combined_data.json")

    @property
    def report_uri(self) -> str:
        """report.html."""
        return store.join(self.uri, "report.html")

    @property
    def starts_uri(self) -> str:
        """The folder of the run's starts for a scheduler's array."""
        return store.join(self.uri, "starts")

    def start_uri(self, start: str) -> str:
        """What every task of that start reads."""
        return store.join(self.starts_uri, f"start-{start}.json")

    def todo_uri(self, start: str) -> str:
        """The ranks that that start has to do."""
        return store.join(self.starts_uri, f"todo-{start}.json")

    def failures_uri(self, start: str) -> str:
        """The folder of that start's failure files."""
        return store.join(self.uri, "failures", start)

    def model_uri(self, digest: str) -> str:
        """The model that was converted from the file of this SHA-256."""
        return store.join(self.uri, "model", f"{digest}.safetensors")

    def catalog_uri(self, digest: str) -> str:
        """The columns of a catalogue, joined."""
        return store.join(self.uri, "catalog", f"{digest}.npy")

    def engine_uri(self, digest: str) -> str:
        """The engine of this run for the model of this SHA-256, see `skyfan.models.converted`."""
        return store.join(self.uri, "model", digest, "engine.json")

    def record_uri(self, rank: int) -> str:
        """<rank>.json."""
        return store.join(self.uri, f"{rank}.json")

    def predictions_uri(self, rank: int) -> str:
        """The rank's Parquet file."""
        number = f"{rank}" if self.results_schema == 1 else f"{rank:07d}"
        return store.join(self.uri, "predictions", f"rank-{number}.parquet")

    def read_plan(self) -> Plan:
        """The plan of this run.

        Raises:
            LocationError: there is none, or it is damaged.
        """
        try:
            content = store.read(self.plan_uri)
        except store.NotFound as error:
            raise LocationError(f"{self.uri} holds no run (no plan.json): {error}") from error
        return parse_document(self.plan_uri, content, Plan)

    def read_summary(self) -> Summary | None:
        """The summary of this run; None where none was written."""
        if not store.exists(self.summary_uri):
            return None
        cure = "remove it, and the same skyfan run command writes it again"
        return parse_document(self.summary_uri, store.read(self.summary_uri), Summary, cure)


def parse_document(uri: str, content: bytes, kind: type[B], cure: str = "choose another --output") -> B:
    """The document of this kind; `cure` is what the user can do where it is none.

    Raises:
        LocationError: it is damaged or of another version.
    """
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        raise LocationError(
            f"{uri} is damaged or of another version of Skyfan ({first_problem(error).rstrip('.')}); {cure}."
        ) from error


def json_bytes(value: object) -> bytes:
    """Indented JSON with a final newline."""
    return json.dumps(value, indent=2).encode() + b"\n"


def write_json(uri: str, value: object) -> None:
    """Writes indented JSON atomically."""
    store.put(uri, json_bytes(value))
