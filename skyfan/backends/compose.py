"""The services as containers on a private network, found by their names (`skyfan.settings.NetworkSettings`)."""

import asyncio
import socket
import time
from typing import Literal, Self

from skyfan.backends.executor_pool import ExecutorPool
from skyfan.backends.grpc_services import GrpcServices
from skyfan.backends.service_backend import ServiceBackend
from skyfan.backends.services import Services
from skyfan.errors import BadInput, LocationError
from skyfan.job import Job
from skyfan.settings import NetworkSettings, read

# More ranks than executors may wait for one; the pool lends each executor once.
MAX_CONCURRENCY = 256
# Longer than the partitioner is gone while it is started again.
NETWORK_DEADLINE_S = 20.0


class ComposeServices(GrpcServices):
    """Nothing is started here: the containers are up, and more of them may come and go."""

    name = "compose"
    scale_up_hint = "start as many executors (EXECUTORS={ranks} docker compose up) and leave out --workers"

    def __init__(self, workers: int | None = None) -> None:
        self.concurrency = workers or MAX_CONCURRENCY
        network = read(NetworkSettings)
        self._addresses = {"partitioner": network.partitioner, "aggregator": network.aggregator}
        self.rendezvous = network.rendezvous or "rendezvous:50054"
        host, _, port = network.executors.rpartition(":")
        if not host or not port.isdigit():
            raise BadInput("SKYFAN_EXECUTORS must be host:port, such as executor:50051.")
        self._host, self._port = host, int(port)

    @property
    def max_concurrency(self) -> int:
        """As many as there are executors that answer."""
        return min(self.concurrency, self.pool.size)

    async def __aenter__(self) -> Self:
        await self._see_network()
        self.pool = ExecutorPool(self.executor_addresses, server_name=self._host)
        await self.pool.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.pool.stop()

    async def address_of(self, service: Literal["partitioner", "aggregator"]) -> str:
        """The address that the environment names."""
        return self._addresses[service]

    async def _see_network(self) -> None:
        """Fails soon where there are no containers, instead of looking for executors for minutes."""
        host = self._addresses["partitioner"].rpartition(":")[0]
        patient_until = time.monotonic() + NETWORK_DEADLINE_S
        while True:
            try:
                await asyncio.get_running_loop().getaddrinfo(host, None)
            except socket.gaierror as error:
                if time.monotonic() > patient_until:
                    raise LocationError(
                        f"there is no host {host!r}: --on compose works inside the network of `docker compose up`; "
                        "--on local needs no containers."
                    ) from error
                await asyncio.sleep(1)
            else:
                return

    async def executor_addresses(self) -> set[str]:
        """The addresses behind the executors' name, as HOST:PORT; none while no executor is up."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except socket.gaierror:
            return set()  # the name is gone while no executor is up; the pool keeps looking
        return {
            f"[{address[0]}]:{self._port}" if family == socket.AF_INET6 else f"{address[0]}:{self._port}"
            for family, _, _, _, address in found
        }


class ComposeBackend(ServiceBackend):
    """`--on compose`."""

    name = "compose"

    def services(self, job: Job) -> Services:
        """The containers; what they compute on is their own setting."""
        if job.device is not None:
            raise BadInput("--device is for process and local; set SKYFAN_DEVICE of the executors' containers instead.")
        return ComposeServices(workers=job.workers)
