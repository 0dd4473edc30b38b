"""The services as child processes on loopback: a laptop, no Docker, no account."""

import asyncio
import json
import os
import secrets
import signal
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Literal, Self

import structlog

from skyfan.backends.executor_pool import ExecutorPool
from skyfan.backends.grpc_services import GrpcServices
from skyfan.backends.placement import COLLECTIVE_WORKERS, place_job
from skyfan.backends.service_backend import ServiceBackend
from skyfan.backends.services import Services
from skyfan.engines.device import CPU, DEVICE_VARIABLE, VISIBLE_DEVICES, visible_gpus
from skyfan.engines.threads import THREADS_VARIABLE, available_threads
from skyfan.errors import SkyfanError
from skyfan.job import Job
from skyfan.rpc.credentials import TLS_VARIABLES, open_channel
from skyfan.rpc.healthcheck import is_serving
from skyfan.rpc.service_token import TOKEN_VARIABLE, shared_token
from skyfan.settings import ComputeSettings, read

START_DEADLINE_S = 60.0
# An interrupted run has five seconds in all (`Backend.cancel_deadline_s`).
STOP_DEADLINE_S = 2.0
# How long a child whose connection broke may take to be seen as ended.
END_DEADLINE_S = 3.0
_NO_ANSWER = "no answer"
LOOPBACK = "127.0.0.1"


class _LoopbackToken:
    """A token for the services of this process, where the user has set none; the last run that uses it takes it away.

    Other users of this machine can reach loopback ports, but they do not know this word.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._token: str | None = None

    def __enter__(self) -> None:
        with self._lock:
            self._users += 1
            if not shared_token():
                self._token = os.environ[TOKEN_VARIABLE] = secrets.token_urlsafe(16)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if not self._users and self._token is not None:
                os.environ.pop(TOKEN_VARIABLE, None)
                self._token = None


_LOOPBACK_TOKEN = _LoopbackToken()


class Child:
    """One service process. It announces its port, and ends when we do, because its standard input closes."""

    def __init__(self, service: str, log: Path, environment: dict[str, str]) -> None:
        self.service = service
        self._log = log
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None
        self._starting = asyncio.Lock()
        self.address = ""
        self.ended = ("", "")
        """Where the process before this one answered, and how it ended."""

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.returncode is None

    async def ensure_running(self) -> None:
        """Starts the process unless it lives.

        Raises:
            SkyfanError: it does not start; the sentence has its last words.
        """
        async with self._starting:
            if self.running:
                return
            if self._process is not None:
                how = await self.end_of()
                if self.address:  # else it had not begun to answer
                    self.ended, self.address = (self.address, how), ""
                structlog.get_logger("driver").warning(f"the {self.service} died and is started again", how=how)
            await self._start()

    async def end_of(self) -> str:
        """How the process ended, as a part of a sentence; it gets a moment to end."""
        assert self._process
        try:
            async with asyncio.timeout(END_DEADLINE_S):
                code = await self._process.wait()
        except TimeoutError:
            return _NO_ANSWER
        if code == -signal.SIGKILL:
            return "signal 9, often out of memory"
        return f"signal {-code}" if code < 0 else f"exit code {code}: {self._last_words()}"

    async def _start(self) -> None:
        """Starts the process and waits for its port."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # nothing from the current folder is imported
                "-m",
                "skyfan.serving",
                self.service,
                "--announce",
                "--address",
                f"{LOOPBACK}:0",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env={name: value for name, value in os.environ.items() if name not in TLS_VARIABLES}
                | self._environment,
                # Ctrl-C goes to the driver alone, which stops its services in order.
                start_new_session=True,
            )
        assert self._process.stdout
        try:
            async with asyncio.timeout(START_DEADLINE_S):
                line = await self._process.stdout.readline()
        except TimeoutError:
            line = b""
        if not line:
            await self.stop()
            raise SkyfanError(f"the {self.service} did not start: {self._last_words()}")
        self.address = f"{LOOPBACK}:{json.loads(line)['port']}"

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"it wrote nothing to {self._log.parent}; is that disk full?"

    async def kill(self) -> None:
        """Ends a process that does not answer, if it is still there; one that the kernel holds is left to it."""
        if self._process and self._process.returncode is None:
            self._process.kill()
            if await self.end_of() == _NO_ANSWER:
                structlog.get_logger("driver").warning(
                    f"the {self.service} was killed and is still there: a file system may not answer it",
                    pid=self._process.pid,
                )

    async def stop(self) -> None:
        """Asks the process to end, and makes it when it does not."""
        if not self._process or self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            async with asyncio.timeout(STOP_DEADLINE_S):
                await self._process.wait()
        except TimeoutError:
            await self.kill()


async def _stop_all(children: list[Child]) -> None:
    """All at once: one that has to be killed must not keep the others alive."""
    await asyncio.gather(*(child.stop() for child in children))


class LocalServices(GrpcServices):
    """Starts one partitioner, one aggregator and executors, up to `workers`; one that dies is started again.

    Where there are GPUs, `workers` is their number by default, and each executor sees one of them. Executors beyond the
    first two start when the plan is known, and no more than it has ranks. A death is charged to the rank that was
    running: its attempts are limited, the restarts are not. With `collectives` also the service through which
    ranks talk to each other.
    """

    name = "local"
    # Certificates name the hosts of a network, not loopback, which nobody else listens to.
    plain = True
    wait_for_ready = False
    scale_up_hint = "give --workers {ranks}"

    def __init__(
        self,
        workers: int | None = None,
        *,
        collectives: bool = False,
        device: str | None = None,
        gpus: Sequence[str] | None = None,
    ) -> None:
        """`gpus`: what `CUDA_VISIBLE_DEVICES` is for each GPU; by default those that this process may use."""
        chosen = device or read(ComputeSettings).device
        self._gpus = () if chosen == CPU else visible_gpus() if gpus is None else gpus
        self.concurrency = workers or len(self._gpus) or COLLECTIVE_WORKERS
        self._collectives = collectives
        self._device = device
        self._stack = AsyncExitStack()
        self._children: list[Child] = []
        self._logs = Path()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self._logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="skyfan-")))
            stack.enter_context(_LOOPBACK_TOKEN)
            for service in ("partitioner", "aggregator", *["rendezvous"] * self._collectives):
                self._children.append(Child(service, self._logs / f"{service}.log", self._environment()))
            self._add_executors(min(self.concurrency, COLLECTIVE_WORKERS))
            stack.push_async_callback(_stop_all, self._children)
            await asyncio.gather(*(child.ensure_running() for child in self._children))
            self.rendezvous = next((one.address for one in self._children if one.service == "rendezvous"), None)
            self.pool = ExecutorPool(self.executor_addresses, plain=True)
            stack.push_async_callback(self.pool.stop)
            await self.pool.start()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def expect(self, _ranks: int) -> None:
        """The executors that are still to start; the pool finds them when it looks again, within a second."""
        self._add_executors(min(self.concurrency, _ranks))

    def _executors(self) -> list[Child]:
        return [child for child in self._children if child.service == "executor"]

    def _add_executors(self, total: int) -> None:
        """Executors that the pool starts, until there are `total`; the GPUs are given to them in turn."""
        for number in range(len(self._executors()), total):
            gpu = {VISIBLE_DEVICES: self._gpus[number % len(self._gpus)]} if self._gpus else {}
            self._children.append(Child("executor", self._logs / f"executor-{number}.log", self._environment() | gpu))

    def _environment(self) -> dict[str, str]:
        threads = max(1, available_threads() // self.concurrency)
        environment = {
            THREADS_VARIABLE: str(threads),
            "SKYFAN_LOG_FORMAT": "json",
            "SKYFAN_OBSERVER_PORT": "0",
            # A notebook's kernel names a backend that these processes do not have; they only write files.
            "MPLBACKEND": "agg",
        }
        return environment if self._device is None else environment | {DEVICE_VARIABLE: self._device}

    async def address_of(self, service: Literal["partitioner", "aggregator"]) -> str:
        """The child's address; one that died, or does not answer, is started again first."""
        child = next(child for child in self._children if child.service == service)
        await child.ensure_running()
        async with open_channel(child.address, plain=True) as channel:
            if not await is_serving(channel):
                await child.kill()
        await child.ensure_running()
        return child.address

    async def loss_of(self, address: str) -> str | None:
        """How the child at this address ended, or that it had to be; its successor may be there already."""
        for child in self._children:
            if child.address == address:
                how = await child.end_of()
                if how == _NO_ANSWER:
                    await child.kill()
                return how
            if child.ended[0] == address:
                return child.ended[1]
        return None

    async def executor_addresses(self) -> set[str]:
        """The addresses of all executors; those that died are started again first."""
        executors = self._executors()
        started = await asyncio.gather(*(child.ensure_running() for child in executors), return_exceptions=True)
        if failed := [error for error in started if isinstance(error, BaseException)]:
            if not any(child.running for child in executors):
                raise failed[0]
            structlog.get_logger("driver").warning("an executor does not start again", error=str(failed[0]))
        return {child.address for child in executors if child.running and child.address}


class LocalBackend(ServiceBackend):
    """`--on local`."""

    name = "local"

    def services(self, job: Job) -> Services:
        """Child processes of this one."""
        return LocalServices(place_job(job).workers, collectives=job.collectives, device=job.device)
