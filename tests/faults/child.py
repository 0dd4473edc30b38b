"""The process that runs a job and breaks in it; what came of it is left in a file."""

import json
import os
import random
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import skyfan
from skyfan.errors import SkyfanError
from skyfan.events import Event, PhaseStarted, RankCommitted, RankProgress
from skyfan.report import page
from tests.faults.cells import Cell
from tests.faults.faults import DUPLICATE, fault_in_process
from tests.store.faulty_proxy import FaultyProxy

UNEXPECTED = 1
"""What Skyfan never exits with."""


def run_job(
    fields: dict[str, object], cell: Cell | None, seed: int, outcome: Path, environment: dict[str, str]
) -> None:
    """Runs the job, with the cell's fault at its moment; for a process of its own."""
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    log = outcome.with_suffix(".log").open("wb")
    os.dup2(log.fileno(), sys.stderr.fileno())
    os.dup2(log.fileno(), sys.stdout.fileno())
    # The page is drawn in most of a small run's time, and is not what breaks here.
    page.draw_pictures, page.fill_page = lambda *_: None, lambda *_: ""
    job, listener = skyfan.Job.model_validate(fields), _ignore
    if cell:
        rng = random.Random(f"{seed} {cell}")
        listener = Trigger(cell.moment, _fault(cell, job, rng), rng)
    with outcome.open("w") as file:
        _run(job, "local" if cell and cell.target == "local" else "process", listener, file)
        file.flush()
        os._exit(0)


def _run(job: skyfan.Job, on: str, listener: Callable[[Event], None], file: TextIO) -> None:
    try:
        state = skyfan.run(job, on=on, progress=listener).summary.state
        found = {"code": 0 if state == "complete" else 3, "error": ""}
    except SkyfanError as error:
        found = {"code": error.exit_code, "error": str(error)}
    except (MemoryError, OSError) as error:  # the command line makes a sentence of each
        found = {"code": SkyfanError.exit_code, "error": repr(error)}
    except BaseException as error:  # noqa: BLE001 (whatever it is, the cell is red)
        found = {"code": UNEXPECTED, "error": repr(error)}
    for thread in threading.enumerate():
        if thread.name == DUPLICATE:
            thread.join(60)
    json.dump(found, file)


def _ignore(_event: Event) -> None:
    pass


def _fault(cell: Cell, job: skyfan.Job, rng: random.Random) -> Callable[[], None]:
    if cell.target != "s3":
        return fault_in_process(cell.fault, job, rng)
    proxy = FaultyProxy(os.environ["AWS_ENDPOINT_URL"])
    threading.Thread(target=proxy.serve_forever, args=(0.05,), daemon=True).start()
    os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{proxy.server_port}"
    count = {"403": 10**6, "hang": 1}.get(cell.fault, rng.randint(1, 3))
    return lambda: proxy.first(count, cell.fault, "PUT" if cell.fault in ("409", "412") else "")


@dataclass
class Trigger:
    """Listens to the run and lets the fault happen at its moment; at a commit, at one of the first."""

    moment: str
    fault: Callable[[], None]
    rng: random.Random
    happened: bool = False
    _left: int = field(init=False)

    def __post_init__(self) -> None:
        self._left = self.rng.randint(1, 3) if self.moment in ("committed", "within") else 1

    def __call__(self, event: Event) -> None:
        if self.happened or not self._is_it(event):
            return
        self._left -= 1
        if not self._left:
            self.happened = True
            self.fault()

    def _is_it(self, event: Event) -> bool:
        match event:
            case PhaseStarted(name):
                return name == self.moment
            case RankProgress(_, done, total):
                return self.moment == "within" and done < total
            case RankCommitted():
                return self.moment == "committed"
        return False
