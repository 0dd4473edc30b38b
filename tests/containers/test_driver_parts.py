"""What the driver's container does besides running a job; no Docker needed."""

import json
from pathlib import Path

import pytest
import structlog
from skyfan_compose import buckets, caller

from skyfan import logs
from skyfan.cli.fetch import fetch_run
from skyfan.errors import BadInput, LocationError
from skyfan.events import RankFailed, RankRetried
from skyfan.progress.log_lines import LogProgress
from tests.conftest import Sample
from tests.e2e.support import make_job, run

pytestmark = pytest.mark.slow


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_fetch_copies_a_run_whole_and_replaces_another_run(sample: Sample, small_model: Path, tmp_path: Path) -> None:
    run(make_job(sample.path, small_model, tmp_path / "many"))
    run(make_job(sample.path, small_model, tmp_path / "few", world_size=2))
    (tmp_path / "many" / "notes.txt").write_text("not of the run")
    here = tmp_path / "deep" / "here"

    assert fetch_run(str(tmp_path / "many"), here, quiet=True) == 9 * 2 + 7
    assert files(here) == files(tmp_path / "many") - {"notes.txt"}
    assert (here / "summary.json").read_bytes() == (tmp_path / "many" / "summary.json").read_bytes()

    (here / "mine.txt").write_text("stays")
    fetch_run((tmp_path / "few").as_uri(), here, quiet=True)
    assert files(here) == files(tmp_path / "few") | {"mine.txt"}


def test_fetch_refuses_what_is_no_run_and_a_folder_that_cannot_be_made(
    sample: Sample, small_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(LocationError, match="holds no run"):
        fetch_run(str(tmp_path), tmp_path / "here", quiet=True)
    run(make_job(sample.path, small_model, tmp_path / "run"))
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot be made"):
        fetch_run(str(tmp_path / "run"), tmp_path / "file" / "below", quiet=True)


def test_log_lines_say_when_who_and_what_before_the_details(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SKYFAN_LOG_FORMAT", "json")
    logs.configure("driver")
    structlog.contextvars.bind_contextvars(run_id="f00d")
    with LogProgress() as progress:
        progress(RankRetried(rank=3, attempt=1, delay_s=0.25, error="gone"))
        progress(RankFailed(rank=3, error="gone for good"))
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()

    lost, failed = map(json.loads, capsys.readouterr().err.splitlines())
    assert list(lost)[:6] == ["timestamp", "level", "service", "run_id", "rank", "event"]
    assert (lost["event"], lost["level"], lost["attempt"], lost["again_in_s"]) == ("rank lost", "warning", 1, 0.2)
    assert (failed["event"], failed["rank"], failed["error"]) == ("rank failed", 3, "gone for good")


def test_the_caller_is_the_owner_of_the_clone_unless_the_environment_names_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(caller, "CLONE", tmp_path)
    monkeypatch.setenv("HOST_UID", "")
    monkeypatch.setenv("HOST_GID", "4711")
    assert caller.find_caller() == caller.Caller(tmp_path.stat().st_uid, 4711)
    monkeypatch.setenv("HOST_UID", "me")
    with pytest.raises(SystemExit, match="HOST_UID is 'me'"):
        caller.find_caller()


def test_without_s3_the_driver_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKYFAN_BUCKETS", "skyfan-data")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "us-east-1")
    with pytest.raises(SystemExit, match=r"skyfan-data cannot be made: Could not connect .* Is LocalStack up"):
        buckets.make_buckets()
