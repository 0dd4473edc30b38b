"""Backends that drive the four services themselves: what `process`, `local` and `compose` have in common."""

import asyncio
import re
import resource
import time
from abc import abstractmethod
from contextlib import suppress

from skyfan.backends.base import Backend, BackendSettings
from skyfan.backends.driver import run_job
from skyfan.backends.finished import answer_from_folder
from skyfan.backends.services import Services
from skyfan.backends.stage_threads import in_loop, on_thread
from skyfan.errors import Interrupted, SkyfanError
from skyfan.events import Event, Listener
from skyfan.job import Job
from skyfan.records import Summary
from skyfan.units import format_size

# The words of CPython, of the dynamic linker, of torch and OpenVINO (C++ threads: EAGAIN; ENOMEM) and of oneDNN, whose
# kernels are made in memory of their own: by these alone such errors are told from others.
_OUT_OF_MEMORY = re.compile(
    "can't start new thread|failed to map segment|can't alloc|bad_alloc|Resource temporarily unavailable"
    "|Cannot allocate memory|could not create a primitive$"
)
NO_MEMORY = (
    "this process may not use more memory or threads (see ulimit -a); raise the limit, or use fewer --workers or a "
    "smaller --batch-size."
)
# Of address space, 1 GiB of which pyarrow's allocator reserves. With less, libraries end the process themselves:
# OpenBLAS with exit code 1, gRPC with SIGABRT. With more, what is refused still reaches `_OUT_OF_MEMORY`.
MIN_ADDRESS_SPACE_BYTES = 5 * 2**29
INTERRUPTED = "interrupted; what is committed is kept, and the same command computes the rest."


class ServiceBackend(Backend):
    """Opens the services for a job, drives the job over them, and takes them away again."""

    def __init__(self, settings: BackendSettings | None = None) -> None:
        super().__init__(settings)
        self._running: tuple[asyncio.AbstractEventLoop, asyncio.Task[Summary]] | None = None

    @abstractmethod
    def services(self, job: Job) -> Services:
        """The services for this job, not yet started.

        Raises:
            BadInput: the job asks for something that this backend does not have.
        """

    def run(self, job: Job, listener: Listener) -> Summary:
        """Starts the services and runs the job over them."""
        _require_address_space()
        services = self.services(job)
        try:
            return asyncio.run(self._run(job, services, listener))
        except asyncio.CancelledError:
            raise Interrupted(INTERRUPTED) from None
        except MemoryError as error:
            raise SkyfanError(NO_MEMORY) from error
        except (RuntimeError, ImportError) as error:
            if not _OUT_OF_MEMORY.search(str(error)):
                raise
            raise SkyfanError(NO_MEMORY) from error
        finally:
            self._cancelled.clear()  # the same backend may run another job

    def cancel(self) -> None:
        """Cancels the driver; ranks in flight end at their next batch."""
        super().cancel()
        running = self._running
        if running:
            loop, task = running
            with suppress(RuntimeError):  # the run has just ended, and its loop is closed
                loop.call_soon_threadsafe(task.cancel)

    async def _run(self, job: Job, services: Services, listener: Listener) -> Summary:
        failures: list[Exception] = []

        def tell(event: Event) -> None:
            """The first error of the listener ends the run: it is no failure of the rank that the event is of."""
            if failures:
                return
            try:
                listener(event)
            except Exception as error:  # noqa: BLE001 (the caller's own, given back below)
                failures.append(error)
                task.cancel()

        task = asyncio.create_task(self._drive(job, services, tell, time.monotonic()))
        self._running = asyncio.get_running_loop(), task
        if self._cancelled.is_set():
            task.cancel()
        try:
            summary = await task
        except BaseException:
            if failures:
                raise failures[0] from None
            raise
        finally:
            self._running = None
        if failures:  # at the last event, when there was nothing left to end
            raise failures[0]
        return summary

    @staticmethod
    async def _drive(job: Job, services: Services, listener: Listener, started_s: float) -> Summary:
        finished = await on_thread(answer_from_folder, job, in_loop(listener))
        if finished:
            return finished
        async with services:
            return await run_job(job, services, listener, started_s)


def _require_address_space() -> None:
    limit_bytes, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit_bytes != resource.RLIM_INFINITY and limit_bytes < MIN_ADDRESS_SPACE_BYTES:
        raise SkyfanError(
            f"this process may use no more memory than {format_size(limit_bytes)} of address space, and a run needs "
            f"{format_size(MIN_ADDRESS_SPACE_BYTES)}; raise the limit: ulimit -v unlimited. Nothing was written."
        )
