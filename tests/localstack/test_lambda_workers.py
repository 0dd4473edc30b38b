"""Lambda functions in containers that already run: what callers see is what AWS answers."""

import base64
import functools
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from localstack_support import CREDENTIALS, REGION, Stack

pytestmark = [pytest.mark.docker, pytest.mark.slow]
VICTIM_PORT, SINGLE_PORT, BROKEN_PORT = 9002, 9004, 9005
CALLS_AT_ONCE = 16


@functools.cache
def lambda_client(endpoint: str) -> Any:
    """One client for all calls: on a busy machine making one takes longer than calls may be apart. One try each, as
    retries would hide throttling."""
    return boto3.client(
        "lambda",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        config=Config(retries={"total_max_attempts": 1}, max_pool_connections=CALLS_AT_ONCE),
    )


def invoke(stack: Stack, event: Any, function: str = "probe", **options: Any) -> tuple[dict, dict]:
    """The answer and its payload."""
    answer = lambda_client(stack.endpoint).invoke(FunctionName=function, Payload=json.dumps(event), **options)
    return answer, json.loads(answer["Payload"].read())


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 40) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.1)


def test_image_function_is_answered_by_a_running_container(probes):
    answer, payload = invoke(probes, {"hello": 1}, LogType="Tail")
    assert answer["StatusCode"] == 200
    assert "FunctionError" not in answer
    assert payload["event"] == {"hello": 1}
    assert payload["arn"] == f"arn:aws:lambda:{REGION}:000000000000:function:probe"
    assert 0 < payload["left_ms"] <= 4000
    log = base64.b64decode(answer["LogResult"]).decode()
    assert log.startswith("START RequestId: ")
    assert "Billed Duration: " in log


def test_invocations_spread_over_three_replicas(probes):
    def hosts() -> set[str]:
        with ThreadPoolExecutor(6) as pool:
            return {payload["host"] for _, payload in pool.map(lambda _: invoke(probes, {"sleep_s": 0.3}), range(6))}

    wait_until(lambda: len(hosts()) == 3, "all three have started")


def test_reports_reach_cloudwatch_logs_and_localstacks_own(probes):
    invoke(probes, {})
    logs = probes.client("logs")

    def reported() -> bool:
        if not logs.describe_log_groups(logGroupNamePrefix="/aws/lambda/probe")["logGroups"]:
            return False
        events = logs.filter_log_events(logGroupName="/aws/lambda/probe")["events"]
        return any(event["message"].startswith("REPORT RequestId") for event in events)

    wait_until(reported, "a REPORT line in /aws/lambda/probe")
    assert "probe REPORT RequestId: " in probes.logs()


def test_exception_travels_with_its_type(probes):
    answer, payload = invoke(probes, {"failures": 1, "error": "SkyfanBadInput"})
    assert answer["FunctionError"] == "Unhandled"
    assert (payload["errorType"], payload["errorMessage"]) == ("SkyfanBadInput", "attempt 0")


def test_timeout_is_answered_as_on_aws_and_the_late_answer_refused(probes):
    answer, payload = invoke(probes, {"sleep_s": 5.5})
    assert answer["FunctionError"] == "Unhandled"
    assert payload["errorType"] == "Sandbox.Timedout"
    assert payload["errorMessage"].endswith("Task timed out after 4.00 seconds")
    wait_until(lambda: "too late" in probes.logs(), "the late answer is refused")
    assert invoke(probes, {"still": "works"})[1]["event"] == {"still": "works"}


def test_worker_that_exits_fails_its_invocation(probes):
    answer, payload = invoke(probes, {"exits": 1})
    assert answer["FunctionError"] == "Unhandled"
    assert payload["errorType"] == "Runtime.ExitError"


def test_killed_container_fails_its_invocation_before_the_time_out(stack, probe_image):
    worker = stack.start_worker(probe_image, "victim", VICTIM_PORT)
    assert stack.first_answer("victim")["event"] == {}
    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(invoke, stack, {"sleep_s": 29}, "victim")
        time.sleep(2)  # it is in the handler now
        worker.get_wrapped_container().kill()
        _, payload = busy.result()
    assert payload["errorType"] == "Runtime.ExitError"


def test_answer_above_six_megabytes_is_refused(probes):
    _, payload = invoke(probes, {"answer_bytes": 6_400_000})
    assert payload["errorType"] == "Function.ResponseSizeTooLarge"


def test_request_above_six_megabytes_is_refused(probes):
    with pytest.raises(ClientError) as refused:
        invoke(probes, {"filler": "x" * 6_400_000})
    assert refused.value.response["Error"]["Code"] == "RequestTooLargeException"


def test_function_without_workers_is_a_service_error(stack):
    with pytest.raises(ClientError, match="No worker of lonely connected within 3 s") as refused:
        invoke(stack, {}, "lonely")
    assert refused.value.response["Error"]["Code"] == "ServiceException"


def test_busy_workers_throttle_after_the_wait(stack, probe_image):
    stack.start_worker(probe_image, "single", SINGLE_PORT)
    stack.first_answer("single")
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(invoke, stack, {"sleep_s": 7}, "single")
        time.sleep(1)
        second = pool.submit(invoke, stack, {}, "single")
        with pytest.raises(ClientError, match="Rate Exceeded") as refused:
            second.result()
        assert first.result()[1]["event"] == {"sleep_s": 7}
    assert refused.value.response["Error"]["Code"] == "TooManyRequestsException"
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 429


def test_full_queue_throttles_at_once(probes):
    with ThreadPoolExecutor(CALLS_AT_ONCE) as pool:
        calls = [pool.submit(invoke, probes, {"sleep_s": 2}) for _ in range(CALLS_AT_ONCE)]
        errors = [call.exception() for call in calls]
    throttled = [error for error in errors if isinstance(error, ClientError)]
    assert throttled
    assert {error.response["Error"]["Code"] for error in throttled} == {"TooManyRequestsException"}
    assert len(throttled) < CALLS_AT_ONCE


def test_handler_that_cannot_be_imported_fails_a_waiting_invocation(stack, probe_image):
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(stack.first_answer, "broken")
        time.sleep(0.5)
        always = {"restart_policy": {"Name": "always"}}
        worker = stack.start_worker(probe_image, "broken", BROKEN_PORT, command=["nowhere.handle"], **always)
        payload = waiting.result()
    worker.get_wrapped_container().kill()
    assert payload["errorType"] == "Runtime.ImportModuleError"


def test_function_without_a_port_is_failed_and_says_why(stack):
    functions = stack.client("lambda")
    functions.create_function(
        FunctionName="unlisted",
        PackageType="Image",
        Code={"ImageUri": f"000000000000.dkr.ecr.{REGION}.amazonaws.com/unlisted:1"},
        Role="arn:aws:iam::000000000000:role/test",
    )

    def state() -> dict:
        return functions.get_function_configuration(FunctionName="unlisted")

    wait_until(lambda: state()["State"] == "Failed", "the function is Failed")
    assert "add unlisted=PORT to LAMBDA_RUNTIME_API_PORTS" in state()["StateReason"]
