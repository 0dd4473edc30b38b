"""Each service's handler under AWS's runtime interface client, with data in an S3 server; without LocalStack."""

import io
import json
from contextlib import ExitStack
from datetime import UTC, datetime

import numpy as np
import pyarrow.parquet as pq
import pytest

from skyfan import store
from skyfan.records import RankRecord
from skyfan.runs.commit import RunLedger
from skyfan.serving.lambda_events import STATUS_CHANGE
from tests.backends.stepfunctions.on_moto import BUCKET, moto_account, run_input
from tests.backends.stepfunctions.runtime_api import worker

pytestmark = pytest.mark.slow

SERVICES = ("partitioner", "executor", "aggregator")
RANK_LIMIT_S, MAP_CONCURRENCY = 60, 40


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    limits = {"SKYFAN_RANK_LIMIT_S": str(RANK_LIMIT_S), "SKYFAN_MAP_CONCURRENCY": str(MAP_CONCURRENCY)}
    with moto_account(tmp_path_factory.mktemp("aws"), **limits) as settings:
        yield settings


@pytest.fixture(scope="module")
def workers(environment, tmp_path_factory):
    """The three services, each in a process that lives as long as these tests, as a warm environment does."""
    folder = tmp_path_factory.mktemp("workers")
    with ExitStack() as stack:
        yield {service: stack.enter_context(worker(service, folder, environment)) for service in SERVICES}


@pytest.fixture
def given(environment, sample, small_model, request):
    """Dataset and model in S3, and the input of a run with an output of its own."""
    return run_input(sample, small_model, request.node.name)


def begin():
    return {"arn": "arn:aws:states:x", "name": "test", "started_at": datetime.now(UTC).isoformat()}


def prepare_and_plan(workers, given, **model):
    """What the first two states do: nothing is written before the plan has claimed the folder."""
    execution = begin()
    prepared = workers["executor"].invoke({"op": "prepare", "input": given, "execution": execution, "attempt": 0})
    assert "errorType" not in prepared, prepared
    event = {"op": "plan", "job": prepared["job"], "model": prepared["model"] | model}
    return execution, prepared, workers["partitioner"].invoke(event | {"execution": execution, "attempt": 0})


def converted(workers, prepared, execution):
    """What the Convert state hands on."""
    event = {"op": "convert", "job": prepared["job"], "model": prepared["model"], "execution": execution, "attempt": 0}
    return workers["executor"].invoke(event)


def infer_event(prepared, plan, item, model):
    return {
        "op": "infer",
        "run_id": plan["run_id"],
        "rank": item["rank"],
        "item": item,
        "model": model,
        "job": prepared["job"],
        "group": None,
        "execution": "test",
        "attempt": 0,
    }


def items_of(plan):
    return json.loads(store.read(f"s3://{plan['items']['bucket']}/{plan['items']['key']}"))


def record(output, rank):
    return RankRecord.model_validate_json(store.read(RunLedger(output).record_uri(rank)))


@pytest.mark.slow
def test_the_states_one_after_the_other(workers, given, expected_z):
    execution, prepared, plan = prepare_and_plan(workers, given)
    model = converted(workers, prepared, execution)
    assert (plan["ranks_total"], plan["ranks_to_run"], plan["max_concurrency"]) == (3, 3, MAP_CONCURRENCY)
    answers = [workers["executor"].invoke(infer_event(prepared, plan, item, model)) for item in items_of(plan)]
    assert answers == [{"rank": r, "status": "committed", "samples": n} for r, n in enumerate((40, 40, 21))]

    event = {"op": "aggregate", "job": prepared["job"], "plan": plan, "map": {}}
    at = {"map_ended_at": datetime.now(UTC).isoformat(), "execution": execution, "attempt": 0}
    done = workers["aggregator"].invoke(event | at)
    assert done == {
        "status": "complete",
        "summary": f"{given['output']}/summary.json",
        "ranks_done": 3,
        "samples_done": 101,
        "samples_total": 101,
        "too_many_failed": False,
    }
    tables = [pq.read_table(io.BytesIO(store.read(RunLedger(given["output"]).predictions_uri(r)))) for r in range(3)]
    found = np.concatenate([table["z_pred"].to_numpy() for table in tables])
    assert (np.abs(found - expected_z) <= 2e-5 * np.maximum(1, np.abs(expected_z))).all()


def test_a_rank_that_was_committed_is_not_computed_again(workers, given):
    execution, prepared, plan = prepare_and_plan(workers, given)
    model = converted(workers, prepared, execution)
    event = infer_event(prepared, plan, items_of(plan)[0], model)
    workers["executor"].invoke(event)
    before = store.head(RunLedger(plan["output"]).predictions_uri(0)).etag
    again = workers["executor"].invoke(event | {"attempt": 1})
    assert again == {"rank": 0, "status": "already-committed", "samples": 40}
    assert store.head(RunLedger(plan["output"]).predictions_uri(0)).etag == before
    _, _, replanned = prepare_and_plan(workers, given | {"tolerated_failure_percentage": 33})
    assert [item["rank"] for item in items_of(replanned)] == [1, 2]
    assert replanned["tolerated_failure_percentage"] == 50  # 33% of all 3 ranks, of 2


def test_the_model_stays_loaded_and_threads_follow_the_memory_size(workers, given):
    execution, prepared, plan = prepare_and_plan(workers, given)
    model = converted(workers, prepared, execution)
    for item in items_of(plan):
        workers["executor"].invoke(infer_event(prepared, plan, item, model))
    records = [record(plan["output"], rank) for rank in range(3)]
    assert [entry.cold_start for entry in records] == [False] * 3  # `convert` had loaded it
    assert {entry.threads for entry in records} == {1}  # 1,769 MB is one vCPU
    assert len({(entry.host, entry.pid) for entry in records}) == 1


def test_metrics_and_logs_are_structured(workers, given):
    execution, prepared, plan = prepare_and_plan(workers, given)
    model = converted(workers, prepared, execution)
    workers["executor"].invoke(infer_event(prepared, plan, items_of(plan)[0], model))
    lines = workers["executor"].logged()
    metrics = [line for line in lines if "_aws" in line and "Samples" in line]
    assert metrics[-1]["Samples"] == [40]
    assert metrics[-1]["BytesRead"][0] > 40 * 20_000
    assert metrics[-1]["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "Skyfan"
    assert sum("ColdStart" in line for line in lines) == 1
    committed = [line for line in lines if line.get("event") == "rank committed"]
    assert committed[-1]["run_id"] == plan["run_id"]
    assert committed[-1]["request_id"]


def test_a_rank_that_cannot_finish_says_so_before_it_is_killed(workers, given):
    execution, prepared, plan = prepare_and_plan(workers, given)
    model = converted(workers, prepared, execution)
    failed = workers["executor"].invoke(infer_event(prepared, plan, items_of(plan)[0], model), within_s=3)
    assert failed["errorType"] == "SkyfanRankTooLarge"
    assert "plan partitions of at most" in failed["errorMessage"]
    assert not list(RunLedger(plan["output"]).committed_ranks())


def test_a_plan_whose_ranks_cannot_finish_is_refused_with_the_size_that_fits(workers, given):
    _, _, refused = prepare_and_plan(workers, given, samples_per_s=0.5)
    assert refused["errorType"] == "SkyfanRankTooLarge"
    assert "with one partition a rank" in refused["errorMessage"]
    assert not store.exists(RunLedger(given["output"]).plan_uri)


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"batch_size": 0}, "SkyfanBadInput", "batch_size"),
        ({"batchsize": 5}, "SkyfanBadInput", "batchsize in the execution's input is unknown"),
        ({"dataset": f"s3://{BUCKET}/nothing.pt"}, "SkyfanNotFound", "does not exist"),
        ({"model": f"s3://{BUCKET}/sky.pt"}, "SkyfanModelError", "sky.pt"),
    ],
)
def test_bad_input_leaves_by_its_own_name(workers, given, changes, error, sentence):
    event = {"op": "prepare", "input": given | changes, "execution": begin(), "attempt": 0}
    failed = workers["executor"].invoke(event)
    assert failed["errorType"] == error
    assert sentence in failed["errorMessage"]


def test_nothing_is_written_before_the_plan_has_claimed_the_folder(workers, given):
    """Prepare's output would be left in another run's folder, or in one that no plan ever claims."""
    event = {"op": "prepare", "input": given, "execution": begin(), "attempt": 0}
    prepared = workers["executor"].invoke(event)
    assert not list(store.list(given["output"]))
    assert prepared["model"]["uri"] == given["model"]


def test_the_converted_model_lies_in_the_claimed_folder_and_names_its_engine(workers, given):
    execution, prepared, _ = prepare_and_plan(workers, given)
    model = converted(workers, prepared, execution)
    assert model["uri"].startswith(f"{given['output']}/model/")
    assert store.exists(model["uri"])
    assert (model["source_digest"], model["engine"]) == (prepared["model"]["digest"], "openvino")


def test_what_only_torch_runs_names_torch_as_its_engine(workers, given):
    execution, prepared, _ = prepare_and_plan(workers, given | {"engine": "torch"})
    assert converted(workers, prepared, execution)["engine"] == "torch"


def test_a_model_that_changed_since_the_plan_is_not_converted(workers, given, sample):
    execution, prepared, _ = prepare_and_plan(workers, given)
    store.copy_in(sample.path, given["model"])
    assert converted(workers, prepared, execution)["errorType"] == "SkyfanModelError"


def test_no_run_gets_more_ranks_at_once_than_the_deployment_allows(workers, given):
    """The deployment's `map_concurrency`: a new account runs ten, and further ranks are throttled."""
    for asked, allowed in (({"workers": 1000}, MAP_CONCURRENCY), ({"workers": 3}, 3), ({}, MAP_CONCURRENCY)):
        _, _, plan = prepare_and_plan(workers, given | asked)
        assert plan["max_concurrency"] == allowed


def test_eventbridges_word_of_a_stopped_execution_leaves_a_mark(workers, given):
    detail = {"name": "first", "executionArn": "arn:aws:states:x", "status": "ABORTED", "input": json.dumps(given)}
    event = {"version": "0", "source": "aws.states", "detail-type": STATUS_CHANGE, "detail": detail}
    assert workers["aggregator"].invoke(event) == {"marked": f"{given['output']}/stopped-first.json"}


@pytest.mark.parametrize("service", SERVICES)
def test_an_unknown_operation_is_refused(workers, service):
    failed = workers[service].invoke({"op": "dance"})
    assert (failed["errorType"], "dance" in failed["errorMessage"]) == ("SkyfanBadInput", True)


def test_a_failure_is_recorded_in_the_runs_place_unless_it_is_another_runs(workers, given):
    event = {"op": "fail", "input": given, "execution": begin(), "attempt": 0}
    cause = {"Error": "SkyfanDatasetError", "Cause": "sky.pt is empty"}
    recorded = workers["aggregator"].invoke(event | {"failure": cause})["recorded"]
    assert recorded == f"{given['output']}/failure-test.json"
    assert b"sky.pt is empty" in store.read(recorded)
    conflict = {"Error": "SkyfanRunConflict", "Cause": "taken"}
    assert workers["aggregator"].invoke(event | {"failure": conflict}) == {"recorded": None}
    assert workers["aggregator"].invoke(event | {"input": 3, "failure": cause}) == {"recorded": None}
