"""Whether tests have a Docker engine."""

import os
import subprocess

import pytest


def require_docker() -> None:
    """Skips without an engine; fails where SKYFAN_REQUIRE_DOCKER=1 says that there should be one."""
    found = subprocess.run(["docker", "info"], capture_output=True, check=False)
    if found.returncode and os.environ.get("SKYFAN_REQUIRE_DOCKER") == "1":
        pytest.fail(f"no Docker engine answers: {found.stderr.decode().strip()}")
    if found.returncode:
        pytest.skip("no Docker engine answers")
