"""Finds the runs under a folder: every `combined_data.json`, with the summary beside it."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from skyfan import store
from skyfan.errors import BadInput

Record = Mapping[str, Any]

COMBINED = "combined_data.json"
SUMMARY = "summary.json"


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """A run as its folder records it: the rank records and, where it is there, `summary.json`.

    `name` is the folder. Records with a `schema` are Skyfan's (docs/reference/records.md); those without are the
    reference system's, which `skyfan.studies.published` reads.
    """

    name: str
    records: Sequence[Record]
    summary: Mapping[str, Any] | None = None

    @property
    def has_schema(self) -> bool:
        """The records are Skyfan's. One run never holds records of both kinds."""
        return "schema" in self.records[0]

    @property
    def bits(self) -> float:
        """Data bits that the present ranks read."""
        return 8.0 * math.fsum(record["bytes_read"] for record in self.records)

    @property
    def samples(self) -> int:
        """Samples of the present ranks."""
        return sum(int(record["samples"]) for record in self.records)


def find_runs(folder: str) -> list[RecordedRun]:
    """Every run under `folder` (path or URI), in the order of their names; `folder` may be one run's own.

    Raises:
        BadInput: there is no run, a file is not JSON, or a run mixes records with and without a schema.
    """
    uris = {info.uri for info in store.list(folder.rstrip("/"))}
    found = sorted(uri for uri in uris if uri.rsplit("/", 1)[-1] == COMBINED)
    if not found:
        raise BadInput(f"no {COMBINED} under {folder}; give a run's folder or a folder of runs.")
    return [_read_run(uri, uris) for uri in found]


def _read_run(uri: str, uris: set[str]) -> RecordedRun:
    folder = uri.rsplit("/", 1)[0]
    records = _read_json(uri)
    if not isinstance(records, list) or not records or not all(isinstance(record, dict) for record in records):
        raise BadInput(f"{uri} is not a list of rank records.")
    ours = sum("schema" in record for record in records)
    if 0 < ours < len(records):
        raise BadInput(
            f"{uri} mixes {ours} Skyfan records with {len(records) - ours} of the reference system, whose "
            "times and memory mean something else; keep them in separate runs."
        )
    summary = f"{folder}/{SUMMARY}"
    return RecordedRun(folder, records, _read_json(summary) if summary in uris else None)


def _read_json(uri: str) -> Any:
    try:
        return json.loads(store.read(uri))
    except ValueError as error:
        raise BadInput(f"{uri} is not JSON: {error}.") from error
