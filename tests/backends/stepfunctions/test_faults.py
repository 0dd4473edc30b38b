"""Lost workers, lost data, duplicates: the run says exactly what is missing, and nothing that was done is lost."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from skyfan import store
from skyfan.errors import LocationError
from skyfan.records import Summary
from skyfan.runs.commit import RunLedger
from tests.backends.stepfunctions.deployment import (
    DATA,
    FAULTY,
    commits,
    cut_samples,
    end_faults,
    make_job,
    predictions,
    put_faults,
    record,
    wait_for,
)

pytestmark = [pytest.mark.docker, pytest.mark.slow]

LOST = (7, 18, 19, 31)


def lose_files(job, ranks):
    """Each of these ranks finds its file gone when its turn comes."""
    folder = job.dataset.removeprefix(f"s3://{DATA}/")
    put_faults(job.output, {rank: {"kind": "lose", "bucket": DATA, "key": f"{folder}{rank:02}.pt"} for rank in ranks})


def test_a_rank_that_fails_twice_succeeds_the_third_time(deployment, one_file, small_model):
    job = make_job(one_file, "flaky", small_model, partition_size_bytes=cut_samples(50))
    put_faults(job.output, {2: {"kind": "exit", "attempts": 2}})
    summary = deployment.run(job, machine=FAULTY)
    assert (summary.state, summary.failures) == ("complete", {})
    assert [record(job.output, rank).attempt for rank in range(4)] == [1, 1, 3, 1]
    assert summary.attempts == 6


def test_10_percent_failing_within_20_percent_tolerated_succeeds_and_names_them(deployment, many_files, small_model):
    job = make_job(many_files, "tolerated", small_model, tolerated_failure_percentage=20)
    lose_files(job, LOST)
    summary = deployment.run(job, machine=FAULTY)
    assert deployment.latest(FAULTY)["status"] == "SUCCEEDED"
    assert summary.state == "incomplete"
    assert summary.completeness.missing_ranks == LOST, summary.failures
    assert summary.completeness.missing_sample_ranges == ((35, 40), (90, 100), (155, 160))
    assert (summary.completeness.samples_predicted, summary.completeness.samples_missing) == (180, 20)
    assert tuple(summary.failures) == LOST
    assert {error.partition(": ")[0] for error in summary.failures.values()} == {"SkyfanNotFound"}
    missing = {sample for start, stop in summary.completeness.missing_sample_ranges for sample in range(start, stop)}
    assert predictions(job.output)["sample_index"].to_pylist() == [s for s in range(200) if s not in missing]


def test_10_percent_failing_with_5_percent_tolerated_fails_with_the_same_account(
    deployment, many_files, parts, small_model
):
    job = make_job(many_files, "not-tolerated", small_model, tolerated_failure_percentage=5)
    lose_files(job, LOST)
    with pytest.raises(LocationError, match=r"rank \d+ failed: .* are missing; the \d+ that are committed are kept"):
        deployment.run(job, machine=FAULTY)
    assert deployment.latest(FAULTY)["status"] == "FAILED"

    summary = Summary.model_validate_json(store.read(RunLedger(job.output).summary_uri))
    done = summary.completeness
    assert summary.state == "incomplete"
    assert done.ranks_present == 40 - len(done.missing_ranks)
    assert done.samples_missing == 5 * len(done.missing_ranks) == 200 - done.samples_predicted
    # What is accounted for is there; ranks at work when the map failed may have committed after the account.
    assert set(range(40)) - set(done.missing_ranks) <= set(RunLedger(job.output).committed_ranks())
    assert 3 <= len(summary.failures) <= 4  # the third of 40 is more than 5%; the fourth may have been under way
    assert set(summary.failures) <= set(LOST) <= set(done.missing_ranks)

    before = commits(job.output)
    end_faults(job.output)
    for rank in LOST:
        store.copy_in(parts[rank].path, f"{many_files}{rank:02}.pt")
    resumed = deployment.run(job, machine=FAULTY)
    assert (resumed.state, resumed.reused_ranks) == ("complete", len(before))
    assert before.items() <= commits(job.output).items()
    assert predictions(job.output)["sample_index"].to_pylist() == list(range(200))


def test_a_worker_killed_in_mid_invocation_costs_one_attempt(deployment, one_file, small_model):
    job = make_job(one_file, "killed", small_model, partition_size_bytes=cut_samples(50))
    put_faults(job.output, {1: {"kind": "hang", "attempts": 1}})
    with ThreadPoolExecutor(1) as aside:
        running = aside.submit(deployment.run, job, machine=FAULTY)
        host = wait_for(f"{job.output}/hanging-1").decode()
        victim = next(w for w in deployment.faulty if w.get_wrapped_container().id.startswith(host))
        victim.get_wrapped_container().kill()
        summary = running.result(timeout=120)
    assert summary.state == "complete"
    assert [record(job.output, rank).attempt for rank in range(4)] == [1, 2, 1, 1]
    assert record(job.output, 1).host != host


def test_a_duplicate_invocation_commits_once(deployment, one_file, small_model):
    job = make_job(one_file, "duplicate", small_model, partition_size_bytes=cut_samples(100))
    deployment.run(job)
    before = commits(job.output)
    functions, event = deployment.stack.client("lambda"), infer_event(job)
    answers = [invoke(functions, event) for _ in range(2)]
    assert answers == [{"rank": 0, "status": "already-committed", "samples": 100}] * 2
    assert commits(job.output) == before

    store.delete(RunLedger(job.output).predictions_uri(0))
    with ThreadPoolExecutor(3) as three:  # at the same time, on three workers: one of them commits
        answers = list(three.map(lambda _: invoke(functions, event), range(3)))
    assert {(answer["rank"], answer["samples"]) for answer in answers} == {(0, 100)}
    assert sorted(answer["status"] for answer in answers).count("committed") == 1
    assert predictions(job.output)["sample_index"].to_pylist() == list(range(200))


def test_a_poisoned_item_is_given_up_alone(deployment, one_file, small_model):
    """It ends every worker that touches it; the others' work is kept and its rank and samples are named."""
    job = make_job(
        one_file, "poisoned", small_model, partition_size_bytes=cut_samples(20), tolerated_failure_percentage=10
    )
    put_faults(job.output, {4: {"kind": "exit", "attempts": 99}})
    summary = deployment.run(job, machine=FAULTY)
    assert summary.completeness.missing_ranks == (4,)
    assert summary.completeness.missing_sample_ranges == ((80, 100),)
    assert summary.failures[4].startswith("Runtime.ExitError")


def test_an_item_that_is_no_item_is_refused_and_the_worker_goes_on(deployment, one_file, small_model):
    job = make_job(one_file, "nonsense", small_model, partition_size_bytes=cut_samples(100))
    deployment.run(job)
    functions, event = deployment.stack.client("lambda"), infer_event(job)
    refused = invoke(functions, event | {"item": event["item"] | {"start": 3}})
    assert refused["errorType"] == "SkyfanBadInput"
    assert invoke(functions, event)["status"] == "already-committed"


def infer_event(job):
    """What InferRank sends for rank 0 of a run that is there."""
    folder = RunLedger(job.output)
    plan = folder.read_plan()
    line = store.read(folder.items_uri).split(b"\n")[0] + b"\n"
    model = folder.model_uri(plan.model_digest)  # as Convert left it: this executor has no torch
    return {
        "op": "infer",
        "run_id": plan.run_id,
        "rank": 0,
        "item": {"rank": 0, "group_rank": 0, "items_uri": folder.items_uri, "start": 0, "stop": len(line)},
        "model": {
            "uri": model,
            "digest": hashlib.sha256(store.read(model)).hexdigest(),
            "source_digest": plan.model_digest,
            "engine": "openvino",
        },
        "job": plan.job.model_dump(mode="json", by_alias=True),
        "group": None,
        "execution": "test",
        "attempt": 0,
    }


def invoke(functions, event):
    answer = functions.invoke(FunctionName="skyfan-executor", Payload=json.dumps(event).encode())
    return json.loads(answer["Payload"].read())
