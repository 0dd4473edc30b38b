"""The rendezvous server as a program: its environment, what it imports, how it stops."""

import json
import signal
import subprocess
import sys
import time
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from skyfan import comm
from skyfan.errors import BadInput
from skyfan.settings import RendezvousLimits, read
from tests.comm.worlds import run_group

pytestmark = pytest.mark.slow


def test_limits_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("SKYFAN_RENDEZVOUS_WORLD_SIZE", "17")
    assert read(RendezvousLimits).world_size == 17
    monkeypatch.setenv("SKYFAN_RENDEZVOUS_GROUPS", "many")
    with pytest.raises(BadInput, match="SKYFAN_RENDEZVOUS_GROUPS is 'many'; give a whole number of at least 1"):
        read(RendezvousLimits)


def test_the_server_drains_on_sigterm_and_lets_a_group_finish():
    command = [sys.executable, "-m", "services.rendezvous", "--address", "127.0.0.1:0", "--observer-port", "0"]
    process = subprocess.Popen(
        [*command, "--announce"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    address = f"127.0.0.1:{json.loads(process.stdout.readline())['port']}"

    def work(ranks):
        ranks.barrier()
        if ranks.rank == 0:
            process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        return len(ranks.allgather(b"still here"))

    assert run_group(3, work, channel="relay", rendezvous=address) == [3] * 3
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_a_server_whose_log_cannot_be_written_tells_of_a_lost_rank():
    command = [sys.executable, "-m", "services.rendezvous", "--address", "127.0.0.1:0", "--observer-port", "0"]
    with subprocess.Popen([*command, "--announce"], stdin=-1, stdout=-1, stderr=-1, text=True) as process:
        try:
            address = f"127.0.0.1:{json.loads(process.stdout.readline())['port']}"
            process.stderr.close()  # as where a pager or a log's collector ends; a full disk is the same

            def work(ranks):
                ranks.barrier()
                if ranks.rank == 2:
                    raise ValueError("no more")
                with pytest.raises(comm.PeerLost, match="rank 2 gave up: no more"):
                    ranks.barrier()

            with pytest.raises(ValueError, match="no more"):
                run_group(3, work, channel="relay", rendezvous=address)
        finally:
            process.kill()


def test_the_service_needs_nothing_but_what_its_image_holds():
    """The image has requirements/rendezvous.txt: no Parquet, no torch, no command line."""
    locked = (Path(__file__).parents[2] / "requirements" / "rendezvous.txt").read_text()
    there = {_normal(line.partition("==")[0]) for line in locked.splitlines()} | {"skyfan"}
    missing = [module for module, owners in packages_distributions().items() if not there & set(map(_normal, owners))]
    code = f"import sys; sys.modules.update(dict.fromkeys({missing!r})); import services.rendezvous.__main__"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def _normal(name):
    return name.lower().replace("_", "-")
