"""Runs a study: every cell as often as asked, in random interleaved order, and never the same cell twice.

Order matters: a machine that slows down during an hour would otherwise make the last batch size look bad. So each
repetition is a random permutation of all cells, and one repetition ends before the next begins. Each measurement is
a file that is written once; starting again goes on where it stopped.
"""

import dataclasses
import json
import os
import platform
import random
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from skyfan import __version__, store
from skyfan.errors import BadInput, Interrupted, RunConflict, SkyfanError
from skyfan.studies.bench.spec import Setting, Study

MEASUREMENT_SCHEMA = "skyfan.measurement/1"
STUDY_FILE = "study.json"


@dataclasses.dataclass(frozen=True, slots=True)
class CellResult:
    """What running one cell gives: the run's summary and its rank records, as their JSON holds them."""

    summary: Mapping[str, Any]
    records: Sequence[Mapping[str, Any]]


@dataclasses.dataclass(frozen=True, slots=True)
class Measurement:
    """One cell, measured once."""

    setting: Setting
    repetition: int
    order: int
    measured_at: str
    summary: Mapping[str, Any]
    records: Sequence[Mapping[str, Any]]

    @property
    def wall_s(self) -> float:
        """The run's wall time."""
        return float(self.summary["timing"]["wall_s"])


# Runs one cell; the second argument is a folder of its own, for whatever the run writes.
RunCell = Callable[[Setting, str], CellResult]
# (measurements done, all of them, the one that comes next)
OnProgress = Callable[[int, int, Setting], None]


def schedule(study: Study, seed: int) -> list[tuple[Setting, int]]:
    """(setting, repetition) in the order of measuring."""
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
    on_progress: OnProgress | None = None,
) -> list[Measurement]:
    """Measures what is missing under `folder` and returns all measurements.

    A cell that fails does not stop the others; it is tried again when the study is started again.

    Raises:
        RunConflict: the folder holds another study, or this one with another seed.
        SkyfanError: cells failed; the message names the first.
    """
    order = schedule(study, seed)
    _claim(study, folder, seed)
    left = [
        (place, setting, repetition)
        for place, (setting, repetition) in enumerate(order)
        if not store.exists(_uri(folder, setting, repetition))
    ]
    if left:
        for number in range(study.warmup):
            run_cell(left[0][1], store.join(folder, "runs", f"warmup-{number}"))
    failures: list[tuple[Setting, SkyfanError]] = []
    for done, (place, setting, repetition) in enumerate(left):
        if on_progress:
            on_progress(len(order) - len(left) + done, len(order), setting)
        try:
            result = run_cell(setting, store.join(folder, "runs", f"{setting.key}-{repetition}"))
        except Interrupted:
            raise
        except SkyfanError as error:
            failures.append((setting, error))
            continue
        store.put_new(_uri(folder, setting, repetition), _to_json(setting, repetition, place, result))
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
        content = json.loads(store.read(info.uri))
        if content.get("schema") != MEASUREMENT_SCHEMA:
            raise BadInput(f"{info.uri} is not a measurement of a study.")
        content.pop("schema")
        found.append(Measurement(**{**content, "setting": Setting.model_validate(content["setting"])}))
    if not found:
        raise BadInput(f"no measurements under {folder}; run the study first.")
    return sorted(found, key=lambda one: one.order)


def environment() -> dict[str, Any]:
    """The machine that measures, as the study's file records it."""
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


def _to_json(setting: Setting, repetition: int, place: int, result: CellResult) -> bytes:
    content = {
        "schema": MEASUREMENT_SCHEMA,
        "setting": setting.model_dump(mode="json"),
        "repetition": repetition,
        "order": place,
        "measured_at": datetime.now(UTC).isoformat(),
        "summary": dict(result.summary),
        "records": [dict(record) for record in result.records],
    }
    return json.dumps(content).encode()
