"""`--on slurm`: planned here, computed by an array of the cluster, followed by its queue and the committed files."""

import random
import time

from skyfan import store
from skyfan.backends.arrays import (
    aggregate_array,
    check_array_job,
    check_tolerated,
    plan_array,
    prepare_array,
)
from skyfan.backends.base import Backend
from skyfan.backends.finished import answer_from_folder
from skyfan.backends.slurm.commands import (
    DEFAULT_MAX_ARRAY_SIZE,
    Queued,
    cancel,
    look,
    max_array_size,
    require_slurm,
    submit,
)
from skyfan.backends.slurm.resources import task_request
from skyfan.backends.slurm.scripts import Scripts
from skyfan.backends.slurm.slurm_options import SlurmOptions, read_options
from skyfan.errors import BadInput, DeadlineExceeded, Interrupted, SkyfanError, Transient
from skyfan.events import ExecutionStarted, Listener, PhaseStarted, RankCommitted
from skyfan.job import DEMO_MODEL, Job
from skyfan.planning import Plan
from skyfan.records import Summary
from skyfan.runs.commit import RunLedger
from skyfan.runs.folder import RunFolder
from skyfan.stages.messages import PlanRequest
from skyfan.stages.plan import draft_request
from skyfan.stages.starts import new_start_name

NAME = "slurm"
# Queues of clusters are long; after two weeks the same command follows anew.
FOLLOW_DEADLINE_S = 14 * 24 * 3600.0
# A controller that is restarted or moved; the jobs go on meanwhile.
UNREACHABLE_DEADLINE_S = 600.0
_FIRST_LOOK_S, _LONGEST_LOOK_S, _LONGER = 0.5, 10.0, 1.2


class SlurmBackend(Backend):
    """Submits one array and a job that depends on it, and follows both."""

    name = NAME
    cancel_deadline_s = None

    @property
    def options(self) -> SlurmOptions:
        """What the site's Slurm is asked for."""
        return self.settings.slurm or read_options()

    def run(self, job: Job, listener: Listener) -> Summary:
        """Plans and submits the ranks that are missing, and follows them to their end.

        Raises:
            BadInput: the job cannot run here, or Slurm refuses it.
            Interrupted: `cancel` was called; the jobs go on unless `settings.stop_execution` says otherwise.
            SkyfanError: more ranks failed than the job tolerates; the summary of what is there has been written.
        """
        options = self.options
        require_slurm()
        check_array_job(job)
        job = with_absolute_uris(job)
        logs = logs_folder(job, options)
        finished = answer_from_folder(job, listener)
        if finished:
            return finished
        prepared, models = prepare_array(job, listener, measure_rate=True)
        longest = max_array_size()
        start, plan = plan_array(job, listener, target=NAME, prepared=prepared, models=models)
        if not start.ranks:
            return aggregate_array(job.output, start.name)
        request = task_request(job, plan, start.ranks, prepared, options, longest)
        scripts = Scripts(job, start.name, options, request, logs)
        before = _etag(RunFolder(job.output).summary_uri)
        jobs = self._submit(scripts, job)
        submitted = ExecutionStarted(f"{NAME} jobs {' and '.join(jobs)}", f"scancel {' '.join(jobs)}", None)
        listener(submitted)
        if not self._follow(jobs, plan, listener):
            raise self._interrupted(jobs, submitted)
        return _outcome(job, start.name, before)

    def _submit(self, scripts: Scripts, job: Job) -> tuple[str, str]:
        """Submits both jobs; the second one's failure takes the first one back."""
        store.put(store.join(job.output, NAME, f"{scripts.start}-ranks.sbatch"), scripts.ranks().encode())
        store.put(store.join(job.output, NAME, f"{scripts.start}-aggregate.sbatch"), scripts.aggregation().encode())
        ranks = submit(scripts.ranks())
        try:
            return ranks, submit(scripts.aggregation(), f"--dependency=afterany:{ranks}")
        except BaseException:
            cancel([ranks])
            raise

    def _follow(self, jobs: tuple[str, str], plan: Plan, listener: Listener) -> bool:
        """Tells the listener how far the jobs are, until none is left; False when `cancel` was called before."""
        ledger = RunLedger(plan.job.output, plan.results_schema)
        committed = set(ledger.committed_of(plan))
        began_s = heard_s = time.monotonic()
        pause_s, phase = _FIRST_LOOK_S, ""
        while time.monotonic() - began_s < FOLLOW_DEADLINE_S:
            try:
                ranks, aggregation = look(jobs[0]), look(jobs[1])
            except Transient as error:
                if time.monotonic() - heard_s > UNREACHABLE_DEADLINE_S:
                    raise Transient(f"{error} Jobs {' and '.join(jobs)} go on without us.") from error
            else:
                heard_s = time.monotonic()
                now = _phase(ranks, started=phase.startswith(("inferring", "aggregating")))
                if now != phase:
                    phase, pause_s = now, _FIRST_LOOK_S
                    listener(PhaseStarted(phase))
                _tell_committed(ledger, plan, committed, listener)
                if ranks.ended and aggregation.ended:
                    return True
            if self._cancelled.wait(pause_s * random.uniform(0.8, 1.2)):  # noqa: S311 (not a secret)
                self._cancelled.clear()  # the same backend may run another job
                return False
            pause_s = min(_LONGEST_LOOK_S, pause_s * _LONGER)
        raise DeadlineExceeded(f"jobs {' and '.join(jobs)} are in the queue for two weeks already; they go on.")

    def _interrupted(self, jobs: tuple[str, str], submitted: ExecutionStarted) -> Interrupted:
        if self.settings.stop_execution(submitted):
            cancel(jobs)
            return Interrupted("interrupted, and the jobs are cancelled; what is committed is kept.")
        return Interrupted(f"interrupted; the jobs go on, and `{submitted.stop_command}` ends them.")


def dry_run(job: Job, options: SlurmOptions) -> tuple[str, str]:
    """The scripts of ranks and aggregation as a run would submit them; nothing is written or submitted.

    Raises:
        BadInput: the job cannot run.
    """
    job = with_absolute_uris(job)
    prepared, _ = prepare_array(job, lambda _event: None, measure_rate=True)
    plan = draft_request(PlanRequest(job=job, model=prepared))
    try:
        longest = max_array_size()
    except (SkyfanError, FileNotFoundError):  # not on the cluster
        longest = DEFAULT_MAX_ARRAY_SIZE
    request = task_request(job, plan, len(plan.working_ranks), prepared, options, longest)
    scripts = Scripts(job, new_start_name(), options, request, logs_folder(job, options))
    return scripts.ranks(), scripts.aggregation()


def with_absolute_uris(job: Job) -> Job:
    """The job with absolute paths, as tasks may start in other folders."""
    models = [model if model == DEMO_MODEL else store.canonical(model) for model in job.models]
    absolute = {"dataset": store.canonical(job.dataset), "output": store.canonical(job.output)}
    catalog = job.catalog and store.canonical(job.catalog)
    return job.model_copy(update={**absolute, "catalog": catalog}).with_models(models)


def logs_folder(job: Job, options: SlurmOptions) -> str:
    """Where the tasks' output goes: beside the results, or where the user is when those are not in a file system.

    Raises:
        BadInput: sbatch could not read its name.
    """
    beside = store.join(job.output, NAME) if store.local_path(job.output) else "."
    folder = store.canonical(options.logs or beside)
    if any(sign in folder for sign in '"\\\n\r'):
        raise BadInput(f"sbatch cannot write to the folder {folder}; name another with --slurm logs=FOLDER.")
    return folder


def _phase(ranks: Queued, *, started: bool) -> str:
    if ranks.ended:
        return "aggregating"
    if started or set(ranks.states) - {"PENDING"}:
        return "inferring"
    return f"queued ({ranks.reason})" if ranks.reason else "queued"


def _tell_committed(ledger: RunLedger, plan: Plan, known: set[int], listener: Listener) -> None:
    for rank in ledger.committed_of(plan):
        if rank not in known:
            known.add(rank)
            listener(RankCommitted(rank, ledger.read_record(rank, plan.run_id)))


def _etag(uri: str) -> str | None:
    return store.head(uri).etag if store.exists(uri) else None


def _outcome(job: Job, start: str, before: str | None) -> Summary:
    """The summary that the second job wrote; written here where that job was lost."""
    folder = RunFolder(job.output)
    summary = folder.read_summary() if _etag(folder.summary_uri) != before else None
    return check_tolerated(summary, job) if summary else aggregate_array(job.output, start)
