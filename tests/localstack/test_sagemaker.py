"""The emulated SageMaker, called with boto3: what an instance finds, how a job ends, and stopping."""

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
from skyfan_localstack.schedulers.sagemaker import link_opt_ml
from skyfan_localstack.schedulers.server import serving

DEADLINE_S = 60


@pytest.fixture
def sagemaker() -> Iterator[Any]:
    with serving(Jobs([])) as url:
        yield boto3.client(
            "sagemaker", endpoint_url=url, region_name="us-east-1", aws_access_key_id="t", aws_secret_access_key="t"
        )


def create(sagemaker: Any, program: str, *words: str, instances: int = 1, **more: Any) -> None:
    """A processing job named `test` of that Python program."""
    asked: dict[str, Any] = {
        "ProcessingJobName": "test",
        "RoleArn": "arn:aws:iam::123456789012:role/skyfan",
        "AppSpecification": {
            "ImageUri": "any",
            "ContainerEntrypoint": [sys.executable, "-c", program],
            "ContainerArguments": list(words) or ["none"],
        },
        "ProcessingResources": {
            "ClusterConfig": {"InstanceCount": instances, "InstanceType": "ml.c5.4xlarge", "VolumeSizeInGB": 30}
        },
    }
    sagemaker.create_processing_job(**asked | more)


def ended(sagemaker: Any) -> dict[str, Any]:
    deadline = time.monotonic() + DEADLINE_S
    while True:
        found: dict[str, Any] = sagemaker.describe_processing_job(ProcessingJobName="test")
        if found["ProcessingJobStatus"] in ("Completed", "Failed", "Stopped"):
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


TELL = """
import json, os, sys
resources = json.load(open(sys.argv[2] + "/config/resourceconfig.json"))
job = json.load(open(sys.argv[2] + "/config/processingjobconfig.json"))
told = {"hosts": resources["hosts"], "job": job["ProcessingJobName"], "set": os.environ["SET"], "words": sys.argv[4:]}
open(os.path.join(sys.argv[3], resources["current_host"]), "w").write(json.dumps(told))
"""


@pytest.mark.slow
def test_each_instance_finds_itself_among_the_hosts_under_one_path(sagemaker: Any, tmp_path: Path) -> None:
    opt_ml, told = tmp_path / "ml", tmp_path / "told"
    opt_ml.mkdir()
    told.mkdir()
    link_opt_ml(opt_ml)
    program = tmp_path / "tell.py"
    program.write_text(TELL)
    words = (str(program), str(opt_ml), str(told), "as it is")
    create(sagemaker, "import sys; exec(open(sys.argv[1]).read())", *words, instances=3, Environment={"SET": "yes"})
    assert ended(sagemaker)["ProcessingJobStatus"] == "Completed"
    hosts = ["algo-1", "algo-2", "algo-3"]
    found = {path.name: json.loads(path.read_text()) for path in told.iterdir()}
    assert found == {host: {"hosts": hosts, "job": "test", "set": "yes", "words": ["as it is"]} for host in hosts}


@pytest.mark.slow
def test_an_instance_that_fails_fails_the_job_and_is_named(sagemaker: Any) -> None:
    program = (
        "import json, sys; sys.exit(4 * ('algo-2' == json.load(open('config/resourceconfig.json'))['current_host']))"
    )
    create(sagemaker, program, instances=2)
    done = ended(sagemaker)
    assert done["ProcessingJobStatus"] == "Failed"
    assert done["FailureReason"].startswith("algo-2 exited with 4")
    assert "algo-1" not in done["FailureReason"]


@pytest.mark.slow
def test_stopping_ends_the_instances(sagemaker: Any) -> None:
    create(sagemaker, "import time; time.sleep(60)", instances=2)
    sagemaker.stop_processing_job(ProcessingJobName="test")
    assert ended(sagemaker)["ProcessingJobStatus"] == "Stopped"


@pytest.mark.slow
def test_a_job_ends_at_its_time_out(sagemaker: Any) -> None:
    create(sagemaker, "import time; time.sleep(60)", StoppingCondition={"MaxRuntimeInSeconds": 1})
    assert "timeout" in ended(sagemaker)["FailureReason"]


def test_what_aws_refuses_is_refused(sagemaker: Any) -> None:
    with pytest.raises(ClientError, match="more than 256"):
        create(sagemaker, "pass", "x" * 257)
    with pytest.raises(ClientError, match="more than 63"):
        create(sagemaker, "pass", ProcessingJobName="x" * 64)
    with pytest.raises(ClientError, match="InstanceCount 101"):
        create(sagemaker, "pass", instances=101)
    create(sagemaker, "pass")
    with pytest.raises(ClientError, match="there already"):
        create(sagemaker, "pass")
    with pytest.raises(ClientError, match="no processing job another"):
        sagemaker.describe_processing_job(ProcessingJobName="another")
