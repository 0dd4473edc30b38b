"""SageMaker's processing jobs: each instance a process that finds under /opt/ml what AWS documents.

"How to Build Your Own Processing Container" of the SageMaker Developer Guide, and CreateProcessingJob,
DescribeProcessingJob and StopProcessingJob of the API Reference (read 2026-11). Of several instances all run to their
end; one that fails makes the job Failed.
"""

import json
import tempfile
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skyfan_localstack.schedulers.processes import Exit, RequestError, run_process

OPT_ML = Path("/opt/ml")
MAX_INSTANCES = 100
MAX_ARGUMENT_LENGTH = 256
MAX_NAME_LENGTH = 63
MAX_FAILURE_REASON = 1024
# Jobs that are remembered.
MAX_JOBS = 100
# What an instance finds under /opt/ml, relative to its own folder.
_FOLDERS = ("config", "processing", "output")


@dataclass
class ProcessingJob:
    """What was asked for, and its instances."""

    request: dict[str, Any]
    created_at: float
    instances: list[Future[Exit]] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    @property
    def status(self) -> str:
        """ProcessingJobStatus."""
        if not all(one.done() for one in self.instances):
            return "Stopping" if self.stopped.is_set() else "InProgress"
        if self.stopped.is_set():
            return "Stopped"
        return "Failed" if self.failures() else "Completed"

    def failures(self) -> list[str]:
        """Of the instances that ended with another exit code than 0: which, and how."""
        ended = [(f"algo-{number}", one.result()) for number, one in enumerate(self.instances, 1) if one.done()]
        return [f"{host} exited with {end.code}: {end.reason}" for host, end in ended if end.code]


class ProcessingJobs:
    """All processing jobs of one account."""

    def __init__(self) -> None:
        self._jobs: dict[str, ProcessingJob] = {}
        self._lock = threading.Lock()

    def create(self, request: dict[str, Any]) -> dict[str, Any]:
        """CreateProcessingJob.

        Raises:
            RequestError: the name is taken, or a limit of the API is passed.
        """
        name, count = request["ProcessingJobName"], request["ProcessingResources"]["ClusterConfig"]["InstanceCount"]
        application = request["AppSpecification"]
        command = [*application.get("ContainerEntrypoint", ()), *application.get("ContainerArguments", ())]
        if not 1 <= count <= MAX_INSTANCES:
            raise RequestError(f"InstanceCount {count} is not between 1 and {MAX_INSTANCES}.", "ValidationException")
        if len(name) > MAX_NAME_LENGTH:
            raise RequestError(f"ProcessingJobName has more than {MAX_NAME_LENGTH} characters.", "ValidationException")
        if any(len(word) > MAX_ARGUMENT_LENGTH for word in command):
            raise RequestError(f"An argument has more than {MAX_ARGUMENT_LENGTH} characters.", "ValidationException")
        job = ProcessingJob(request, time.time())
        with self._lock:
            if name in self._jobs:
                raise RequestError(f"Processing job {name} is there already.", "ResourceInUse")
            for old in [one for one, found in self._jobs.items() if found.instances and _has_ended(found)][:-MAX_JOBS]:
                del self._jobs[old]
            self._jobs[name] = job
        hosts = [f"algo-{number}" for number in range(1, count + 1)]
        pool = ThreadPoolExecutor(count, thread_name_prefix=name)
        job.instances = [pool.submit(_run_instance, job, command, host, hosts) for host in hosts]
        pool.shutdown(wait=False)
        return {"ProcessingJobArn": _arn(name)}

    def describe(self, request: dict[str, Any]) -> dict[str, Any]:
        """DescribeProcessingJob."""
        job = self._found(request)
        asked = ("ProcessingJobName", "ProcessingResources", "AppSpecification", "Environment", "RoleArn")
        found = {key: job.request[key] for key in asked if key in job.request}
        found |= {
            "ProcessingJobArn": _arn(job.request["ProcessingJobName"]),
            "ProcessingJobStatus": job.status,
            "CreationTime": job.created_at,
        }
        if found["ProcessingJobStatus"] == "Failed":
            found["FailureReason"] = "; ".join(job.failures())[:MAX_FAILURE_REASON]
        return found

    def stop(self, request: dict[str, Any]) -> dict[str, Any]:
        """StopProcessingJob: SIGTERM, and SIGKILL for what does not end by it."""
        self._found(request).stopped.set()
        return {}

    def close(self) -> None:
        """Ends everything that runs."""
        for job in list(self._jobs.values()):
            if not _has_ended(job):
                job.stopped.set()
                wait(job.instances)

    def _found(self, request: dict[str, Any]) -> ProcessingJob:
        job = self._jobs.get(request["ProcessingJobName"])
        if job is None:
            raise RequestError(f"There is no processing job {request['ProcessingJobName']}.", "ResourceNotFound")
        return job


def link_opt_ml(opt_ml: Path = OPT_ML) -> None:
    """Makes /opt/ml, an empty folder, lead every process to its own: to what lies below its working directory.

    The instances of a job share one file system here, and AWS gives each the same paths.
    """
    for name in _FOLDERS:
        link = opt_ml / name
        if not link.is_symlink():
            link.symlink_to(f"/proc/self/cwd/{name}")


def _run_instance(job: ProcessingJob, command: list[str], host: str, hosts: list[str]) -> Exit:
    """One instance, from its start to its end, in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix=f"{host}-") as folder:
        for name in _FOLDERS:
            Path(folder, name).mkdir()
        config = Path(folder, "config")
        config.joinpath("resourceconfig.json").write_text(json.dumps({"current_host": host, "hosts": hosts}))
        config.joinpath("processingjobconfig.json").write_text(json.dumps(job.request))
        environment: Mapping[str, str] = job.request.get("Environment") or {}
        limit_s = (job.request.get("StoppingCondition") or {}).get("MaxRuntimeInSeconds")
        try:
            return run_process(command, environment, job.stopped, timeout_s=limit_s, folder=Path(folder))
        except OSError as error:
            return Exit(127, f"the container could not be started: {error}")


def _has_ended(job: ProcessingJob) -> bool:
    return job.status in ("Completed", "Failed", "Stopped")


def _arn(name: str) -> str:
    return f"arn:aws:sagemaker:us-east-1:000000000000:processing-job/{name}"
