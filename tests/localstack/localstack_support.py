"""LocalStack and Lambda workers in containers, for tests here and in other folders.

with localstack({"skyfan-executor": 9001}) as stack:
    stack.create_function("skyfan-executor", timeout_s=60)
    stack.start_worker(image, "skyfan-executor", 9001, environment={...})
    outcome = stack.run(definition, {"dataset": "s3://…"})
"""

import json
import os
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Read when testcontainers is imported: its clean-up container needs an image that no registry gives offline.
os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
os.environ.setdefault("TESTCONTAINERS_CONNECTION_MODE", "docker_host")

from testcontainers.community.localstack import LocalStackContainer
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network

ROOT = Path(__file__).parents[2]
HOST = "localstack"  # LocalStack's name in the containers' network
REGION = "us-east-1"
ROLE = "arn:aws:iam::000000000000:role/test"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": REGION}


def build_image(tag: str, context: Path, *options: str) -> str:
    """Build with BuildKit, which testcontainers' own builder does not use; the tag comes back."""
    command = ["docker", "build", "--quiet", "--tag", tag, *options, str(context)]
    built = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert built.returncode == 0, built.stderr[-4000:]
    return tag


@dataclass
class Stack:
    """A running LocalStack, its network, and the workers started in it."""

    container: LocalStackContainer
    network: Network
    _exits: ExitStack = field(repr=False)

    @property
    def endpoint(self) -> str:
        """For this process; containers use `http://localstack:4566`."""
        return self.container.get_url()

    def client(self, service: str) -> Any:
        return self.container.get_client(service)

    def logs(self) -> str:
        return b"".join(self.container.get_logs()).decode(errors="replace")

    def create_function(self, name: str, *, timeout_s: int, memory_mb: int = 1769) -> str:
        """An image function as on AWS; the image's address is not looked at. Its ARN comes back."""
        functions = self.client("lambda")
        created = functions.create_function(
            FunctionName=name,
            PackageType="Image",
            Code={"ImageUri": f"000000000000.dkr.ecr.{REGION}.amazonaws.com/{name}:1"},
            Role=ROLE,
            Timeout=timeout_s,
            MemorySize=memory_mb,
        )
        functions.get_waiter("function_active_v2").wait(FunctionName=name)
        return created["FunctionArn"]

    def start_worker(
        self,
        image: str,
        function: str,
        port: int,
        *,
        command: list[str] | None = None,
        environment: Mapping[str, str] | None = None,
        memory_mb: int = 1769,
        **docker_options: Any,
    ) -> DockerContainer:
        """One warm execution environment of `function`; it is removed with the stack if not before."""
        worker = (
            DockerContainer(image)
            .with_network(self.network)
            .with_envs(
                **CREDENTIALS,
                AWS_DEFAULT_REGION=REGION,
                AWS_ENDPOINT_URL=f"http://{HOST}:4566",
                AWS_LAMBDA_RUNTIME_API=f"{HOST}:{port}",
                AWS_LAMBDA_FUNCTION_NAME=function,
                AWS_LAMBDA_FUNCTION_VERSION="$LATEST",
                AWS_LAMBDA_FUNCTION_MEMORY_SIZE=str(memory_mb),
                **(environment or {}),
            )
            # The services' images ask a gRPC server, which a worker is not: a Python every second while it starts.
            .with_kwargs(healthcheck={"test": ["NONE"]}, **docker_options)
        )
        if command:
            worker = worker.with_command(command)
        worker.start()
        self._exits.callback(worker.stop)
        return worker

    def first_answer(self, function: str, timeout_s: float = 60) -> Any:
        """What a worker says to an empty event, as soon as one is there: on a busy machine a container takes longer to
        start than LocalStack lets an invocation wait."""
        functions, deadline = self.client("lambda"), time.monotonic() + timeout_s
        while True:
            try:
                return json.loads(functions.invoke(FunctionName=function, Payload=b"{}")["Payload"].read())
            except functions.exceptions.ServiceException:
                if time.monotonic() > deadline:
                    raise

    def create_state_machine(self, definition: Mapping[str, Any] | str, name: str = "") -> str:
        text = definition if isinstance(definition, str) else json.dumps(definition)
        states = self.client("stepfunctions")
        made = states.create_state_machine(name=name or f"test-{uuid.uuid4().hex[:12]}", definition=text, roleArn=ROLE)
        return made["stateMachineArn"]

    def start(self, definition: Mapping[str, Any] | str, payload: Any) -> str:
        """Start an execution of a definition; its ARN comes back."""
        arn = self.create_state_machine(definition)
        started = self.client("stepfunctions").start_execution(stateMachineArn=arn, input=json.dumps(payload))
        return started["executionArn"]

    def wait(self, execution_arn: str, timeout_s: float = 120) -> dict[str, Any]:
        """DescribeExecution once it has ended, with `output` parsed."""
        states, deadline = self.client("stepfunctions"), time.monotonic() + timeout_s
        while (found := states.describe_execution(executionArn=execution_arn))["status"] == "RUNNING":
            assert time.monotonic() < deadline, f"still running after {timeout_s} s: {execution_arn}"
            time.sleep(0.1)
        return {**found, "output": json.loads(found["output"]) if "output" in found else None}

    def run(self, definition: Mapping[str, Any] | str, payload: Any, timeout_s: float = 120) -> dict[str, Any]:
        return self.wait(self.start(definition, payload), timeout_s)

    def map_run(self, execution_arn: str, timeout_s: float = 30) -> dict[str, Any]:
        """DescribeMapRun of the execution's map run, as soon as there is one."""
        states, deadline = self.client("stepfunctions"), time.monotonic() + timeout_s
        while not (runs := states.list_map_runs(executionArn=execution_arn)["mapRuns"]):
            assert time.monotonic() < deadline, f"no map run after {timeout_s} s: {execution_arn}"
            time.sleep(0.05)
        return states.describe_map_run(mapRunArn=runs[0]["mapRunArn"])

    def events(self, execution_arn: str) -> list[dict[str, Any]]:
        pages = self.client("stepfunctions").get_paginator("get_execution_history")
        return [event for page in pages.paginate(executionArn=execution_arn) for event in page["events"]]


def build_localstack() -> str:
    return build_image("skyfan-localstack:test", ROOT / "infra" / "localstack")


@contextmanager
def localstack(ports: Mapping[str, int], environment: Mapping[str, str] | None = None) -> Iterator[Stack]:
    """Our LocalStack with a Runtime API port per function; all is removed in the end."""
    image = build_localstack()
    with ExitStack() as exits:
        network = exits.enter_context(Network())
        container = (
            LocalStackContainer(image, region_name=REGION)
            .with_network(network)
            .with_network_aliases(HOST)
            .with_env("LAMBDA_RUNTIME_API_PORTS", ",".join(f"{name}={port}" for name, port in ports.items()))
            .with_envs(**(environment or {}))
        )
        exits.callback(container.stop)
        container.start(timeout=180)  # seconds on an idle machine, more on a busy one
        with ExitStack() as workers:  # they leave before LocalStack, and LocalStack before the network
            yield Stack(container, network, workers)
