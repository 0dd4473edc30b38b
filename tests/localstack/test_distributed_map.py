"""Each behaviour of distributed maps that LocalStack lacks as shipped; the modules that patch them name AWS's pages."""

import json
import time
from typing import Any

import pytest
from localstack_support import Stack

pytestmark = [pytest.mark.docker, pytest.mark.slow]
BUCKET = "maps"
DEADLINE_S = 30  # of what takes a second on an idle machine


@pytest.fixture(scope="module")
def bucket(stack: Stack) -> Any:
    stack.client("s3").create_bucket(Bucket=BUCKET)
    return stack.client("s3")


# A child that fails when its item asks for it, without a function.
CHECK = {
    "StartAt": "Check",
    "States": {
        "Check": {
            "Type": "Choice",
            "Choices": [{"Variable": "$.bad", "BooleanEquals": True, "Next": "Bad"}],
            "Default": "Good",
        },
        "Bad": {"Type": "Fail", "Error": "SkyfanBadInput", "Cause": "the item asks for it"},
        "Good": {"Type": "Pass", "End": True},
    },
}
SLEEP = {"StartAt": "Sleep", "States": {"Sleep": {"Type": "Wait", "Seconds": 60, "End": True}}}


def a_map(child: dict = CHECK, **fields: Any) -> dict:
    config = {"ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}}
    state = {"Type": "Map", "ItemProcessor": {**config, **child}, "End": True, **fields}
    return {"StartAt": "Map", "States": {"Map": state}}


def items(number: int, bad: int = 0) -> list[dict]:
    return [{"n": n, "bad": n < bad} for n in range(number)]


def objects(bucket: Any, prefix: str) -> dict[str, Any]:
    pages = bucket.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
    keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
    return {key: json.loads(bucket.get_object(Bucket=BUCKET, Key=key)["Body"].read()) for key in keys}


def non_zero(counts: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}


def test_one_failure_fails_a_map_without_tolerance(stack):
    done = stack.run(a_map(ItemsPath="$.items"), {"items": items(10, bad=1)})
    assert (done["status"], done["error"]) == ("FAILED", "States.ExceedToleratedFailureThreshold")
    assert stack.map_run(done["executionArn"])["status"] == "FAILED"
    assert "MapRunFailed" in [event["type"] for event in stack.events(done["executionArn"])]


@pytest.mark.parametrize(
    ("tolerance", "status"),
    [
        ({"ToleratedFailurePercentage": 20}, "SUCCEEDED"),
        ({"ToleratedFailurePercentage": 10}, "SUCCEEDED"),
        ({"ToleratedFailurePercentage": 5}, "FAILED"),
        ({"ToleratedFailurePercentagePath": "$.percentage"}, "SUCCEEDED"),
        ({"ToleratedFailureCount": 4}, "SUCCEEDED"),
        ({"ToleratedFailureCount": 3}, "FAILED"),
        ({"ToleratedFailureCount": 3, "ToleratedFailurePercentage": 50}, "FAILED"),
    ],
)
def test_tolerance_decides_with_whole_number_percentages(stack, tolerance, status):
    done = stack.run(a_map(ItemsPath="$.items", **tolerance), {"items": items(40, bad=4), "percentage": 10})
    assert done["status"] == status


def test_counts_of_a_map_run_add_up(stack):
    definition = a_map(ItemsPath="$.items", ToleratedFailurePercentage=50)
    done = stack.run(definition, {"items": items(40, bad=4)})
    found = stack.map_run(done["executionArn"])
    assert found["status"] == "SUCCEEDED"
    assert non_zero(found["itemCounts"]) == {"succeeded": 36, "failed": 4, "total": 40}
    assert non_zero(found["executionCounts"]) == {"succeeded": 36, "failed": 4, "total": 40}


def test_exceeded_tolerance_starts_no_more_children_and_can_be_caught(stack):
    child = {"StartAt": "Pause", "States": {"Pause": {"Type": "Wait", "Seconds": 1, "Next": "Check"}}}
    child["States"] |= CHECK["States"]
    definition = a_map(child, ItemsPath="$.items", MaxConcurrency=2)
    state = definition["States"]["Map"]
    state["Catch"] = [{"ErrorEquals": ["States.ExceedToleratedFailureThreshold"], "Next": "Caught"}]
    definition["States"]["Caught"] = {"Type": "Succeed"}
    done = stack.run(definition, {"items": items(50, bad=1)})
    assert done["status"] == "SUCCEEDED"
    counts = stack.map_run(done["executionArn"])["itemCounts"]
    assert counts["failed"] == 1
    assert counts["running"] == 0
    assert counts["pending"] >= 45


def test_counts_while_running_and_stopping_aborts_the_map(stack):
    started = stack.start(a_map(SLEEP, ItemsPath="$.items", MaxConcurrency=2), {"items": items(6)})
    deadline = time.monotonic() + DEADLINE_S
    while stack.map_run(started)["itemCounts"]["running"] < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert non_zero(stack.map_run(started)["itemCounts"]) == {"running": 2, "pending": 4, "total": 6}
    assert stack.map_run(started)["status"] == "RUNNING"

    stack.client("stepfunctions").stop_execution(executionArn=started, error="Stopped", cause="by the user")
    assert stack.wait(started, timeout_s=DEADLINE_S)["status"] == "ABORTED"
    deadline = time.monotonic() + DEADLINE_S
    while stack.map_run(started)["status"] != "ABORTED":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert non_zero(stack.map_run(started)["itemCounts"]) == {"aborted": 2, "pending": 4, "total": 6}


def test_max_concurrency_can_be_raised_while_running(stack):
    started = stack.start(a_map(SLEEP, ItemsPath="$.items", MaxConcurrency=1), {"items": items(6)})
    map_run = stack.map_run(started)["mapRunArn"]
    stack.client("stepfunctions").update_map_run(mapRunArn=map_run, maxConcurrency=4)
    deadline = time.monotonic() + DEADLINE_S
    while stack.map_run(started)["itemCounts"]["running"] != 4:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    stack.client("stepfunctions").stop_execution(executionArn=started)


def test_fifteen_hundred_items_one_at_a_time_in_order(stack):
    done = stack.run(a_map(ItemsPath="$.items", MaxConcurrency=1), {"items": items(1500)}, timeout_s=120)
    assert [child["n"] for child in done["output"]] == list(range(1500))


def test_item_selector_sees_the_item_its_index_and_the_maps_input(stack):
    selector = {"index.$": "$$.Map.Item.Index", "n.$": "$$.Map.Item.Value.n", "run.$": "$.run", "bad": False}
    done = stack.run(a_map(ItemsPath="$.items", ItemSelector=selector), {"items": items(2), "run": "r1"})
    assert done["output"] == [{"index": n, "n": n, "run": "r1", "bad": False} for n in range(2)]


def writer(prefix: str) -> dict:
    return {"Resource": "arn:aws:states:::s3:putObject", "Parameters": {"Bucket": BUCKET, "Prefix": prefix}}


def test_result_writer_writes_the_results_by_status(stack, bucket):
    by_path = {**writer(""), "Parameters": {"Bucket": BUCKET, "Prefix.$": "$.prefix"}}
    definition = a_map(ItemsPath="$.items", ToleratedFailurePercentage=50, ResultWriter=by_path)
    done = stack.run(definition, {"items": items(10, bad=2), "prefix": "held"})
    details = done["output"]["ResultWriterDetails"]
    assert details["Bucket"] == BUCKET
    written = objects(bucket, "held/")
    manifest = written[details["Key"]]
    assert manifest["MapRunArn"] == done["output"]["MapRunArn"]
    assert manifest["ResultFiles"]["PENDING"] == []
    [succeeded], [failed] = manifest["ResultFiles"]["SUCCEEDED"], manifest["ResultFiles"]["FAILED"]
    assert [json.loads(row["Output"])["n"] for row in written[succeeded["Key"]]] == list(range(2, 10))
    rows = written[failed["Key"]]
    assert [json.loads(row["Input"])["n"] for row in rows] == [0, 1]
    assert {(row["Status"], row["Error"], row["Cause"]) for row in rows} == {
        ("FAILED", "SkyfanBadInput", "the item asks for it")
    }
    assert stack.map_run(done["executionArn"])["itemCounts"]["resultsWritten"] == 10


def test_result_writer_writes_after_a_failed_map_too(stack, bucket):
    definition = a_map(ItemsPath="$.items", MaxConcurrency=1, ResultWriter=writer("failed"))
    done = stack.run(definition, {"items": items(10, bad=1)})
    assert done["error"] == "States.ExceedToleratedFailureThreshold"
    [manifest] = [content for key, content in objects(bucket, "failed/").items() if "manifest" in key]
    assert manifest["ResultFiles"]["FAILED"]
    assert manifest["ResultFiles"]["PENDING"]


def test_result_writer_without_its_bucket_fails_by_name(stack):
    lost = {**writer("x"), "Parameters": {"Bucket": "there-is-no-such-bucket", "Prefix": "x"}}
    done = stack.run(a_map(ItemsPath="$.items", ResultWriter=lost), {"items": items(2)})
    assert (done["status"], done["error"]) == ("FAILED", "States.ResultWriterFailed")


def reader(kind: str, key: str) -> dict:
    return {
        "Resource": "arn:aws:states:::s3:getObject",
        "ReaderConfig": {"InputType": kind},
        "Parameters": {"Bucket": BUCKET, "Key": key},
    }


def test_item_reader_lists_more_than_a_thousand_objects(stack, bucket):
    for n in range(1005):
        bucket.put_object(Bucket=BUCKET, Key=f"many/{n:04}", Body=b"")
    listing = {
        "Resource": "arn:aws:states:::s3:listObjectsV2",
        "Parameters": {"Bucket": BUCKET, "Prefix": "many/"},
    }
    child = {"StartAt": "Pass", "States": {"Pass": {"Type": "Pass", "OutputPath": "$.Key", "End": True}}}
    done = stack.run(a_map(child, ItemReader=listing), {}, timeout_s=120)
    assert done["output"] == [f"many/{n:04}" for n in range(1005)]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("JSON", '[{"n": 0, "bad": false}, {"n": 1, "bad": false}]'),
        ("JSONL", '{"n": 0, "bad": false}\n\n{"n": 1, "bad": false}\n'),
    ],
)
def test_item_reader_reads_json_and_json_lines(stack, bucket, kind, text):
    bucket.put_object(Bucket=BUCKET, Key=f"items.{kind}", Body=text.encode())
    done = stack.run(a_map(ItemReader=reader(kind, f"items.{kind}")), {})
    assert done["output"] == items(2)


def test_item_reader_without_its_object_fails_by_name(stack, bucket):
    done = stack.run(a_map(ItemReader=reader("JSON", "nowhere.json")), {})
    assert (done["status"], done["error"]) == ("FAILED", "States.ItemReaderFailed")


def test_functions_of_a_map_are_retried_by_error_name(probes):
    """A worker dies and a typed error passes: both are tried again, with the count in the event; bad input is not."""
    task = {
        "Type": "Task",
        "Resource": "arn:aws:states:::lambda:invoke",
        "Parameters": {
            "FunctionName": "probe",
            "Payload": {
                "attempt.$": "$$.State.RetryCount",
                "exits.$": "$.exits",
                "failures.$": "$.failures",
                "error.$": "$.error",
            },
        },
        "ResultSelector": {"attempt.$": "$.Payload.event.attempt"},
        "Retry": [
            {
                "ErrorEquals": ["Runtime.ExitError", "SkyfanTransient"],
                "IntervalSeconds": 1,
                "MaxAttempts": 2,
                "BackoffRate": 1.0,
            }
        ],
        "End": True,
    }
    child = {"StartAt": "Task", "States": {"Task": task}}
    work = [
        {"exits": 0, "failures": 0, "error": ""},
        {"exits": 1, "failures": 0, "error": ""},
        {"exits": 0, "failures": 2, "error": "SkyfanTransient"},
        {"exits": 0, "failures": 1, "error": "SkyfanBadInput"},
    ]
    definition = a_map(child, ItemsPath="$.items", ToleratedFailurePercentage=25)
    done = probes.run(definition, {"items": work})
    assert done["status"] == "SUCCEEDED"
    assert [child.get("attempt") for child in done["output"]] == [0, 1, 2, None]
    assert done["output"][3]["Error"] == "SkyfanBadInput"
