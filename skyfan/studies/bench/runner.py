"""Runs a cell of a study: prepares the data of its setting, runs the job, returns summary and records."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from skyfan import store
from skyfan.api import Job, Run, run
from skyfan.curation import upload
from skyfan.errors import BadInput, LocationError
from skyfan.events import unwatched
from skyfan.formats.dataset import read_layouts
from skyfan.job import WHOLE_FILES
from skyfan.stages.partition_files import write_partitions
from skyfan.studies.bench.measurements import CellResult
from skyfan.studies.bench.study import Setting

# So many samples take several seconds on any machine, longer than starting executors does: inference dominates.
QUICK_SAMPLES = 8192

RunJob = Callable[[Job, str], Run]
"""Runs a job on the backend of that name."""


def _run_silently(job: Job, on: str) -> Run:
    return run(job, on=on, progress=False)


class PipelineRunner:
    """A study's `run_cell`: each call is one run of the pipeline.

    Each variant of the data is prepared once, under `<work>/data`: repeated by hard links, split into files, copied
    to S3.
    """

    def __init__(
        self, dataset: str, model: str, work: str, s3: str | None = None, run_job: RunJob = _run_silently
    ) -> None:
        """`work` is a local folder; `s3` is a prefix, needed if a setting reads from S3."""
        self._dataset, self._model, self._work, self._s3, self._run_job = dataset, model, Path(work), s3, run_job

    def __call__(self, setting: Setting, folder: str) -> CellResult:
        """Runs the setting with its output under `folder`.

        Raises:
            SkyfanError: the run failed, or its data cannot be prepared.
        """
        whole = setting.layout == "many"
        job = Job(
            dataset=self._data(setting),
            output=folder,
            model=self._model,
            batch_size=setting.batch_size,
            partition_size=WHOLE_FILES if whole else setting.partition_size,
            world_size=setting.world_size,
            file_limit=setting.file_limit,
            workers=setting.workers,
            resume=False,  # a measurement that reuses an earlier one's work measures nothing
        )
        finished = self._run_job(job, setting.on)
        return CellResult(finished.summary.to_json_dict(), [record.to_json_dict() for record in finished.records])

    def _data(self, setting: Setting) -> str:
        data = self._dataset
        if setting.repeat > 1:
            data = self._once(f"{setting.repeat}x", lambda folder: self._repeat(folder, setting.repeat))
        if setting.layout == "many":
            source = data
            name = f"{setting.repeat}x-{setting.partition_size}"
            data = self._once(name, lambda folder: self._split(source, folder, setting.partition_size))
        if setting.place == "s3":
            data = self._to_s3(data)
        return data

    def _once(self, name: str, prepare: Callable[[Path], None]) -> str:
        """A prepared folder; it is made under another name first, so that an interrupted preparation is never used."""
        folder = self._work / "data" / name
        if not folder.exists():
            half = folder.with_name(f"{name}.part")
            shutil.rmtree(half, ignore_errors=True)
            half.mkdir(parents=True)
            prepare(half)
            half.rename(folder)
        return str(folder)

    def _repeat(self, folder: Path, times: int) -> None:
        for number, path in enumerate(self._local_files() * times, start=1):
            _link(path, folder / f"{number}.pt")

    def _local_files(self) -> list[Path]:
        files = [Path(layout.uri.removeprefix("file://")) for layout in read_layouts(self._dataset)]
        if not all(path.exists() for path in files):
            raise BadInput(f"a dataset can only be repeated from local .pt files; {self._dataset} is not such.")
        return files

    def _split(self, source: str, folder: Path, partition_size: str) -> None:
        size = Job(dataset=source, partition_size=partition_size).partition_size
        write_partitions(source, size, str(folder), unwatched)

    def _to_s3(self, data: str) -> str:
        if not self._s3:
            raise LocationError(
                "this study measures S3; name a prefix to copy the data to, by --s3 s3://bucket/prefix."
            )
        if data.startswith("s3://"):
            return data
        target = store.join(self._s3, Path(data).name)
        upload(data, target)
        return target


def quick_repeats(dataset: str) -> int:
    """How many times a small local dataset is taken, so that a short study measures inference; 1 for all others."""
    layouts = read_layouts(dataset)
    if not all(Path(layout.uri.removeprefix("file://")).exists() for layout in layouts):
        return 1
    return max(1, -(-QUICK_SAMPLES // sum(layout.samples for layout in layouts)))


def _link(source: Path, target: Path) -> None:
    """A hard link, so that repeating costs no space; a copy where links cannot be (another disk)."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
