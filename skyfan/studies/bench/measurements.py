"""Measures a study: every cell as often as the study asks, in random interleaved order.

The order matters: on a machine that slows down during an hour, the batch size that is measured last would look slow.
So each repetition is a random permutation of all cells, and one repetition ends before the next begins. Each
measurement is a file that is written once; a second start measures only what is missing.
"""

import dataclasses
import json
import os
import platform
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import Field, ValidationError

from skyfan import store
from skyfan._version import __version__
from skyfan.errors import BadInput, Interrupted, RunConflict, SkyfanError
from skyfan.studies.bench.study import Setting, Study
from skyfan.validation import Frozen, first_problem

STUDY_FILE = "study.json"


@dataclasses.dataclass(frozen=True, slots=True)
class CellResult:
    """The result of running one cell: the run's summary and its rank records, as their JSON holds them."""

    summary: Mapping[str, Any]
    records: Sequence[Mapping[str, Any]]


class Measurement(Frozen):
    """One cell, measured once; a file of the study holds its JSON."""

    schema_: Literal["skyfan.measurement/1"] = Field(default="skyfan.measurement/1", alias="schema")
    setting: Setting
    repetition: int
    order: int
    measured_at: str
    summary: Mapping[str, Any]
    records: Sequence[Mapping[str, Any]]

    @property
    def wall_s(self) -> float:
        """Wall seconds of the run."""
        return float(self.summary["timing"]["wall_s"])

    @property
    def samples_per_s(self) -> float:
        """Samples ÷ wall seconds of the run."""
        return sum(int(record["samples"]) for record in self.records) / self.wall_s

    @property
    def bytes_read(self) -> int:
        """Bytes that all ranks read."""
        return sum(int(record["bytes_read"]) for record in self.records)

    @property
    def bits_per_s(self) -> float:
        """Bits that all ranks read ÷ wall seconds of the run."""
        return 8 * self.bytes_read / self.wall_s

    @property
    def peak_rss_bytes(self) -> int:
        """Peak resident memory of the rank that needed most."""
        return max(int(record["peak_rss_bytes"]) for record in self.records)

    @property
    def batch_s(self) -> float:
        """Mean over ranks of the seconds per batch."""
        return self.rank_mean("execution_time (seconds/batch)")

    def rank_mean(self, key: str) -> float:
        """Mean over ranks of a value of their records."""
        return statistics.fmean(record[key] for record in self.records)


RunCell = Callable[[Setting, str], CellResult]
"""Runs one cell; the second argument is a folder of its own for everything that the run writes."""
ShowProgress = Callable[[int, int, Setting], None]
"""Called with (measurements done, measurements in all, the setting that is measured next)."""


def schedule(study: Study, seed: int) -> list[tuple[Setting, int]]:
    """(setting, repetition) in the order in which `run_study` measures them; the same `seed` gives the same order."""
    shuffle = random.Random(seed)  # noqa: S311 - an order, not a secret
    order = []
    for repetition in range(1, study.repetitions + 1):
        settings = study.settings()
        shuffle.shuffle(settings)
        order += [(setting, repetition) for setting in settings]
    return order


def run_study(
    study: Study,
    folder: str,
    run_cell: RunCell,
    *,
    seed: int = 0,
    progress: ShowProgress | None = None,
) -> list[Measurement]:
    """Measures what is missing under `folder` (path or URI) and returns all measurements.

    A cell that fails does not stop the others; the next start of the study tries it again.

    Raises:
        RunConflict: the folder holds another study, or this one with another seed.
        SkyfanError: cells failed; the message names the first.
        Interrupted: the user stopped a run; finished measurements are kept.
    """
    order = schedule(study, seed)
    _claim(study, folder, seed)
    left = [
        (position, setting, repetition)
        for position, (setting, repetition) in enumerate(order)
        if not store.exists(_uri(folder, setting, repetition))
    ]
    if left:
        for number in range(study.warmup):
            run_cell(left[0][1], store.join(folder, "runs", f"warmup-{number}"))
    failures: list[tuple[Setting, SkyfanError]] = []
    for done, (position, setting, repetition) in enumerate(left):
        if progress:
            progress(len(order) - len(left) + done, len(order), setting)
        try:
            result = run_cell(setting, store.join(folder, "runs", f"{setting.key}-{repetition}"))
        except Interrupted:
            raise
        except SkyfanError as error:
            failures.append((setting, error))
            continue
        measured = Measurement(
            setting=setting,
            repetition=repetition,
            order=position,
            measured_at=datetime.now(UTC).isoformat(),
            summary=result.summary,
            records=result.records,
        )
        store.put_new(_uri(folder, setting, repetition), measured.model_dump_json(by_alias=True).encode())
    if failures:
        setting, first = failures[0]
        raise SkyfanError(
            f"{len(failures)} of {len(order)} measurements of study {study.name} failed, the first with "
            f"{setting.differs_from(Setting()) or 'the defaults'}: {first}"
        )
    return read_measurements(folder)


def read_measurements(folder: str) -> list[Measurement]:
    """All measurements under a study's folder, in the order of measuring.

    Raises:
        BadInput: there is none, or a file is not a measurement.
    """
    found = []
    for info in store.list(store.join(folder, "cells")):
        try:
            found.append(Measurement.model_validate_json(store.read(info.uri)))
        except ValidationError as error:
            raise BadInput(f"{info.uri} is not a measurement of a study: {first_problem(error)}") from error
    if not found:
        raise BadInput(f"no measurements under {folder}; run the study first.")
    return sorted(found, key=lambda one: one.order)


def environment() -> dict[str, Any]:
    """This machine and the software on it, as `study.json` records them."""
    return {
        "skyfan": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
    }


def _claim(study: Study, folder: str, seed: int) -> None:
    """Marks the folder as this study's, or checks that it is."""
    wanted = {"study": study.model_dump(mode="json"), "seed": seed}
    uri = store.join(folder, STUDY_FILE)
    try:
        store.put_new(uri, json.dumps({**wanted, "environment": environment()}, indent=2).encode())
    except store.AlreadyExists:
        known = json.loads(store.read(uri))
        if {"study": known["study"], "seed": known["seed"]} != wanted:
            raise RunConflict(f"{folder} holds another study or seed; choose another --output.") from None


def _uri(folder: str, setting: Setting, repetition: int) -> str:
    return store.join(folder, "cells", f"{setting.key}-{repetition}.json")
