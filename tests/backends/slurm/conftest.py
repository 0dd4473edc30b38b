"""A real Slurm for the tests of this folder; with SKYFAN_REQUIRE_SLURM set, tests fail where there is none."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backends.slurm.cluster import Cluster, installed


@pytest.fixture(scope="package")
def _cluster() -> Iterator[Cluster]:
    if not installed():
        wanted = "needs root and Debian's slurm-wlm and munge"
        if os.environ.get("SKYFAN_REQUIRE_SLURM"):
            pytest.fail(wanted)
        pytest.skip(wanted)
    # Not below pytest's own folder, which may be too long a path for munge's socket.
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder, Cluster(Path(folder)) as cluster:
        yield cluster


@pytest.fixture
def cluster(_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """The cluster, to which Slurm's commands of this process lead."""
    for name, value in _cluster.environment.items():
        monkeypatch.setenv(name, value)
    return _cluster
