"""What `skyfan doctor` tells of a machine, where it is not as a run wants it."""

import pytest

from skyfan.diagnosis import OK, WARN, examine_machine
from skyfan.diagnosis.machine import NEEDED_MEMORY_BYTES, memory, sandbox, threads
from skyfan.sandbox import SandboxStatus


def test_every_subject_of_this_machine_is_looked_at():
    found = list(examine_machine())
    assert [each.subject for each in found] == ["versions", "engine", "device", "memory", "threads", "sandbox"]
    assert all(each.found for each in found)
    assert all(each.remedy for each in found if each.state != OK)
    assert "runs the packaged model" in next(each.found for each in found if each.subject == "engine")


def test_where_ranks_run_elsewhere_no_engine_is_asked_for():
    (versions,) = examine_machine(runs_ranks=False)
    assert (versions.subject, versions.state) == ("versions", OK)
    assert not {"torch", "openvino"} & set(versions.found.replace(",", "").split())


def test_a_device_that_is_not_there_fails_with_the_way_out(monkeypatch):
    monkeypatch.setenv("SKYFAN_DEVICE", "cuda")
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    device = next(each for each in examine_machine() if each.subject == "device")
    assert (device.state, device.remedy.partition(",")[0]) == ("fail", "unset SKYFAN_DEVICE")


@pytest.mark.parametrize(
    ("available_bytes", "state"), [(None, OK), (NEEDED_MEMORY_BYTES, OK), (NEEDED_MEMORY_BYTES - 1, WARN)]
)
def test_memory_of_two_executors(available_bytes, state):
    found = memory(available_bytes)
    assert found.state == state
    assert ("--workers 1" in found.remedy) == (state == WARN)


@pytest.mark.parametrize(("used", "granted", "state"), [(8, None, OK), (8, 8.0, OK), (8, 2.5, WARN), (1, 0.5, OK)])
def test_more_threads_than_a_container_may_use(used, granted, state):
    found = threads(used, granted)
    assert found.state == state
    assert ("SKYFAN_THREADS=2" in found.remedy) == (state == WARN)


def test_what_the_sandbox_lacks_is_named_with_what_to_do():
    found = sandbox(SandboxStatus(0, writes_confined=False, network_closed=False))
    assert found.state == WARN
    assert "could write outside its folder and reach the network" in found.found
    assert "Landlock is absent or off" in found.found
    assert "Linux 6.7" in found.remedy
    whole = sandbox(SandboxStatus(7, writes_confined=True, network_closed=True))
    assert (whole.state, whole.remedy) == (OK, "")
    assert "version 7" in whole.found
