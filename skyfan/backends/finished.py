"""A run that is finished answers from its folder: no service is started, no model is loaded."""

from skyfan import store
from skyfan.errors import SkyfanError
from skyfan.events import Listener, PhaseStarted, Planned, counting
from skyfan.job import Job
from skyfan.models.locating import locate_models, models_digest
from skyfan.planning import relocated
from skyfan.records import Summary
from skyfan.runs.commit import RunLedger
from skyfan.runs.folder import RunFolder
from skyfan.stages.plan import draft


def finished_summary(job: Job, planned: Planned) -> Summary | None:
    """The summary of this run if nothing is left to do and it was written."""
    ranks = len(planned.plan.working_ranks)
    if len(planned.committed_ranks) < ranks:
        return None
    summary = RunFolder(job.output).read_summary()
    if summary is None or summary.run_id != planned.plan.run_id or summary.completeness.ranks_present < ranks:
        return None
    return summary


def answer_from_folder(job: Job, listener: Listener) -> Summary | None:
    """The summary of the job's run if that is finished, and the job is still the same; None where it has to be run.

    Another run's folder, a dataset that cannot be read and the like are left to the run itself, which reports them.

    Raises:
        RunConflict: a rank's file was damaged since.
    """
    folder = RunFolder(job.output)
    if not job.resume or not store.exists(folder.summary_uri):
        return None
    listener(PhaseStarted("planning"))
    try:
        digest = models_digest(locate_models(job.models))
        earlier = folder.read_plan()
        plan = draft(job, digest, counting(listener), earlier=earlier)
    except SkyfanError:
        return None  # met again by the run itself, with all that belongs to its sentence
    if earlier.run_id != plan.run_id or relocated(earlier, plan) is not earlier:
        return None
    ledger = RunLedger(job.output, earlier.results_schema)
    planned = Planned(earlier, tuple(ledger.committed_of(earlier)))
    found = finished_summary(job, planned)
    if found:
        listener(planned)
    return found
