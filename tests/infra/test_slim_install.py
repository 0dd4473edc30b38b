"""The install line of docs/how-to/deploy.md is enough for every command there: torch and OpenVINO run in functions."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # a process a command

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/how-to/deploy.md").read_text()
EXTRAS = {"aws", "report", "sky"}
# What the other extras install, by the name that is imported.
ABSENT = ("torch", "safetensors", "openvino", "awslambdaric", "aws_lambda_powertools", "sklearn", "h5py", "onnxruntime")
RUN = "import sys; sys.modules.update(dict.fromkeys({absent}, None)); from skyfan.__main__ import main; main()"


def skyfan(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A command as that install runs it, on a machine without credentials."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    nowhere = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/nowhere", "AWS_SHARED_CREDENTIALS_FILE": "/no"}
    return subprocess.run(
        [sys.executable, "-c", RUN.format(absent=ABSENT), *arguments],
        env=kept | nowhere | {"PYTHONPATH": str(ROOT), "AWS_REGION": "us-east-1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_page_names_extras_that_there_are() -> None:
    (line,) = re.findall(r'pip install "\.\[([a-z,]+)\]"', PAGE)
    assert set(line.split(",")) == EXTRAS
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(declared) >= EXTRAS


@pytest.mark.parametrize(
    "command", sorted(set(re.findall(r"skyfan ((?:runs|data|comm) [a-z]+|run|cost|doctor)\b", PAGE)))
)
def test_every_command_of_the_page_is_there(command: str) -> None:
    done = skyfan(*command.split(), "--help")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_first_day_needs_no_more(tmp_path: Path) -> None:
    """As far as each command comes without an account: to AWS's credentials, and not to a missing package."""
    sky = str(tmp_path / "sky.pt")
    simulated = skyfan("data", "simulate", sky, "--galaxies", "4", "--subset", "test")
    assert simulated.returncode == 0, simulated.stderr
    job = ("--dataset", "s3://bucket/data/sky.pt", "--output", "s3://bucket/runs/first")
    for command in (
        ("run", "--on", "aws", *job),
        ("runs", "list"),
        ("runs", "logs", "first"),
        ("runs", "redrive", "first"),
        ("comm", "check", "--on", "aws", "--world-size", "2", "--store", "s3://bucket/runs/check"),
    ):
        done = skyfan(*command)
        assert "credentials were found" in done.stderr, (command, done.stderr)
    # Here the account is all that fails, and no engine that runs in functions.
    examined = skyfan("doctor", "--on", "aws", "--output", str(tmp_path))
    failed = [line for line in examined.stdout.splitlines() if line.startswith("fail")]
    assert [line.split()[1] for line in failed] == ["account:"], examined.stdout + examined.stderr
    assert "ranks run elsewhere" in examined.stdout
    # Without credentials a bucket is taken for a public one: S3 then denies the upload, and nothing answers here.
    uploaded = skyfan("data", "upload", sky, "s3://bucket/data/sky.pt")
    assert uploaded.returncode == 2
    assert "s3://bucket/data/sky.pt" in uploaded.stderr
