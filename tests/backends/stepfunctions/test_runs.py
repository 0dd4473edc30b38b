"""Jobs as executions of the deployed pipeline, with the services' own images: what comes out is what a loop gives."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from skyfan import store
from skyfan.errors import RunConflict
from skyfan.events import MapProgress, Planned
from skyfan.runs.folder import RunFolder
from skyfan.serving.stopped_runs import stop_mark_uri
from tests.backends.stepfunctions.deployment import (
    FAULTY,
    commits,
    cut_samples,
    end_faults,
    make_job,
    predictions,
    put_faults,
    wait_for,
)
from tests.e2e import support

pytestmark = [pytest.mark.docker, pytest.mark.slow]

RANKS = 40


def skyfan(*arguments):
    return [sys.executable, "-m", "skyfan.cli", *arguments]


def outcome(*arguments):
    return subprocess.run(skyfan(*arguments), capture_output=True, text=True, timeout=240, check=False)


def test_40_ranks_on_three_executors_equal_the_local_run_row_by_row(deployment, one_file, sky, small_model, tmp_path):
    cut = {"partition_size_bytes": cut_samples(5)}
    local = support.run(support.make_job(sky.path, small_model, tmp_path / "local", **cut))
    events = []
    summary = deployment.run(make_job(one_file, "forty", small_model, **cut), events=events)

    assert summary.state == "complete"
    assert summary.target == "localstack"
    assert summary.completeness.ranks_present == RANKS
    assert summary.science == pytest.approx(local.science, rel=1e-5)
    ours, theirs = predictions("s3://skyfan-results/forty"), support.predictions(tmp_path / "local")
    assert ours.drop(["z_pred", "delta_z"]).equals(theirs.drop(["z_pred", "delta_z"]))
    for column in ("z_pred", "delta_z"):
        np.testing.assert_allclose(ours[column].to_numpy(), theirs[column].to_numpy(), rtol=0, atol=2e-5)
    assert 1 < summary.environment["hosts"] <= 3

    planned = [event for event in events if isinstance(event, Planned)]
    assert [(len(event.plan.working_ranks), event.reused_samples) for event in planned] == [(RANKS, 0)]
    looks = [event for event in events if isinstance(event, MapProgress)]
    assert all(look.pending + look.running + look.succeeded + look.failed == RANKS for look in looks)
    assert looks[-1].succeeded == RANKS
    assert looks[-1].cost_usd > 0


def test_the_same_again_computes_nothing_and_uploads_nothing(deployment, one_file, small_model):
    job = make_job(one_file, "again", small_model, partition_size_bytes=cut_samples(20))
    first = deployment.run(job)
    before = commits(job.output)
    models = {entry.uri for entry in store.list("s3://skyfan-results/models")}
    second = deployment.run(job)
    assert (second.run_id, second.reused_ranks) == (first.run_id, 10)
    assert commits(job.output) == before
    assert {entry.uri for entry in store.list("s3://skyfan-results/models")} == models
    assert not deployment.stack.client("stepfunctions").list_map_runs(executionArn=deployment.latest()["executionArn"])[
        "mapRuns"
    ]


def test_no_resume_computes_again(deployment, one_file, small_model):
    job = make_job(one_file, "no-resume", small_model, partition_size_bytes=cut_samples(50))
    deployment.run(job)
    again = deployment.run(job.model_copy(update={"resume": False}))
    assert (again.reused_ranks, again.state) == (0, "complete")


def test_another_run_in_the_same_place_is_refused_and_changes_nothing(deployment, one_file, small_model):
    job = make_job(one_file, "taken", small_model, partition_size_bytes=cut_samples(50))
    deployment.run(job)
    before = {entry.uri: entry.etag for entry in store.list(job.output)}
    with pytest.raises(RunConflict, match="partition size was"):
        deployment.run(job.model_copy(update={"partition_size": cut_samples(100)}))
    assert {entry.uri: entry.etag for entry in store.list(job.output)} == before


def test_a_run_started_twice_at_once_counts_every_rank_once(deployment, one_file, small_model):
    job = make_job(one_file, "twice", small_model, partition_size_bytes=cut_samples(10))
    with ThreadPoolExecutor(2) as both:
        summaries = list(both.map(deployment.run, [job, job]))
    assert {summary.state for summary in summaries} == {"complete"}
    assert predictions(job.output)["sample_index"].to_pylist() == list(range(200))
    assert len(json.loads(store.read(RunFolder(job.output).combined_uri))) == 20


def test_interrupted_stopped_and_resumed(deployment, one_file, small_model):
    output = "s3://skyfan-results/stopped"
    put_faults(output, {rank: {"kind": "hang", "attempts": 9} for rank in range(12, 20)})
    command = skyfan(
        *("run", "--on", "localstack", "--state-machine", FAULTY, "--dataset", one_file, "--model", str(small_model)),
        *("--partition-size", str(cut_samples(10)), "--output", output, "--max-concurrency", "8"),
    )
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"COLUMNS": "200"}) as watched:
        for rank in (12, 13, 14):  # all three workers hang, those before them are done
            wait_for(f"{output}/hanging-{rank}")
        watched.send_signal(signal.SIGINT)
        _, said = watched.communicate(timeout=60)
    assert watched.returncode == 130, said
    arn = deployment.latest(FAULTY)["executionArn"]
    assert f"skyfan runs stop --on localstack {arn}" in said

    done = commits(output)
    assert len(done) == 12
    stopped = outcome("runs", "stop", "--on", "localstack", "--state-machine", FAULTY, arn.rsplit(":", 1)[1])
    assert stopped.returncode == 0, stopped.stderr
    assert deployment.stack.wait(arn)["status"] == "ABORTED"
    assert deployment.stack.map_run(arn)["status"] == "ABORTED"
    wait_for(stop_mark_uri(output, arn.rsplit(":", 1)[1]))  # by which ranks at work end, on Lambda as here

    end_faults(output)
    resumed = outcome(*command[3:], "--json")
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(resumed.stdout)["reused_ranks"] >= 12
    assert done.items() <= commits(output).items()
    assert predictions(output)["sample_index"].to_pylist() == list(range(200))


def test_ranks_meet_in_the_runs_folder(deployment, one_file, small_model):
    output = "s3://skyfan-results/together"
    job = make_job(
        one_file, "together", small_model, partition_size_bytes=cut_samples(100), workers=2, collectives=True
    )
    summary = deployment.run(job)
    assert (summary.collectives.channel, summary.collectives.complete, summary.collectives.errors) == ("store", 2, {})
    assert summary.collectives.science["mae"] == pytest.approx(summary.science["mae"], rel=1e-9)
    assert not list(store.list(f"{output}/comm/"))


def test_functions_check_how_they_reach_each_other(deployment):
    place = ("--store", "s3://skyfan-results/check", "--timeout", "60")
    done = outcome("comm", "check", "--on", "localstack", "--world-size", "2", "--channel", "store", *place)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^deployment latency: \d+\.\d+ s$", done.stdout, re.MULTILINE)


def test_the_command_line_lists_and_shows_runs(deployment, one_file, small_model):
    start = time.monotonic()
    ran = outcome(
        *("run", "--on", "localstack", "--dataset", one_file, "--model", str(small_model), "--output"),
        *("s3://skyfan-results/shown", "--partition-size", str(cut_samples(50))),
    )
    assert ran.returncode == 0, ran.stderr
    assert "200 of 200" in ran.stdout
    assert "ranks 4/4" in ran.stderr, (ran.stderr, time.monotonic() - start)
    listed = outcome("runs", "list", "--on", "localstack", "--json")
    latest = json.loads(listed.stdout)[0]
    assert (latest["status"], latest["name"][:6]) == ("SUCCEEDED", "shown-")
    shown = json.loads(outcome("runs", "show", "--on", "localstack", latest["name"], "--json").stdout)
    assert shown["ranks"] == {"in all": 4, "succeeded": 4}
    assert shown["output"]["samples_done"] == 200
    redriven = outcome("runs", "redrive", "--on", "localstack", latest["name"])
    assert (redriven.returncode, "nothing to take up again" in redriven.stderr) == (2, True)
