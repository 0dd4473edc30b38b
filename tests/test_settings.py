"""Every SKYFAN_* variable stands in skyfan/settings.py, and is read there and nowhere else."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from skyfan import settings
from skyfan.errors import BadInput
from skyfan.settings import CallSettings, ComputeSettings, FunctionSettings, LogSettings, ServerSettings, read, variable

ROOT = Path(__file__).parents[1]
# Variables of the build (compose.yaml), of a redeployed function (Terraform) and of the tests: Skyfan reads none.
NOT_READ = {"SKYFAN_TAG", "SKYFAN_VERSION", "SKYFAN_REVISION", "SKYFAN_TOKEN_VERSION"}
NOT_READ |= {"SKYFAN_REQUIRE_DOCKER", "SKYFAN_REQUIRE_SLURM", "SKYFAN_AWS_ACCOUNT", "SKYFAN_AWS_CAP_USD"}


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch):
    for name in [name for name in os.environ if name.startswith("SKYFAN_")]:
        monkeypatch.delenv(name)


def test_defaults_hold_where_nothing_or_an_empty_text_is_set(monkeypatch):
    monkeypatch.setenv("SKYFAN_THREADS", "")
    monkeypatch.setenv("SKYFAN_LOG_LEVEL", "")
    assert read(ComputeSettings).threads is None
    assert read(LogSettings).level == "info"


def test_values_are_read_when_they_are_asked_for(monkeypatch):
    monkeypatch.setenv("SKYFAN_LOG_LEVEL", "WARNING")
    assert read(LogSettings).level == "warning"
    monkeypatch.setenv("SKYFAN_LOG_LEVEL", "debug")
    assert read(LogSettings).level == "debug"


@pytest.mark.parametrize(
    ("group", "name", "value", "sentence"),
    [
        (ComputeSettings, "SKYFAN_THREADS", "0", "SKYFAN_THREADS is '0'; give a whole number of at least 1."),
        (ComputeSettings, "SKYFAN_DEVICE", "tpu", "SKYFAN_DEVICE is 'tpu'; give one of auto, cpu, cuda."),
        (LogSettings, "SKYFAN_LOG_FORMAT", "xml", "SKYFAN_LOG_FORMAT is 'xml'; give one of json, text."),
        (FunctionSettings, "SKYFAN_RANK_LIMIT_S", "soon", "SKYFAN_RANK_LIMIT_S is 'soon'; give a number above 0."),
        (
            ServerSettings,
            "SKYFAN_OBSERVER_PORT",
            "70000",
            "SKYFAN_OBSERVER_PORT is '70000'; give a whole number of at least 0 and at most 65535.",
        ),
    ],
)
def test_a_value_that_cannot_be_used_is_named_with_what_can(group, name, value, sentence, monkeypatch):
    monkeypatch.setenv(name, value)
    with pytest.raises(BadInput) as caught:
        read(group)
    assert str(caught.value) == sentence


def test_a_secret_is_not_shown(monkeypatch):
    monkeypatch.setenv("SKYFAN_TOKEN", "between us")
    found = read(CallSettings)
    assert found.token.get_secret_value() == "between us"
    assert "between us" not in f"{found!r} {found}"


@pytest.mark.slow
def test_a_server_ends_with_exit_code_2_when_a_variable_cannot_be_used():
    done = subprocess.run(
        [sys.executable, "-m", "skyfan.serving", "partitioner", "--address", "127.0.0.1:0"],
        env={**os.environ, "SKYFAN_LOG_LEVEL": "loud"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "skyfan: SKYFAN_LOG_LEVEL is 'loud'; give one of debug, info, warning, error.\n"
    assert done.stdout == ""


def test_every_variable_that_the_project_names_is_in_the_table():
    known = {variable(group, name) for group in settings.groups() for name in group.model_fields}
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    unknown = set()
    for path in listed:
        if path.startswith(("skyfan/v1/", "CHANGELOG")) or not path.endswith(
            (".py", ".yaml", ".tf", ".md", "Dockerfile")
        ):
            continue
        names = re.findall(r"\bSKYFAN_[A-Z_]*[A-Z]\b(?!_)", (ROOT / path).read_text())
        unknown |= {(name, path) for name in names if name not in known | NOT_READ}
    assert not unknown


def test_no_other_module_reads_a_variable_of_skyfan():
    for folder in ("skyfan", "services", "infra/compose"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text()
            assert not re.search(r"getenv|environ(\.get)?[\[(]\s*\"SKYFAN_", text), path
            assert not re.search(r"environ\.get\(\s*[A-Z_]+_VARIABLE", text), path
