"""The command line around the commands: how it ends when it is stopped or asked for nothing."""

import builtins
import sys
import tempfile

import pytest

import skyfan.__main__
import skyfan.cli
from skyfan.errors import Interrupted
from skyfan.studies.bench import Setting, Study, run_study


def ended(monkeypatch, capsys, command, *arguments):
    """Exit code and standard error of a command line that runs in this process."""
    monkeypatch.setattr(sys, "argv", ["skyfan", *arguments])
    with pytest.raises(SystemExit) as stopped:
        command()
    return stopped.value.code, capsys.readouterr().err.strip()


def stop(*_args, **_kwargs):
    raise KeyboardInterrupt


def test_ctrl_c_in_any_command_is_one_sentence(monkeypatch, capsys):
    monkeypatch.setattr("skyfan.cli.data.curation.inspect", stop)
    assert ended(monkeypatch, capsys, skyfan.cli.main, "data", "inspect", "x.pt", "-q") == (
        130,
        "skyfan: interrupted.",
    )


def test_ctrl_c_before_the_command_line_is_there_shows_no_traceback(monkeypatch, capsys):
    real_import = builtins.__import__

    def interrupted_import(name, *args, **kwargs):
        return stop() if name == "skyfan.cli" else real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", interrupted_import)
    assert ended(monkeypatch, capsys, skyfan.__main__.main) == (130, "skyfan: interrupted.")


def test_a_study_that_is_interrupted_stops_instead_of_counting_a_failure(tmp_path):
    measured = []

    def run_cell(setting, output):
        measured.append(setting)
        raise Interrupted("interrupted")

    study = Study(name="s", title="s", grid={"batch_size": [1, 2, 3]}, warmup=0, repetitions=1)
    with pytest.raises(Interrupted):
        run_study(study, str(tmp_path), run_cell)
    assert measured[1:] == []
    assert isinstance(measured[0], Setting)


def test_no_command_shows_the_help_and_nothing_else(monkeypatch, capsys):
    assert ended(monkeypatch, capsys, skyfan.cli.main) == (2, "")


def test_a_full_disk_is_one_sentence_and_a_failure(monkeypatch, capsys):
    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device", "runs/x")

    monkeypatch.setattr("skyfan.cli.data.curation.inspect", full)
    code, said = ended(monkeypatch, capsys, skyfan.cli.main, "data", "inspect", "x.pt", "-q")
    assert code == 4
    assert "No space left on device" in said
    assert "Traceback" not in said


def test_a_fault_of_our_own_is_a_sentence_with_the_traceback_in_a_file(monkeypatch, capsys, tmp_path):
    def broken(*_args, **_kwargs):
        raise RuntimeError("the moon is in the way")

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr("skyfan.cli.data.curation.inspect", broken)
    code, said = ended(monkeypatch, capsys, skyfan.cli.main, "data", "inspect", "x.pt", "-q")
    assert code == 4
    assert said.startswith("skyfan: unexpected RuntimeError: the moon is in the way (error ")
    (written,) = tmp_path.glob("skyfan-error-*.txt")
    assert str(written) in said.replace("\n", "")
    assert "in broken" in written.read_text()
