"""`skyfan doctor`: a line a subject, JSON, exit codes."""

import json
import sys

import pytest

from skyfan.cli import main


@pytest.fixture
def doctor(monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["skyfan", "doctor", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        return int(stopped.value.code or 0), capsys.readouterr()

    return call


@pytest.mark.slow
def test_a_line_a_subject_and_the_way_out_of_what_fails(doctor, tmp_path):
    code, printed = doctor("--output", tmp_path)
    assert code == 0
    assert [line.split()[1] for line in printed.out.splitlines() if line[0] != " "][:3] == [
        "versions:",
        "engine:",
        "device:",
    ]
    code, printed = doctor("--output", "/proc/run")
    assert code == 2
    failed = printed.out[printed.out.index("fail store:") :].splitlines()
    assert failed[1].strip().startswith("→")


def test_json_has_the_same(doctor, tmp_path):
    code, printed = doctor("--output", tmp_path, "--json")
    found = json.loads(printed.out)
    assert (code, found["ok"]) == (0, True)
    assert {each["subject"] for each in found["findings"]} >= {
        "versions", "engine", "device", "memory", "threads", "sandbox", "store", "credentials", "clock", "output",
    }  # fmt: skip
    assert all(each.keys() == {"subject", "state", "found", "remedy"} for each in found["findings"])


def test_aws_without_a_region_is_one_line(doctor, tmp_path, monkeypatch):
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    code, printed = doctor("--output", tmp_path, "--on", "aws")
    assert code == 2
    assert "fail account: could not open a session: no AWS region is set" in printed.out


def test_a_backend_that_is_not_one(doctor):
    code, printed = doctor("--on", "moon")
    assert (code, printed.err.count("\n")) == (2, 1)
    assert "--on moon is not a backend; choose one of auto, process, local" in printed.err
