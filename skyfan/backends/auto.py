"""`--on auto`, the default: this machine, in one process or several, see `placement`."""

from skyfan.backends.base import Backend, BackendSettings
from skyfan.backends.placement import place_job
from skyfan.backends.registry import create_backend
from skyfan.events import Listener
from skyfan.job import Job
from skyfan.records import Summary


class AutoBackend(Backend):
    """Hands each job to `process` or `local`."""

    name = "auto"

    def __init__(self, settings: BackendSettings | None = None) -> None:
        super().__init__(settings)
        self._chosen: Backend | None = None

    def run(self, job: Job, listener: Listener) -> Summary:
        """Chooses where, and runs the job there."""
        placed = place_job(job)
        chosen = self._chosen = create_backend(placed.on, self.settings)
        if self._cancelled.is_set():
            chosen.cancel()
        try:
            workers = placed.workers if placed.on == "local" else None
            return chosen.run(job.model_copy(update={"workers": workers}), listener)
        finally:
            self._chosen = None
            self._cancelled.clear()

    def cancel(self) -> None:
        """Cancels the run where it is; one that is still being placed ends as soon as it starts."""
        super().cancel()
        if chosen := self._chosen:
            chosen.cancel()
