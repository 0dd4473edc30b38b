"""What a backend is: it runs jobs, here or elsewhere."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from skyfan.backends.slurm.slurm_options import SlurmOptions
from skyfan.events import ExecutionStarted, Listener
from skyfan.job import Job
from skyfan.records import Summary

DEFAULT_STATE_MACHINE = "skyfan-pipeline"


@dataclass(frozen=True, slots=True)
class BackendSettings:
    """How a backend is reached and watched; no part of the job.

    `state_machine`: name or ARN of the deployed pipeline. `stop_execution`: asked on an interrupt whether an execution
    that would go on without this process is stopped as well. `slurm`: what a cluster is asked for; None: as configured.
    """

    state_machine: str = DEFAULT_STATE_MACHINE
    slurm: SlurmOptions | None = None
    stop_execution: Callable[[ExecutionStarted], bool] = lambda _execution: False


class Backend(ABC):
    """Runs one job at a time. A new backend is a subclass, found by name through `skyfan.backends.registry`."""

    name: ClassVar[str]
    cancel_deadline_s: ClassVar[float | None] = 5.0
    """How long `run` may take to end after `cancel`; None where it may have to ask the user."""
    takes_compute: ClassVar[bool] = False
    """Whether a job's `compute` means something here."""

    def __init__(self, settings: BackendSettings | None = None) -> None:
        self.settings = settings or BackendSettings()
        self._cancelled = threading.Event()

    @abstractmethod
    def run(self, job: Job, listener: Listener) -> Summary:
        """Runs or resumes the job; what ranks committed stays, whatever happens.

        `listener` is called from the thread that this is called in; what it raises ends the run and is raised here.

        Raises:
            BadInput: the job cannot run here; nothing was written.
            Interrupted: `cancel` was called.
            SkyfanError: more ranks failed than the job tolerates; the summary of what is there has been written.
        """

    def cancel(self) -> None:
        """Asks a run that is in progress, on another thread, to end soon; what it follows elsewhere goes on."""
        self._cancelled.set()
