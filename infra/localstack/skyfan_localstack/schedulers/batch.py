"""Jobs and array jobs from SUBMITTED to SUCCEEDED or FAILED, with retries by exit code.

"Array jobs", "Automated job retries" and "Job environment variables" of the AWS Batch User Guide, and EvaluateOnExit of
the API Reference (read 2026-11).
"""

import threading
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from skyfan_localstack.schedulers.processes import Exit, RequestError, run_process

ENDED = ("SUCCEEDED", "FAILED")
MIN_ARRAY_SIZE, MAX_ARRAY_SIZE = 2, 10_000
MAX_ATTEMPTS = 10
# Jobs that are remembered; AWS keeps them for at least a day.
MAX_JOBS = 1_000


@dataclass
class Task:
    """A plain job, or one child of an array."""

    job_id: str
    index: int | None
    status: str = "SUBMITTED"
    reason: str = ""
    attempts: list[Exit] = field(default_factory=list)
    started_at: int | None = None
    stopped_at: int | None = None


@dataclass
class Job:
    """What was submitted, and its tasks: one of a plain job, one a child of an array."""

    job_id: str
    request: dict[str, Any]
    definition: dict[str, Any]
    tasks: list[Task]
    created_at: int
    stopped: threading.Event = field(default_factory=threading.Event)
    stop_reason: str = ""

    @property
    def is_array(self) -> bool:
        """Whether it has children."""
        return self.tasks[0].index is not None

    @property
    def status(self) -> str:
        """An array fails with any of its children, once all have ended; until then it is PENDING."""
        if not self.is_array:
            return self.tasks[0].status
        states = {task.status for task in self.tasks}
        if not states <= set(ENDED):
            return "SUBMITTED" if states == {"SUBMITTED"} else "PENDING"
        return "FAILED" if "FAILED" in states else "SUCCEEDED"


class Jobs:
    """All jobs of one account: `slots` of their tasks run at once, as a compute environment's vCPUs allow."""

    def __init__(self, queues: Sequence[str], slots: int = 4) -> None:
        self._queues = frozenset(queues)
        self._definitions: dict[str, dict[str, Any]] = {}
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(slots, thread_name_prefix="batch")

    def register(self, request: dict[str, Any]) -> dict[str, Any]:
        """RegisterJobDefinition; another one of the name replaces it as the next revision."""
        name = str(request["jobDefinitionName"])
        with self._lock:
            revision = self._definitions.get(name, {}).get("revision", 0) + 1
            self._definitions[name] = {**request, "revision": revision}
        return {"jobDefinitionName": name, "jobDefinitionArn": f"{name}:{revision}", "revision": revision}

    def submit(self, request: dict[str, Any]) -> dict[str, Any]:
        """SubmitJob.

        Raises:
            RequestError: no such queue or definition, or an array of no size that AWS takes.
        """
        definition = self._definitions.get(_name(request.get("jobDefinition", "")))
        if definition is None:
            raise RequestError(f"JobDefinition {request.get('jobDefinition')!r} is not registered.")
        if _name(request.get("jobQueue", "")) not in self._queues:
            raise RequestError(f"Job Queue {request.get('jobQueue')!r} was not found.")
        size = (request.get("arrayProperties") or {}).get("size")
        if size is not None and not MIN_ARRAY_SIZE <= size <= MAX_ARRAY_SIZE:
            raise RequestError(f"Array size {size} is not between {MIN_ARRAY_SIZE} and {MAX_ARRAY_SIZE}.")
        job_id = str(uuid.uuid4())
        tasks = [Task(f"{job_id}:{n}", n) for n in range(size)] if size else [Task(job_id, None)]
        job = Job(job_id, request, definition, tasks, _now_ms())
        with self._lock:
            self._jobs[job_id] = job
            for old in [one.job_id for one in self._jobs.values() if one.status in ENDED][:-MAX_JOBS]:
                del self._jobs[old]
        for task in tasks:
            self._pool.submit(self._compute, job, task)
        return {"jobId": job_id, "jobName": request["jobName"], "jobArn": job_id}

    def describe(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        """DescribeJobs, of jobs and children alike; unknown ones are left out, as on AWS."""
        found = []
        for job_id in ids:
            job = self._jobs.get(job_id.partition(":")[0])
            if job is None:
                continue
            tasks = [task for task in job.tasks if task.job_id == job_id]
            if tasks or job_id == job.job_id:
                found.append(_detail(job, tasks[0] if tasks else None))
        return found

    def terminate(self, job_id: str, reason: str) -> None:
        """TerminateJob: what waits does not start, what runs gets SIGTERM; both become FAILED."""
        job = self._jobs.get(job_id.partition(":")[0])
        if job and job.status not in ENDED:
            job.stop_reason = reason
            job.stopped.set()

    def close(self) -> None:
        """Ends everything that runs."""
        for job in list(self._jobs.values()):
            self.terminate(job.job_id, "the service stops")
        self._pool.shutdown(cancel_futures=True)

    def _compute(self, job: Job, task: Task) -> None:
        retry = job.request.get("retryStrategy") or job.definition.get("retryStrategy") or {}
        limit = min(MAX_ATTEMPTS, int(retry.get("attempts", 1)))
        task.started_at = _now_ms()
        while not job.stopped.is_set():
            task.status = "RUNNING"
            try:
                ended = run_process(_command(job), _environment(job, task), job.stopped, timeout_s=_timeout_s(job))
            except OSError as error:
                ended = Exit(127, f"CannotStartContainerError: {error}")
            task.attempts.append(ended)
            if job.stopped.is_set() or ended.code == 0 or len(task.attempts) >= limit or not _retries(ended, retry):
                break
            task.status = "RUNNABLE"
        stopped = job.stopped.is_set()
        task.reason = job.stop_reason if stopped else task.attempts[-1].reason
        task.stopped_at = _now_ms()
        task.status = "SUCCEEDED" if not stopped and task.attempts[-1].code == 0 else "FAILED"


def _retries(ended: Exit, retry: Mapping[str, Any]) -> bool:
    """The first rule that matches decides; where none does, a failed attempt is tried again."""
    for rule in retry.get("evaluateOnExit") or ():
        matches = (
            fnmatchcase(str(ended.code), rule.get("onExitCode", "*"))
            and fnmatchcase(ended.reason, rule.get("onReason", "*"))
            and fnmatchcase(ended.reason, rule.get("onStatusReason", "*"))
        )
        if matches:
            return str(rule["action"]).upper() == "RETRY"
    return True


def _command(job: Job) -> list[str]:
    """The definition's command, or the submission's, with `Ref::name` replaced by the parameter."""
    overrides = job.request.get("containerOverrides") or {}
    values = {**(job.definition.get("parameters") or {}), **(job.request.get("parameters") or {})}
    words = overrides.get("command") or job.definition["containerProperties"]["command"]
    return [values.get(word.removeprefix("Ref::"), word) if word.startswith("Ref::") else word for word in words]


def _environment(job: Job, task: Task) -> dict[str, str]:
    named = [
        *(job.definition["containerProperties"].get("environment") or ()),
        *((job.request.get("containerOverrides") or {}).get("environment") or ()),
    ]
    environment = {one["name"]: one["value"] for one in named}
    environment |= {
        "AWS_BATCH_JOB_ID": task.job_id,
        "AWS_BATCH_JQ_NAME": _name(job.request["jobQueue"]),
        "AWS_BATCH_JOB_ATTEMPT": str(len(task.attempts) + 1),
    }
    if task.index is not None:
        environment |= {
            "AWS_BATCH_JOB_ARRAY_INDEX": str(task.index),
            "AWS_BATCH_JOB_ARRAY_SIZE": str(len(job.tasks)),
        }
    return environment


def _timeout_s(job: Job) -> float | None:
    seconds = (job.request.get("timeout") or job.definition.get("timeout") or {}).get("attemptDurationSeconds")
    return None if seconds is None else float(seconds)


def _detail(job: Job, task: Task | None) -> dict[str, Any]:
    one = task or job.tasks[0]
    whole = job.is_array and task is None
    detail: dict[str, Any] = {
        "jobId": job.job_id if whole else one.job_id,
        "jobName": job.request["jobName"],
        "jobQueue": job.request["jobQueue"],
        "jobDefinition": job.request["jobDefinition"],
        "status": job.status if whole else one.status,
        "createdAt": job.created_at,
        "parameters": job.request.get("parameters") or {},
    }
    if whole:
        counts = Counter(child.status for child in job.tasks)
        detail["arrayProperties"] = {"size": len(job.tasks), "statusSummary": dict(counts)}
        return detail
    if one.reason:
        detail["statusReason"] = one.reason
    moments = {"startedAt": one.started_at, "stoppedAt": one.stopped_at}
    detail |= {name: at for name, at in moments.items() if at is not None}
    detail["attempts"] = [{"container": {"exitCode": e.code, "reason": e.reason}} for e in one.attempts]
    if one.index is not None:
        detail["arrayProperties"] = {"index": one.index}
    return detail


def _name(name_or_arn: str) -> str:
    """The bare name of a queue or definition that is given by name, with a revision, or by ARN."""
    return name_or_arn.rpartition("/")[2].partition(":")[0]


def _now_ms() -> int:
    return int(time.time() * 1000)
