"""The pipeline's definition on LocalStack, with functions that answer but do no work.

The real services run through it in tests/backends/stepfunctions.
"""

import json
from typing import Any

import pytest
from localstack_support import Stack
from skyfan_compose.definition import Variables, render

pytestmark = [pytest.mark.docker, pytest.mark.slow]
EVENTS_LIMIT, DATA_LIMIT_BYTES = 25_000, 256 * 1024


@pytest.fixture(scope="module")
def pipeline(stack: Stack, probe_image: str) -> Stack:
    for _ in range(2):
        stack.start_worker(probe_image, "pipeline", 9006, command=["pipeline.handle"])
    stack.first_answer("pipeline")
    stack.client("s3").create_bucket(Bucket="runs")
    return stack


def definition() -> str:
    arn = "arn:aws:lambda:us-east-1:000000000000:function:pipeline"
    return render(Variables(arn, arn, arn, arn, execution_timeout_s=300))


def request(stack: Stack, name: str, ranks: int, **changes: Any) -> dict[str, Any]:
    uri = f"s3://runs/{name}/plan/items.jsonl"
    items = [{"rank": rank, "items_uri": uri, "start": 0, "stop": 812} for rank in range(ranks)]
    key = f"{name}/plan/items.json"
    stack.client("s3").put_object(Bucket="runs", Key=key, Body=json.dumps(items).encode())
    options = {"ranks": ranks, "ranks_to_run": ranks, "items_key": key, "results_prefix": f"{name}/map"}
    return {
        "output": f"s3://runs/{name}",
        "max_concurrency": 8,
        "tolerated_failure_percentage": changes.pop("tolerated_failure_percentage", 0),
        "options": options | changes,
    }


def states_entered(stack: Stack, execution_arn: str) -> list[str]:
    events = stack.events(execution_arn)
    return [found["stateEnteredEventDetails"]["name"] for found in events if "stateEnteredEventDetails" in found]


def test_run_reaches_done_with_the_summary_as_output(pipeline):
    done = pipeline.run(definition(), request(pipeline, "whole", 40))
    assert done["status"] == "SUCCEEDED", done
    assert done["output"] == {
        "status": "held",
        "summary": "s3://runs/whole/summary.json",
        "ranks_done": 0,
        "samples_done": 0,
        "samples_total": 0,
        "too_many_failed": False,
    }
    assert pipeline.map_run(done["executionArn"])["itemCounts"]["succeeded"] == 40


def test_transient_errors_are_tried_again(pipeline):
    done = pipeline.run(definition(), request(pipeline, "flaky", 10, transient_prepares=1, flaky=2), 120)
    assert done["status"] == "SUCCEEDED", done
    assert pipeline.map_run(done["executionArn"])["itemCounts"]["succeeded"] == 10


def test_run_without_ranks_to_do_starts_no_map(pipeline):
    done = pipeline.run(definition(), request(pipeline, "nothing", 0))
    assert (done["status"], done["output"]["status"]) == ("SUCCEEDED", "nothing")
    assert "Infer" not in states_entered(pipeline, done["executionArn"])


@pytest.mark.parametrize(
    ("engine", "entered"),
    [
        ("openvino", "ExecutorWithoutTorch"),
        ("torch", "ExecutorWithTorch"),
        ("onnxruntime", "ExecutorWithTorch"),
        ("openvino + onnxruntime", "ExecutorWithTorch"),
    ],
)
def test_the_engine_decides_on_the_ranks_image(pipeline, engine, entered):
    name = engine.replace(" + ", "-and-")
    done = pipeline.run(definition(), request(pipeline, f"with-{name}", 2, engine=engine))
    assert (done["status"], done["output"]["status"]) == ("SUCCEEDED", "held")
    order = states_entered(pipeline, done["executionArn"])
    assert order[order.index("Convert") :][:4] == ["Convert", "WhichExecutor", entered, "Infer"]


def test_tolerated_failures_succeed(pipeline):
    asked = request(pipeline, "tolerated", 40, bad_ranks=4, tolerated_failure_percentage=20)
    done = pipeline.run(definition(), asked)
    assert (done["status"], done["output"]["status"]) == ("SUCCEEDED", "held")
    counts = pipeline.map_run(done["executionArn"])["itemCounts"]
    assert (counts["succeeded"], counts["failed"]) == (36, 4)


def test_too_many_failures_are_aggregated_and_then_fail(pipeline):
    asked = request(pipeline, "too-many", 40, bad_ranks=4, tolerated_failure_percentage=5)
    done = pipeline.run(definition(), asked)
    assert (done["status"], done["error"]) == ("FAILED", "SkyfanIncomplete")
    assert done["cause"].startswith("States.ExceedToleratedFailureThreshold: ")
    entered = states_entered(pipeline, done["executionArn"])
    assert entered[-3:] == ["Aggregate", "DidTheMapHold", "TooManyFailures"]
    written = pipeline.client("s3").list_objects_v2(Bucket="runs", Prefix="too-many/map/")["Contents"]
    assert any(entry["Key"].endswith("/FAILED_0.json") for entry in written)


def test_bad_input_is_recorded_and_fails_by_its_name(pipeline):
    done = pipeline.run(definition(), {"dataset": "s3://somewhere"})
    assert (done["status"], done["error"]) == ("FAILED", "SkyfanBadInput")
    assert "lacks output" in done["cause"]
    assert states_entered(pipeline, done["executionArn"]) == [
        "Receive",
        "Prepare",
        "RecordFailure",
        "IsItAnErrorOfOurs",
        "Failed",
    ]


def test_input_that_is_no_object_fails_as_well(pipeline):
    assert pipeline.run(definition(), ["not", "an", "object"])["error"] == "SkyfanBadInput"


def test_first_error_is_kept_when_recording_it_fails(pipeline):
    asked = request(pipeline, "unplanned", 1)
    del asked["max_concurrency"]
    done = pipeline.run(definition(), asked)
    assert (done["status"], done["error"]) == ("FAILED", "KeyError")


def test_errors_of_the_platform_fail_under_a_name_of_ours(pipeline):
    asked = request(pipeline, "half-planned", 1)
    del asked["options"]["items_key"]
    done = pipeline.run(definition().replace("$.Payload.job", "$.Payload.nowhere"), asked)
    assert (done["status"], done["error"]) == ("FAILED", "SkyfanError")
    assert done["cause"].startswith("States.")


def test_histories_and_data_stay_below_the_limits_at_ten_thousand_ranks(pipeline):
    """Neither the events nor any state's data may grow with the ranks: 400 need what 10 need."""
    found = []
    for ranks in (10, 400):
        done = pipeline.run(definition(), request(pipeline, f"size-{ranks}", ranks), 120)
        assert done["status"] == "SUCCEEDED", done
        events = pipeline.events(done["executionArn"])
        largest = max(len(json.dumps(event, default=str)) for event in events)
        found.append((len(events), largest))
    (few_events, few_bytes), (many_events, many_bytes) = found
    assert many_events == few_events < 50 < EVENTS_LIMIT
    assert many_bytes - few_bytes < 200
    assert many_bytes < 8 * 1024 < DATA_LIMIT_BYTES
