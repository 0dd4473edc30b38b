"""The front door: everything that a program or a notebook needs, and all that is public.

>>> import skyfan
>>> job = skyfan.Job(dataset="sky.pt", world_size=2)      # the packaged model; model="my_checkpoint.pt" takes yours
>>> run = skyfan.run(job, on="process", progress=False)
>>> run.summary.completeness.samples_predicted
101
>>> {"bias", "nmad", "r2"} <= run.summary.science.keys()     # where the truth is known
True
>>> run.predictions()["z_pred"].null_count                 # an Arrow table: one row a sample, in dataset order
0

The same call again reuses what is there; a run of yesterday is opened by its folder:

>>> skyfan.open_run("runs/sky").summary.run_id == run.summary.run_id
True

The command line is built on these functions. The errors are those of `skyfan.errors`.
"""

import html
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING

import structlog

from skyfan import logs
from skyfan.backends.base import Backend, BackendSettings
from skyfan.backends.registry import create_backend
from skyfan.backends.service_backend import INTERRUPTED
from skyfan.errors import BadInput, Interrupted, LocationError
from skyfan.events import Listener, PhaseStarted, counting
from skyfan.formats.dataset import Dataset, open_dataset
from skyfan.job import LAMBDA, Job
from skyfan.planning import Plan
from skyfan.progress.listening import listening
from skyfan.records import RankRecord, Summary
from skyfan.runs.commit import RunLedger
from skyfan.runs.folder import RunFolder

if TYPE_CHECKING:
    from pathlib import Path

    import astropy.table
    import pandas as pd
    import pyarrow as pa

    from skyfan.models.loading import LoadedModel
    from skyfan.stages.verify import Verification

__all__ = ["Dataset", "Job", "Run", "Summary", "load_model", "open_dataset", "open_run", "plan", "run"]

_NO_MODEL = ""
"""A plan that is only looked at names no model, and so has no identity of its own."""


@dataclass(frozen=True)
class Run:
    """A run that has ended, or was interrupted: what lies in its folder, read when it is asked for."""

    uri: str

    @property
    def report_uri(self) -> str:
        """The page for people, report.html."""
        return RunFolder(self.uri).report_uri

    @cached_property
    def plan(self) -> Plan:
        """The plan: which samples each rank computes, and the job.

        Raises:
            LocationError: there is no run here.
        """
        return RunFolder(self.uri).read_plan()

    @cached_property
    def summary(self) -> Summary:
        """Completeness, times, throughput, cost, metrics.

        Raises:
            LocationError: the run was not aggregated yet; the sentence says how to go on.
        """
        found = self._ledger.read_summary()
        if found is None:
            raise LocationError(
                f"{self.uri} has no summary: run the same command again, or `skyfan report {self.uri}`."
            )
        return found.model_copy(update={"output": self.uri})  # where it is now: a run's folder may be moved or copied

    @cached_property
    def records(self) -> tuple[RankRecord, ...]:
        """What each committed rank measured of itself, by rank."""
        return tuple(self._ledger.read_record(rank, self.plan.run_id) for rank in self._ranks)

    def predictions(self) -> "pa.Table":
        """All predictions, one row a sample, in dataset order; ranks that are missing have no rows.

        Returns:
            `sample_index` int64, the IDs and kept columns with their own types, `z_pred`, `z_spec`, `delta_z` float32
            where redshift is meant, the model's other outputs (lists of fixed size where they are vectors), and
            `missing`: why a sample has no prediction. Predictions are null where there is none.

        Raises:
            LocationError: no rank is committed yet.

        >>> skyfan.open_run("runs/sky").predictions().slice(0, 3)["sample_index"].to_pylist()
        [0, 1, 2]
        """
        import pyarrow as pa

        tables = [self._ledger.read_predictions(rank, self.plan.run_id)[0] for rank in self._ranks]
        if not tables:
            raise LocationError(f"{self.uri} holds no predictions yet: run the same command again.")
        plain = [table.replace_schema_metadata(None) for table in tables]
        return pa.concat_tables(plain, promote_options="default")

    def to_pandas(self) -> "pd.DataFrame":
        """`predictions()` as a DataFrame.

        Raises:
            BadInput: pandas is not installed.

        >>> len(skyfan.open_run("runs/sky").to_pandas())
        101
        """
        _require("pandas", "to_pandas")
        return self.predictions().to_pandas()

    def to_astropy(self) -> "astropy.table.Table":
        """`predictions()` as an astropy table: units, shapes, missing values masked, in vectors NaN.

        Raises:
            BadInput: astropy is not installed.

        >>> len(skyfan.open_run("runs/sky").to_astropy())
        101
        """
        _require("astropy", "to_astropy")
        import pyarrow as pa

        from skyfan.runs.exports.results import Results
        from skyfan.runs.exports.text import as_astropy

        results = Results(self._ledger, self.plan, self.uri)
        return as_astropy(pa.concat_tables(results.pieces()), results.columns)

    def export(self, path: "str | Path", kind: str | None = None, *, allow_missing: bool = False) -> int:
        """Writes all predictions as one table and returns its number of rows; `skyfan export` does the same.

        Args:
            path: a name that ends in `.parquet`, `.fits`, `.csv` or `.ecsv`, `.hdf5` for a qp ensemble of
                p(z); without a suffix a folder for HATS.
            kind: `parquet`, `fits`, `csv`, `ecsv`, `qp` or `hats` for any name.
            allow_missing: also where samples have no prediction.

        Raises:
            Incomplete: samples have no prediction.
            BadInput: `path` exists, the format is unknown, or a library for it is not installed.

        >>> skyfan.open_run("runs/sky").export("redshifts.fits")
        101
        """
        from pathlib import Path

        from skyfan.runs.exports.export import export_run

        return export_run(self._ledger, self.plan, Path(path), kind, allow_missing=allow_missing)

    def write_report(self) -> Summary:
        """Writes report.html again; aggregates first where no summary was written. Returns the summary."""
        # Draws with matplotlib, which most programs do not need.
        from skyfan.stages.aggregate import aggregate_again, write_report

        found = self._ledger.read_summary()
        if found is None or found.completeness.ranks_present != len(self._ranks) or found.samples != self.plan.samples:
            # Never aggregated, or a start that was interrupted since has committed or planned more.
            return aggregate_again(self._ledger)
        write_report(self._ledger, self.plan, found)
        return found

    def verify(self, *, samples: int = 32, seed: int = 0) -> "Verification":
        """Checks the results against plan, digests and model, and computes `samples` random ones again.

        Another engine than the run's computes them where one is installed that runs the model. Nothing is written; what
        is wrong is in the reply's `findings`.

        >>> skyfan.open_run("runs/sky").verify(samples=8).ok
        True
        """
        from skyfan.stages.verify import verify_run

        _quiet_logs()
        return verify_run(self._ledger, self.plan, samples=samples, seed=seed)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from skyfan.progress.summary_rows import summary_rows

        if self._ledger.read_summary() is None:
            return f"{html.escape(self.uri)}: {len(self._ranks)} of {len(self.plan.working_ranks)} ranks committed"
        rows = "".join(
            f"<tr><th style='text-align:left'>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>"
            for name, value in summary_rows(self.summary)
        )
        return f"<table>{rows}</table>"

    @property
    def _ledger(self) -> RunLedger:
        return RunLedger(self.uri, self.plan.results_schema)

    @cached_property
    def _ranks(self) -> tuple[int, ...]:
        return tuple(self._ledger.committed_of(self.plan))


def run(
    job: Job, *, on: str | Backend = "auto", progress: bool | Listener = True, state_machine: str | None = None
) -> Run:
    """Predicts every sample of the job's dataset: partition, infer in parallel, merge.

    The same job again reuses what is committed and computes the rest. An ordinary function, which may also be called
    where an event loop runs, as in a notebook. Ctrl-C ends it within seconds and keeps what is committed.

    Args:
        job: what to run.
        on: where: `auto` (this machine), `process`, `local`, `compose`, `slurm`, `localstack`, `aws`, or a backend of
            your own.
        progress: True shows a bar (one line in a notebook), False nothing; or a function that is given every event.
            What that function raises ends the run and is raised here; what is committed stays.
        state_machine: name or ARN of the deployed pipeline on `localstack` and `aws`; `skyfan-pipeline` by default.

    Raises:
        BadInput: the job, its dataset or its model cannot be used; nothing was written.
        Interrupted: Ctrl-C; what is committed stays.
        SkyfanError: more ranks failed than the job tolerates; `open_run(job.output)` has what is there.
    """
    _require_job(job)
    _quiet_logs()
    backend = create_backend(on, _settings(state_machine)) if isinstance(on, str) else on
    if job.compute != LAMBDA and not backend.takes_compute:
        raise BadInput(f"--compute {job.compute} is for --on aws and localstack; leave it out, or run it there.")
    with listening(progress) as listener:
        _on_a_thread(backend, job, listener)
    return Run(job.output)


def _require_job(job: object) -> None:
    if not isinstance(job, Job):
        raise BadInput(f"a job is wanted, not {job!r}; write skyfan.Job(dataset=…, model=…).")


def _settings(state_machine: str | None) -> BackendSettings:
    return BackendSettings() if state_machine is None else BackendSettings(state_machine=state_machine)


def plan(job: Job, *, progress: bool | Listener = False) -> Plan:
    """Which samples each rank would compute on this machine, from the dataset's metadata alone; nothing is written.

    `progress` as for `run`: how many of the dataset's files are read.

    Raises:
        DatasetError: the dataset cannot be used.

    >>> skyfan.plan(skyfan.Job(dataset="sky.pt", world_size=4)).world_size
    4
    """
    from skyfan.backends.placement import gpu_executors
    from skyfan.stages.plan import draft

    _require_job(job)
    with listening(progress) as listener:
        listener(PhaseStarted("planning"))
        return draft(job, _NO_MODEL, counting(listener), gpus=gpu_executors(job))


def open_run(uri: str) -> Run:
    """The run in a folder (path or URI), complete or not.

    Raises:
        LocationError: there is no run.

    >>> skyfan.open_run("runs/sky").summary.state
    'complete'
    """
    found = Run(uri)
    found.plan  # noqa: B018 (reads it, so that a wrong folder is noticed here)
    return found


def load_model(uri: str, device: str = "cpu") -> "LoadedModel":
    """The model at a path or URI, or the packaged one for `"demo"`; nothing in the file is executed.

    Raises:
        ModelError: the file is not a model that Skyfan runs.
        LocationError: there is no such file.

    >>> skyfan.load_model("demo").architecture
    'AstroMAE'
    """
    from skyfan.models.loading import load_model as load

    return load(uri, device)


def _require(package: str, method: str) -> None:
    if find_spec(package) is None:
        raise BadInput(f"{method} needs {package}, which is not installed: pip install {package}.")


def _quiet_logs() -> None:
    if not structlog.is_configured():  # a program's own choice stays
        logs.configure("driver", level="warning")


def _on_a_thread(backend: Backend, job: Job, listener: Listener) -> Summary:
    """Runs the backend on a thread of its own, so that a running event loop or a hanging read cannot hold Ctrl-C up."""
    outcome: Future[Summary] = Future()
    # Not Thread.join: when Ctrl-C interrupts that, Python 3.11 takes the thread for ended.
    ended = threading.Event()

    def work() -> None:
        try:
            outcome.set_result(backend.run(job, listener))
        # Whatever it is, it is raised again in the caller's thread.
        except BaseException as error:  # noqa: BLE001
            outcome.set_exception(error)
        finally:
            ended.set()

    try:
        threading.Thread(target=work, name="skyfan-run", daemon=True).start()
        while not ended.wait(0.2):
            pass  # an interrupt is noticed between two waits
    except KeyboardInterrupt:
        backend.cancel()
        if not ended.wait(backend.cancel_deadline_s):
            raise Interrupted(INTERRUPTED) from None
    return outcome.result()
