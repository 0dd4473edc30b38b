"""The emulated AWS Batch, called with boto3: arrays, retries by exit code, what a task is told, and stopping."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from skyfan_localstack.schedulers.batch import Jobs
from skyfan_localstack.schedulers.server import serving

DEADLINE_S = 60


@pytest.fixture
def batch() -> Iterator[Any]:
    with serving(Jobs(["cpu"], slots=3)) as url:
        yield boto3.client(
            "batch", endpoint_url=url, region_name="us-east-1", aws_access_key_id="t", aws_secret_access_key="t"
        )


def define(batch: Any, program: str, *words: str, **more: Any) -> None:
    container = {"image": "any", "command": [sys.executable, "-c", program, *words]}
    batch.register_job_definition(jobDefinitionName="rank", type="container", containerProperties=container, **more)


def submit(batch: Any, **more: Any) -> str:
    job_id: str = batch.submit_job(jobName="test", jobQueue="cpu", jobDefinition="rank", **more)["jobId"]
    return job_id


def ended(batch: Any, job_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + DEADLINE_S
    while True:
        found: dict[str, Any] = batch.describe_jobs(jobs=[job_id])["jobs"][0]
        if found["status"] in ("SUCCEEDED", "FAILED"):
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


TELL = """
import json, os, sys
told = {name: value for name, value in os.environ.items() if name.startswith("AWS_BATCH_")} | {"words": sys.argv[2:]}
open(os.path.join(sys.argv[1], os.environ.get("AWS_BATCH_JOB_ARRAY_INDEX", "alone")), "w").write(json.dumps(told))
"""


@pytest.mark.slow
def test_children_are_told_their_index_and_the_parameters(batch: Any, tmp_path: Path) -> None:
    define(batch, TELL, str(tmp_path), "Ref::output", "Ref::tasks", "as it is", parameters={"tasks": "1"})
    job = submit(batch, arrayProperties={"size": 4}, parameters={"output": "s3://b/run"})
    done = ended(batch, job)
    assert done["status"] == "SUCCEEDED"
    assert done["arrayProperties"] == {"size": 4, "statusSummary": {"SUCCEEDED": 4}}
    for index in range(4):
        told = json.loads((tmp_path / str(index)).read_text())
        assert told["AWS_BATCH_JOB_ARRAY_INDEX"] == str(index)
        assert (told["AWS_BATCH_JOB_ARRAY_SIZE"], told["AWS_BATCH_JOB_ATTEMPT"]) == ("4", "1")
        assert told["AWS_BATCH_JOB_ID"] == f"{job}:{index}"
        assert told["words"] == ["s3://b/run", "1", "as it is"]


@pytest.mark.slow
def test_a_plain_job_has_no_index(batch: Any, tmp_path: Path) -> None:
    define(batch, TELL, str(tmp_path))
    job = submit(batch)
    assert ended(batch, job)["status"] == "SUCCEEDED"
    told = json.loads((tmp_path / "alone").read_text())
    assert told["AWS_BATCH_JOB_ID"] == job
    assert "AWS_BATCH_JOB_ARRAY_INDEX" not in told


# As infra/terraform/batch.tf has it.
RETRY = {
    "attempts": 3,
    "evaluateOnExit": [
        {"onExitCode": "75", "action": "RETRY"},
        {"onStatusReason": "Host EC2*", "action": "RETRY"},
        {"onReason": "*", "action": "EXIT"},
    ],
}
EXITS = "import os, sys; sys.exit(json.loads(sys.argv[1])[int(os.environ['AWS_BATCH_JOB_ATTEMPT']) - 1])"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("codes", "status", "attempts"),
    [
        ([75, 75, 0], "SUCCEEDED", 3),
        ([75, 75, 75, 0], "FAILED", 3),  # no more than asked for
        ([4, 0], "FAILED", 1),  # permanent
        ([75, 2, 0], "FAILED", 2),
    ],
)
def test_the_exit_code_decides_about_another_attempt(batch: Any, codes: list[int], status: str, attempts: int) -> None:
    define(batch, f"import json; {EXITS}", json.dumps(codes), retryStrategy=RETRY)
    done = ended(batch, submit(batch))
    assert (done["status"], len(done["attempts"])) == (status, attempts)
    assert done["attempts"][-1]["container"]["exitCode"] == codes[attempts - 1]


@pytest.mark.slow
def test_one_failed_child_fails_the_array_after_all_have_ended(batch: Any) -> None:
    define(batch, "import os, sys; sys.exit(4 if os.environ['AWS_BATCH_JOB_ARRAY_INDEX'] == '1' else 0)")
    done = ended(batch, submit(batch, arrayProperties={"size": 3}))
    assert done["status"] == "FAILED"
    assert done["arrayProperties"]["statusSummary"] == {"SUCCEEDED": 2, "FAILED": 1}


@pytest.mark.slow
def test_terminating_sends_sigterm_and_starts_nothing_more(batch: Any, tmp_path: Path) -> None:
    program = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
open(os.path.join(sys.argv[1], os.environ["AWS_BATCH_JOB_ARRAY_INDEX"]), "w").close()
time.sleep(60)
"""
    define(batch, program, str(tmp_path), retryStrategy=RETRY)
    job = submit(batch, arrayProperties={"size": 5})
    deadline = time.monotonic() + DEADLINE_S
    while len(list(tmp_path.iterdir())) < 3:  # the three slots
        assert time.monotonic() < deadline
        time.sleep(0.05)
    batch.terminate_job(jobId=job, reason="enough")
    done = ended(batch, job)
    assert done["status"] == "FAILED"
    assert len(list(tmp_path.iterdir())) == 3
    child = batch.describe_jobs(jobs=[f"{job}:0"])["jobs"][0]
    assert (child["statusReason"], child["attempts"][0]["container"]["exitCode"]) == ("enough", 75)


@pytest.mark.slow
def test_an_attempt_ends_at_its_time_out(batch: Any) -> None:
    define(batch, "import time; time.sleep(60)", timeout={"attemptDurationSeconds": 1})
    done = ended(batch, submit(batch))
    assert (done["status"], done["statusReason"]) == ("FAILED", "Job attempt duration exceeded timeout")


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ({"arrayProperties": {"size": 1}}, "Array size 1"),
        ({"arrayProperties": {"size": 10_001}}, "Array size 10001"),
        ({"jobDefinition": "another"}, "'another' is not registered"),
        ({"jobQueue": "gpu"}, "'gpu' was not found"),
    ],
)
def test_what_aws_refuses_is_refused(batch: Any, request_: dict[str, Any], says: str) -> None:
    define(batch, "pass")
    asked = {"jobName": "test", "jobQueue": "cpu", "jobDefinition": "rank", **request_}
    with pytest.raises(ClientError, match=says):
        batch.submit_job(**asked)
