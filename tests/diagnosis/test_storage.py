"""What `skyfan doctor` tells of the place for results."""

import os

import pytest

from skyfan.diagnosis import FAIL, OK, WARN, examine_storage
from skyfan.diagnosis.storage import clock, disk


def found_for(output):
    return {each.subject: each for each in examine_storage(str(output))}


def test_a_folder_that_can_be_used_is_left_as_it_was(tmp_path):
    found = found_for(tmp_path / "not" / "yet")
    assert {each.state for each in found.values()} <= {OK, WARN}  # a disk may be nearly full
    assert str(tmp_path) in found["store"].found
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(tmp_path):
    tmp_path.chmod(0o500)
    found = found_for(tmp_path)
    assert (found["store"].state, found["output"].state) == (FAIL, FAIL)


def test_a_folder_on_which_nothing_can_be_made():
    found = found_for("/proc/run")
    assert (found["store"].state, found["output"].state) == (FAIL, FAIL)
    assert "another --output" in found["output"].remedy


def test_a_store_that_does_not_answer(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        monkeypatch.setenv(name, "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    found = found_for("s3://bucket/run")
    assert (found["credentials"].state, found["store"].state, found["clock"].state) == (OK, FAIL, WARN)
    assert "cannot be reached" in found["store"].found
    assert "us-east-1" not in found["credentials"].found  # where from, never what


@pytest.mark.parametrize(
    ("offset_s", "state"), [(0, OK), (-59, OK), (61, WARN), (-800, WARN), (901, FAIL), (-86_400, FAIL)]
)
def test_the_clock_against_the_stores(offset_s, state):
    found = clock(offset_s)
    assert found.state == state
    assert ("ahead of" in found.found) == (offset_s > 0)


def test_a_disk_that_cannot_be_written_fails(tmp_path):
    assert disk("temporary files", tmp_path / "missing", "set TMPDIR").state == FAIL
