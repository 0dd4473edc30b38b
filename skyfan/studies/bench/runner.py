"""Runs a cell of a study for real: prepares the data that its setting asks for, starts a run, keeps its records."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from skyfan import store
from skyfan.curation import upload
from skyfan.errors import BadInput, LocationError
from skyfan.formats.dataset import read_layouts
from skyfan.job import WHOLE_FILES, Job
from skyfan.records import Summary
from skyfan.runs.commit import RunLedger
from skyfan.stages.partition_files import write_partitions
from skyfan.studies.bench.measurements import CellResult
from skyfan.studies.bench.study import Setting

# Runs a job on a target by its name.
Execute = Callable[[Job, str], Summary]


class PipelineRunner:
    """A study's `run_cell`: each call is one run of the pipeline.

    Data are prepared once a variant, under `<work>/data`: repeated by hard links, split into files, copied to S3.
    """

    def __init__(self, dataset: str, model: str, work: str, execute: Execute, s3: str | None = None) -> None:
        """`work` is a local folder; `s3` a prefix, needed where a setting's place is S3."""
        self._dataset, self._model, self._work, self._execute, self._s3 = dataset, model, Path(work), execute, s3

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
        summary = self._execute(job, setting.on)
        records = [
            RunLedger(summary.output).read_record(rank, summary.run_id).to_json_dict()
            for rank in sorted(RunLedger(summary.output).committed_ranks())
        ]
        return CellResult(summary.to_json_dict(), records)

    def _data(self, setting: Setting) -> str:
        place = self._dataset
        if setting.repeat > 1:
            place = self._once(f"{setting.repeat}x", lambda folder: self._repeat(folder, setting.repeat))
        if setting.layout == "many":
            source = place
            name = f"{setting.repeat}x-{setting.partition_size}"
            place = self._once(name, lambda folder: self._split(source, folder, setting.partition_size))
        if setting.place == "s3":
            place = self._to_s3(place)
        return place

    def _once(self, name: str, prepare: Callable[[Path], None]) -> str:
        """A prepared folder; made under another name first, so that half a preparation is never used."""
        folder = self._work / "data" / name
        if not folder.exists():
            half = folder.with_name(f"{name}.part")
            shutil.rmtree(half, ignore_errors=True)
            half.mkdir(parents=True)
            prepare(half)
            half.rename(folder)
        return str(folder)

    def _repeat(self, folder: Path, times: int) -> None:
        number = 0
        for _ in range(times):
            for path in self._local_files():
                number += 1
                _link(path, folder / f"{number}.pt")

    def _local_files(self) -> Iterator[Path]:
        files = [Path(layout.uri.removeprefix("file://")) for layout in read_layouts(self._dataset)]
        if not all(path.exists() for path in files):
            raise BadInput(f"a dataset can only be repeated from local .pt files; {self._dataset} is not such.")
        yield from files

    def _split(self, source: str, folder: Path, partition_size: str) -> None:
        size = Job(dataset=source, partition_size=partition_size).partition_size
        write_partitions(source, size, str(folder), lambda _done, _all: None)

    def _to_s3(self, place: str) -> str:
        if not self._s3:
            raise LocationError(
                "this study measures S3; name a prefix to copy the data to, by --s3 s3://bucket/prefix."
            )
        if place.startswith("s3://"):
            return place
        target = store.join(self._s3, Path(place).name)
        upload(place, target)
        return target


def _link(source: Path, target: Path) -> None:
    """A hard link, so that repeating costs no space; a copy where links cannot be (another disk)."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
