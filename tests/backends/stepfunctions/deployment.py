"""The deployed pipeline in containers: LocalStack, the services' own images as Lambda workers, two state machines.

`skyfan-pipeline` is what is deployed. `faulty-pipeline` is the same with the executor's image plus a layer that does
harm where a test asks for it (faulty/).
"""

import io
import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from localstack_support import ROOT, Stack, build_image, localstack
from skyfan_compose.definition import Variables, render
from skyfan_compose.pipeline import make_stop_rule
from testcontainers.core.container import DockerContainer

import skyfan
from skyfan import store
from skyfan.backends.base import BackendSettings
from skyfan.backends.registry import create_backend
from skyfan.events import Event
from skyfan.job import Job
from skyfan.records import RankRecord, Summary
from skyfan.runs.commit import RunLedger

TAG = "test"
PIPELINE, FAULTY = "skyfan-pipeline", "faulty-pipeline"
PORTS = {
    "skyfan-executor": 9001,
    "skyfan-partitioner": 9002,
    "skyfan-aggregator": 9003,
    "faulty-executor": 9004,
    "skyfan-executor-torch": 9005,
}
EXECUTORS = 3
TIMEOUT_S = 120
BUILD_DEADLINE_S = 1500
DATA, RESULTS = "skyfan-data", "skyfan-results"
SAMPLE_BYTES = 20_504
IMAGES = ("partitioner", "executor", "executor-torch", "aggregator")
# Services of compose.yaml that build these.
BUILT = ("partitioner", "executor", "lambda-executor", "aggregator")


def build_images() -> None:
    """The services' images from this tree, and the faulty executor on top."""
    wheels = subprocess.run(
        ["pip", "config", "get", "global.find-links"], capture_output=True, text=True, check=False
    ).stdout.strip()
    environment = {**os.environ, "SKYFAN_TAG": TAG}
    if Path(wheels or "none").is_dir():
        environment |= {"WHEELS_DIR": wheels, "TORCH_INDEX": ""}
    built = subprocess.run(
        ["docker", "compose", "--project-directory", str(ROOT), "build", "--quiet", *BUILT],
        capture_output=True,
        text=True,
        timeout=BUILD_DEADLINE_S,
        check=False,
        env=environment,
    )
    assert built.returncode == 0, built.stderr[-4000:]
    build_image(
        f"skyfan-faulty-executor:{TAG}",
        Path(__file__).parent / "faulty",
        "--build-arg",
        f"EXECUTOR=skyfan-executor:{TAG}",
    )


@dataclass
class Deployment:
    """A running pipeline; `faulty` are the workers that tests may kill."""

    stack: Stack
    faulty: list[DockerContainer]

    def run(self, job: Job, *, machine: str = PIPELINE, events: list[Event] | None = None) -> Summary:
        """The job as `skyfan run --on localstack` runs it."""
        backend = create_backend("localstack", BackendSettings(state_machine=machine))
        return skyfan.run(job, on=backend, progress=events.append if events is not None else False).summary

    def latest(self, machine: str = PIPELINE) -> dict[str, Any]:
        """The execution that was started last."""
        states = self.stack.client("stepfunctions")
        arn = next(m["stateMachineArn"] for m in states.list_state_machines()["stateMachines"] if m["name"] == machine)
        return states.list_executions(stateMachineArn=arn)["executions"][0]

    def revive(self) -> None:
        """Starts workers again that a test killed."""
        for worker in self.faulty:
            container = worker.get_wrapped_container()
            container.reload()
            if container.status != "running":
                container.start()


@contextmanager
def deployed() -> Iterator[Deployment]:
    build_images()
    with localstack(PORTS) as stack:
        s3 = stack.client("s3")
        for bucket in (DATA, RESULTS):
            s3.create_bucket(Bucket=bucket)
        arns = {name: stack.create_function(name, timeout_s=TIMEOUT_S) for name in PORTS}
        for machine, executor in ((PIPELINE, "skyfan-executor"), (FAULTY, "faulty-executor")):
            variables = Variables(
                arns["skyfan-partitioner"], arns[executor], arns["skyfan-executor-torch"], arns["skyfan-aggregator"]
            )
            made = stack.create_state_machine(render(variables), machine)
            make_stop_rule(stack.client("events"), made, arns["skyfan-aggregator"])
        always: dict[str, Any] = {"restart_policy": {"Name": "always"}}
        for service in IMAGES:
            for _ in range(EXECUTORS if service == "executor" else 1):
                handler = f"services.{service.removesuffix('-torch')}.lambda_handler.handler"
                _start(stack, f"skyfan-{service}:{TAG}", f"skyfan-{service}", handler)
        faulty = [
            stack.start_worker(
                f"skyfan-faulty-executor:{TAG}",
                "faulty-executor",
                9004,
                environment={"SKYFAN_TARGET": "localstack"},
                **always,
            )
            for _ in range(EXECUTORS)
        ]
        yield Deployment(stack, faulty)


def _start(stack: Stack, image: str, function: str, handler: str) -> None:
    stack.start_worker(
        image,
        function,
        PORTS[function],
        command=[handler],
        environment={"SKYFAN_TARGET": "localstack"},
        entrypoint=["python", "-m", "awslambdaric"],
        restart_policy={"Name": "always"},
    )


def make_job(dataset: str, name: str, model: Path, **changes: Any) -> Job:
    """A job on the sample's dataset into `s3://skyfan-results/<name>`."""
    fields = {"dataset": dataset, "output": f"s3://{RESULTS}/{name}", "model": str(model), "workers": 8}
    return Job.model_validate(fields | {"batch_size": 64} | changes)


def cut_samples(count: int) -> int:
    """The partition size that holds so many samples of the reference layout."""
    return count * SAMPLE_BYTES + 2048


def put_faults(output: str, faults: Mapping[int, Mapping[str, Any]]) -> None:
    store.put(f"{output}/faults.json", json.dumps(faults).encode())


def end_faults(output: str) -> None:
    store.delete(f"{output}/faults.json")


def predictions(output: str) -> pa.Table:
    """All rows of a run, in rank order."""
    folder = RunLedger(output)
    files = [pq.read_table(io.BytesIO(store.read(folder.predictions_uri(r)))) for r in sorted(folder.committed_ranks())]
    return pa.concat_tables(file.replace_schema_metadata(None) for file in files)


def record(output: str, rank: int) -> RankRecord:
    return RankRecord.model_validate_json(store.read(RunLedger(output).record_uri(rank)))


def commits(output: str) -> dict[str, str]:
    """URI → ETag of every rank's Parquet file: what must never change."""
    return {entry.uri: entry.etag for entry in store.list(f"{output}/predictions")}


def wait_for(uri: str, timeout_s: float = 90) -> bytes:
    """The object's content, as soon as it is there."""
    deadline = time.monotonic() + timeout_s
    while not store.exists(uri):
        assert time.monotonic() < deadline, f"{uri} is not there after {timeout_s} s"
        time.sleep(0.1)
    return store.read(uri)
