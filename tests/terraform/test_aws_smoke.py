"""`make test-aws` itself cannot be tried here; that it refuses to start without being asked to, can."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("aws_smoke.py")


def attempt(tmp_path: Path, account: str = "", cap: str = "1") -> str:
    """What the script says with tools that record calls and credentials of account 111122223333."""
    for tool in ("terraform", "docker", "skyfan"):
        (tmp_path / tool).write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    (tmp_path / "aws").write_text("#!/bin/sh\necho 111122223333\n")
    for tool in ("terraform", "docker", "skyfan", "aws"):
        (tmp_path / tool).chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin",
        "SKYFAN_AWS_ACCOUNT": account,
        "SKYFAN_AWS_CAP_USD": cap,
    }
    done = subprocess.run(
        [sys.executable, SCRIPT], env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 1
    assert not (tmp_path / "started").exists(), "nothing may have been started"
    return done.stderr


@pytest.mark.parametrize(
    ("account", "cap", "reason"),
    [
        ("", "1", "Set SKYFAN_AWS_ACCOUNT"),
        ("999999999999", "1", "The credentials belong to account 111122223333"),
        ("111122223333", "0.10", "above SKYFAN_AWS_CAP_USD = 0.10"),
    ],
)
def test_refuses_to_spend_unasked(tmp_path: Path, account: str, cap: str, reason: str) -> None:
    assert reason in attempt(tmp_path, account, cap)
