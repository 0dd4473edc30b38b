"""compose.yaml as a user meets it: variables, ports, and `docker compose up` from nothing to the report."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from skyfan.records import Summary
from tests.containers.stack import ROOT, compose, compose_environment
from tests.docker_engine import require_docker

pytestmark = pytest.mark.docker


def test_every_variable_is_explained_with_its_default() -> None:
    used = dict(re.findall(r"\$\{([A-Z_]+)(?::?-([^}]*))?\}", (ROOT / "compose.yaml").read_text()))
    explained = dict(re.findall(r"^([A-Z_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert explained == used


def test_nothing_is_published_beyond_this_machine_and_nothing_is_warned_of() -> None:
    require_docker()
    done = subprocess.run(
        ["docker", "compose", "--profile", "*", "config", "--format", "json"],
        cwd=ROOT,
        env=compose_environment("skyfan"),
        capture_output=True,
        check=True,
    )
    assert done.stderr == b""
    services = json.loads(done.stdout)["services"]
    ports = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert ports.keys() == {"localstack", "report"}
    assert {port["host_ip"] for published in ports.values() for port in published} == {"127.0.0.1"}
    ours = {name: service for name, service in services.items() if name != "localstack"}
    for name, service in ours.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert set(service.get("cap_add", [])) <= {"CHOWN", "SETGID", "SETUID"}, name


def test_up_runs_the_demo_job_and_leaves_the_report_to_the_caller(images: None, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    environment = compose_environment("skyfan-test-up", RUNS_DIR=str(runs), HOST_UID="12345", HOST_GID="12346")
    try:
        said = compose(environment, "up", "--exit-code-from", "driver")
    finally:
        compose(environment, "down", "--volumes", "--timeout", "1")

    assert "1,000 of 1,000" in said
    summary = Summary.model_validate_json((runs / "compose" / "summary.json").read_bytes())
    assert summary.completeness.complete
    assert summary.target == "compose"
    files = [runs, *runs.rglob("*")]
    assert runs / "compose" / "report.html" in files
    assert {(path.stat().st_uid, path.stat().st_gid) for path in files} == {(12345, 12346)}
