"""Runs cells: one process that breaks, one that runs the same job again, and the oracle after each."""

import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

import boto3
import psutil

from skyfan import store
from tests.faults import child
from tests.faults.cells import Cell
from tests.faults.faults import FILLER
from tests.faults.oracle import look, wrong_after_first, wrong_after_second

SAMPLES, RANKS = 24, 6
BUCKET = "faults"
LIMIT_S = 120.0
_ENDED_S = 12.0
_SMALL_DISK = "size=4m"
_NO_CODE = None
# What the processes of cells need, imported once; nothing of it starts threads before it is used.
_PRELOADED = (
    "tests.faults.child",
    "skyfan.backends.process",
    "skyfan.engines.openvino_engine",
    "torch",
    "skyfan.report.page",
)


@dataclass
class Matrix:
    """Where cells run, and what they run: a dataset, a model, what the model says of it, an S3 server's environment."""

    folder: Path
    dataset: Path
    model: Path
    environment: dict[str, str]
    expected: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._processes = multiprocessing.get_context("forkserver")
        self._processes.set_forkserver_preload(list(_PRELOADED))
        if not self.expected:
            with self._cell_folder("reference") as folder:
                job = self._job(folder, "process")
                self._run(job, None, 0, folder / "first")
                self.expected = look(str(job["output"])).values

    def run(self, cell: Cell, seed: int) -> list[str]:
        """What is wrong after the cell; nothing where it is green."""
        with self._cell_folder(str(cell).replace("/", "-"), small_disk=cell.fault == "disk") as folder:
            job = self._job(folder, cell.target)
            with contextlib.ExitStack() as stack:
                first = stack.enter_context(self._started(job, cell, seed, folder / "first"))
                zombies = self._until_stopped(first) and cell.fault == "zombie"
                if zombies:
                    self._run(job, None, seed, folder / "while")
                self._thaw(first)
                code, error = self._ended(first, folder / "first")
            wrong = [] if error is None else [f"{code}: {error}"] if code == child.UNEXPECTED else []
            before = look(str(job["output"]))
            wrong += wrong_after_first(before, code, self.expected)
            wrong += self._left_over(folder, killed=code is None)
            self._undo(folder, job)
            again, _ = self._run(job, None, seed, folder / "second")
            after = look(str(job["output"]))
            return wrong + wrong_after_second(before, after, again, self.expected)

    def _job(self, folder: Path, target: str) -> dict[str, object]:
        here = folder / "data.pt"
        shutil.copy(self.dataset, here)
        dataset, output = str(here), str(folder / "disk" / "run")
        if target == "s3":
            dataset, output = f"s3://{BUCKET}/{folder.name}/data.pt", f"s3://{BUCKET}/{folder.name}/run"
            store.copy_in(here, dataset)
        return {"dataset": dataset, "model": str(self.model), "output": output, "world_size": RANKS,
                "partition_size": 4 * 20504 + 2048, "batch_size": 2}  # fmt: skip

    def _run(
        self, job: dict[str, object], cell: Cell | None, seed: int, outcome: Path
    ) -> tuple[int | None, str | None]:
        with self._started(job, cell, seed, outcome) as process:
            return self._ended(process, outcome)

    @contextlib.contextmanager
    def _started(self, job: dict[str, object], cell: Cell | None, seed: int, outcome: Path) -> Iterator[BaseProcess]:
        temporary = outcome.parent / "tmp"
        temporary.mkdir(exist_ok=True)
        environment = {**self.environment, "TMPDIR": str(temporary), "SKYFAN_THREADS": "1"}
        process = self._processes.Process(target=child.run_job, args=(job, cell, seed, outcome, environment))
        process.start()
        try:
            yield process
        finally:
            if process.is_alive():
                process.kill()
                process.join()

    @staticmethod
    def _ended(process: BaseProcess, outcome: Path) -> tuple[int | None, str | None]:
        """Exit code and error; no code where the process was killed or did not end."""
        process.join(LIMIT_S)
        if process.is_alive():
            return child.UNEXPECTED, f"no end within {LIMIT_S:.0f} s"
        text = outcome.read_text() if outcome.exists() else ""
        if process.exitcode != 0 or not text:
            return _NO_CODE, f"exit code {process.exitcode}"
        found = json.loads(text)
        return found["code"], found["error"]

    @staticmethod
    def _until_stopped(process: BaseProcess) -> bool:
        """Waits until the process has ended or stopped itself; whether it has stopped."""
        deadline = time.monotonic() + LIMIT_S
        while process.is_alive() and time.monotonic() < deadline:
            with contextlib.suppress(psutil.Error):
                if psutil.Process(process.pid).status() == psutil.STATUS_STOPPED:
                    return True
            process.join(0.05)
        return False

    @staticmethod
    def _thaw(process: BaseProcess) -> None:
        if process.is_alive() and process.pid:
            os.kill(process.pid, signal.SIGCONT)

    def _left_over(self, folder: Path, *, killed: bool) -> list[str]:
        """Processes, temporary files and uploads that should be gone; a killed driver leaves its own files."""
        mine = str(folder / "tmp")
        deadline = time.monotonic() + _ENDED_S
        while (alive := _processes_of(mine)) and time.monotonic() < deadline:
            time.sleep(0.1)
        wrong = [f"process {line} is left" for line in alive]
        if not killed:
            wrong += [f"{path} is left" for path in (folder / "tmp").iterdir()]
            wrong += [f"{path} is left" for path in (folder / "disk").rglob("*.skyfan-tmp")]
        uploads = self._s3().list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
        return wrong + [f"upload of {upload['Key']} is left" for upload in uploads]

    def _s3(self):  # boto3's clients have no types of their own
        return boto3.client("s3", endpoint_url=self.environment["AWS_ENDPOINT_URL"], region_name="us-east-1")

    def _undo(self, folder: Path, job: dict[str, object]) -> None:
        """What a user does before running again: makes room, brings the data back."""
        (folder / "disk" / FILLER).unlink(missing_ok=True)
        if not str(job["dataset"]).startswith("s3://"):
            shutil.copy(self.dataset, str(job["dataset"]))

    @contextlib.contextmanager
    def _cell_folder(self, name: str, *, small_disk: bool = False) -> Iterator[Path]:
        """A folder for one cell, with a small file system of its own where it is to be full."""
        folder = self.folder / f"{name}-{time.monotonic_ns()}"
        disk = folder / "disk"
        disk.mkdir(parents=True)
        if small_disk:
            subprocess.run(["mount", "-t", "tmpfs", "-o", _SMALL_DISK, "tmpfs", str(disk)], check=True)
        try:
            yield folder
        finally:
            if small_disk:
                subprocess.run(["umount", str(disk)], check=True)
            shutil.rmtree(folder)


def _processes_of(temporary: str) -> list[str]:
    """Processes whose temporary folder is the cell's."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("TMPDIR") == temporary and process.status() != psutil.STATUS_ZOMBIE:
                found.append(f"{process.pid} {' '.join(process.cmdline())}")
    return found
