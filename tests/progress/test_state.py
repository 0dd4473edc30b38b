"""One line tells how far a run is, in every phase."""

import io

import pytest
from rich.console import Console

import skyfan
from skyfan.events import FilesRead, PhaseStarted
from skyfan.progress.state import RunState
from skyfan.progress.terminal import TerminalProgress


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (FilesRead(3000, None), "planning, 3,000 files listed"),
        (FilesRead(120, 1000), "planning, 120 of 1,000 files read"),
    ],
)
def test_files_are_counted_while_they_are_listed_and_read(event, line):
    state = RunState()
    state.update(PhaseStarted("planning"))
    state.update(event)
    assert state.line().startswith(line)
    state.update(PhaseStarted("converting"))
    assert "files" not in state.line()


@pytest.mark.slow
def test_a_plan_and_a_run_tell_how_many_files_they_have_read(sample, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for number in range(3):
        (data / f"{number}.pt").write_bytes(sample.path.read_bytes())
    events = []
    skyfan.plan(skyfan.Job(dataset=str(data)), progress=events.append)
    assert events[-1] == FilesRead(3, 3)
    del events[:]
    job = skyfan.Job(dataset=str(data), output=str(tmp_path / "run"), world_size=1)
    skyfan.run(job, on="process", progress=events.append)
    assert FilesRead(3, 3) in events


def test_a_file_gets_lines_without_control_characters():
    said = []
    with TerminalProgress(Console(file=io.StringIO()), said.append) as listener:
        listener(FilesRead(1, 2))
    assert "\x1b" not in "".join(said)


def test_the_wait_for_the_page_is_told_as_such():
    state = RunState()
    state.update(PhaseStarted("aggregating"))
    assert state.line().startswith("aggregating and drawing the report, ")
