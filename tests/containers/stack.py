"""The services of compose.yaml under a project name of their own, and the faults that tests put them through."""

import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Read when testcontainers is imported: its clean-up container needs an image that no registry gives offline.
os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
os.environ.setdefault("TESTCONTAINERS_CONNECTION_MODE", "docker_host")

import docker
import pytest
from docker.models.containers import Container
from requests.exceptions import RequestException
from testcontainers.compose import DockerCompose

from skyfan import store
from skyfan.runs.folder import RunFolder

ROOT = Path(__file__).parents[2]
SERVERS = ["localstack", "partitioner", "executor", "aggregator", "rendezvous"]
TAG = "compose-test"
# Of one job, on a machine that does a dozen other things.
JOB_DEADLINE_S = 480
START_DEADLINE_S = 120
PAUSE_DEADLINE_S = 30
STARTED, ENDED = "rank started", ("rank committed", "call failed", "call ended early")


def compose_environment(project: str, **changes: str) -> dict[str, str]:
    """This process's environment for `docker compose`: own names, free ports, and wheels where pip looks for them."""
    environment = {**os.environ, "COMPOSE_PROJECT_NAME": project, "SKYFAN_TAG": TAG, "LOCALSTACK_PORT": "0"}
    if "WHEELS_DIR" not in environment:
        asked = ["pip", "config", "get", "global.find-links"]
        folder = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
        if Path(folder or "none").is_dir():
            environment |= {"WHEELS_DIR": folder, "TORCH_INDEX": ""}
    return environment | changes


def compose(environment: Mapping[str, str], *arguments: str, timeout_s: float = JOB_DEADLINE_S) -> str:
    """Runs `docker compose`, which has to succeed; what it wrote to standard output comes back."""
    done = subprocess.run(
        ["docker", "compose", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, f"docker compose {' '.join(arguments)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@dataclass
class Stack:
    """Running servers."""

    project: str
    environment: dict[str, str] = field(repr=False)

    def compose(self, *arguments: str) -> str:
        return compose(self.environment, *arguments)

    @property
    def endpoint(self) -> str:
        """LocalStack for this process; containers say http://localstack:4566."""
        return f"http://{self.compose('port', 'localstack', '4566').strip()}"

    @property
    def network(self) -> Any:
        """The network that the services share."""
        return docker.from_env().networks.get(f"{self.project}_services")

    def containers(self, service: str, *, all_states: bool = False) -> list[Container]:
        labels = [f"com.docker.compose.project={self.project}", f"com.docker.compose.service={service}"]
        return docker.from_env().containers.list(all=all_states, filters={"label": labels})

    def executors(self, count: int) -> None:
        """Makes it so many healthy executors: those that are stopped go. Docker calls one that was paused unhealthy
        until its next probe, which `up --wait` would take for a failure."""
        for container in self.containers("executor", all_states=True):
            if container.status != "running":
                container.remove(force=True)
        self.compose("up", "--detach", "--no-deps", "--scale", f"executor={count}", "executor")
        deadline = time.monotonic() + START_DEADLINE_S
        while [container.health for container in self.containers("executor")] != ["healthy"] * count:
            assert time.monotonic() < deadline, f"no {count} healthy executors after {START_DEADLINE_S} s"
            time.sleep(0.2)

    def start_job(self, output: str, *options: str) -> "DriverRun":
        """Starts `skyfan run --on compose` in a driver container, without waiting for it."""
        command = ["run", "--detach", "--no-deps", "--name", f"{self.project}-{time.monotonic_ns()}", "driver"]
        command += ["run", "--on=compose", f"--output={output}", *options]
        identity = self.compose(*command).strip().splitlines()[-1]
        return DriverRun(docker.from_env().containers.get(identity))

    def end_jobs(self) -> None:
        """Ends the jobs that a test that failed has left: their ranks would be taken for those of the next test."""
        for container in self.containers("driver", all_states=True):
            container.remove(force=True)

    def busy_executor(self, run: "DriverRun") -> Container:
        """An executor that has begun a rank of the run and not ended it, as far as its log says."""
        started_at = run.started_at  # which asks Docker
        deadline = time.monotonic() + JOB_DEADLINE_S
        while time.monotonic() < deadline:
            assert run.running(), f"the job ended too soon:\n{run.logs()}"
            for container in self.containers("executor"):
                lines = [line for line in log_lines(container) if line.get("timestamp", "") > started_at]
                events = [line["event"] for line in lines if line["event"] in (STARTED, *ENDED)]
                if events and events[-1] == STARTED:
                    return container
            time.sleep(0.2)
        raise AssertionError(f"no executor began a rank:\n{run.logs()}")

    def freeze_in_mid_rank(self, run: "DriverRun", output: str) -> tuple[Container, int]:
        """A paused executor and the rank that it has begun and not committed."""
        while True:
            container = self.busy_executor(run)
            pause(container)
            rank = [line["rank"] for line in log_lines(container) if line["event"] == STARTED][-1]
            if not store.exists(RunFolder(output).predictions_uri(rank)):
                return container, rank
            container.unpause()


@dataclass
class DriverRun:
    """One driver container and the job that it drives."""

    container: Container

    @property
    def started_at(self) -> str:
        self.container.reload()
        return self.container.attrs["State"]["StartedAt"]

    def running(self) -> bool:
        self.container.reload()
        return self.container.status in ("created", "running")

    def logs(self) -> str:
        return self.container.logs().decode(errors="replace")

    def wait(self) -> str:
        """Waits for success; the logs come back and the container goes."""
        try:
            code = self.container.wait(timeout=JOB_DEADLINE_S)["StatusCode"]
        except RequestException as error:  # with it Docker's client says that the time is over
            raise AssertionError(f"the job did not end within {JOB_DEADLINE_S} s:\n{self.logs()}") from error
        logs = self.logs()
        assert code == 0, logs
        self.container.remove()
        return logs


def pause(container: Container) -> None:
    """Pauses a container. Where Docker has only the first version of control groups, its runtime gives up after a part
    of a second when a process is in a call that cannot be frozen ("unable to freeze"), thaws all, and may be asked
    again."""
    deadline = time.monotonic() + PAUSE_DEADLINE_S
    while True:
        try:
            container.pause()
        except docker.errors.APIError as error:
            if "unable to freeze" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.5)
        else:
            return


def log_lines(container: Container) -> list[dict[str, Any]]:
    """The structured lines of a container's log."""
    lines = container.logs().decode(errors="replace").splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


@contextmanager
def servers(environment: dict[str, str]) -> Iterator[Stack]:
    """All servers, healthy; everything goes in the end, the job containers too."""
    project = environment["COMPOSE_PROJECT_NAME"]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        started = DockerCompose(str(ROOT), "compose.yaml", wait=True, services=SERVERS)
        try:
            started.start()
            yield Stack(project, environment)
        finally:
            for container in docker.from_env().containers.list(
                all=True, filters={"label": f"com.docker.compose.project={project}", "status": "paused"}
            ):
                container.unpause()
            compose(environment, "--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "1")
