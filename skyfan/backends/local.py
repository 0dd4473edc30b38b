"""The services as child processes on loopback: a laptop, no Docker, no account."""

import asyncio
import json
import os
import secrets
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from skyfan.backends.executor_pool import ExecutorPool
from skyfan.backends.grpc_services import GrpcServices
from skyfan.backends.service_backend import ServiceBackend
from skyfan.backends.services import Services
from skyfan.engines.device import DEVICE_VARIABLE
from skyfan.engines.threads import THREADS_VARIABLE, available_threads
from skyfan.errors import SkyfanError
from skyfan.job import Job
from skyfan.rpc.credentials import TLS_VARIABLES, TOKEN_VARIABLE

START_DEADLINE_S = 60.0
STOP_DEADLINE_S = 5.0
MAX_RESTARTS = 5
LOOPBACK = "127.0.0.1"
DEFAULT_WORKERS = 2


class Child:
    """One service process. It announces its port, and ends when we do, because its standard input closes."""

    def __init__(self, service: str, log: Path, environment: dict[str, str]) -> None:
        self.service = service
        self._log = log
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None
        self.address = ""

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
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
        return lines[-1] if lines else "it said nothing"

    async def stop(self) -> None:
        """Asks the process to end, and makes it when it does not."""
        if not self._process or self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            async with asyncio.timeout(STOP_DEADLINE_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


async def _stop_all(children: list[Child]) -> None:
    """All at once: one that has to be killed must not keep the others alive."""
    await asyncio.gather(*(child.stop() for child in children))


class LocalServices(GrpcServices):
    """Starts one partitioner, one aggregator and `workers` executors; an executor that dies is started again.

    With `collectives` also the service through which ranks talk to each other.
    """

    name = "local"
    # Certificates name the hosts of a network, not loopback, which nobody else listens to.
    plain = True
    scale_up_hint = "give --workers {ranks}"

    def __init__(self, workers: int | None = None, *, collectives: bool = False, device: str | None = None) -> None:
        self.concurrency = workers or DEFAULT_WORKERS
        self._collectives = collectives
        self._device = device
        self._stack = AsyncExitStack()
        self._executors: list[Child] = []
        self._restarts = 0

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="skyfan-")))
            if not os.environ.get(TOKEN_VARIABLE):
                # Other users of this machine can reach loopback ports, but they do not know this word.
                os.environ[TOKEN_VARIABLE] = secrets.token_urlsafe(16)
                stack.callback(os.environ.pop, TOKEN_VARIABLE, None)
            threads = max(1, available_threads() // self.concurrency)
            environment = {THREADS_VARIABLE: str(threads), "SKYFAN_LOG_FORMAT": "json", "SKYFAN_OBSERVER_PORT": "0"}
            if self._device is not None:
                environment[DEVICE_VARIABLE] = self._device
            rendezvous = ["rendezvous"] * self._collectives
            services = ["partitioner", "aggregator", *["executor"] * self.concurrency, *rendezvous]
            children = [
                Child(service, logs / f"{service}-{number}.log", environment) for number, service in enumerate(services)
            ]
            partitioner, aggregator = children[:2]
            self._executors = [child for child in children if child.service == "executor"]
            stack.push_async_callback(_stop_all, children)
            await asyncio.gather(*(child.start() for child in children))
            self.partitioner_address, self.aggregator_address = partitioner.address, aggregator.address
            self.rendezvous = children[-1].address if self._collectives else None
            self.pool = ExecutorPool(self._executor_addresses, plain=True)
            stack.push_async_callback(self.pool.stop)
            await self.pool.start()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def _executor_addresses(self) -> set[str]:
        for child in self._executors:
            if not child.running and self._restarts < MAX_RESTARTS * self.concurrency:
                self._restarts += 1
                structlog.get_logger("driver").warning("an executor died and is started again")
                await child.start()
        return {child.address for child in self._executors if child.running}


class LocalBackend(ServiceBackend):
    """`--on local`."""

    name = "local"

    def services(self, job: Job) -> Services:
        """Child processes of this one."""
        return LocalServices(job.workers, collectives=job.collectives, device=job.device)
