"""The module on moto with a provider that runs: what apply makes, that nothing drifts, that destroy takes it all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import boto3
import pytest

from .conftest import ACCOUNT, FUNCTIONS, IMAGE, NewWorkspace, for_moto
from .tf_harness.older_provider import drop_newer, newer_names
from .tf_harness.workspace import Workspace


def client(service: str, url: str) -> Any:
    make: Any = boto3.client  # its type is an overload for each service, by literal name
    return make(service, endpoint_url=url, region_name="us-east-1", aws_access_key_id="t", aws_secret_access_key="t")


def test_outputs_say_what_to_type_next(deployed: Workspace) -> None:
    outputs = deployed.outputs()
    bucket = f"skyfan-{ACCOUNT}-us-east-1"
    assert outputs["bucket"] == bucket
    assert outputs["run_command"] == (
        f"AWS_REGION=us-east-1 skyfan run --on aws --dataset s3://{bucket}/data/demo.pt --partition-size 2MB "
        f"--workers 10 --output s3://{bucket}/runs/first"
    )
    assert outputs["state_machine_arn"] == f"arn:aws:states:us-east-1:{ACCOUNT}:stateMachine:skyfan-pipeline"
    assert "rendezvous" not in outputs


def test_functions_enter_their_images_through_the_runtime_interface(deployed: Workspace, moto_url: str) -> None:
    functions = client("lambda", moto_url)
    for service in FUNCTIONS:
        configuration = functions.get_function(FunctionName=f"skyfan-{service}")["Configuration"]
        assert configuration["PackageType"] == "Image"
        entry = configuration["ImageConfigResponse"]["ImageConfig"]
        assert entry["EntryPoint"] == ["python", "-m", "awslambdaric"]
        assert entry["Command"] == [f"services.{service.removesuffix('-torch')}.lambda_handler.handler"]
        assert configuration["MemorySize"] <= 3008, "a new account refuses more"


def test_second_plan_finds_nothing_to_do(deployed: Workspace) -> None:
    result = deployed.plan()
    assert result.status == 0, result.output


def test_everything_carries_the_default_tags(deployed: Workspace) -> None:
    tagged = [a["tags_all"] for a in deployed.resources().values() if a.get("tags_all")]
    assert len(tagged) > 10
    for tags in tagged:
        assert {"application": "skyfan", "managed_by": "terraform", "name_prefix": "skyfan"}.items() <= tags.items()


def test_state_holds_no_secret(deployed: Workspace) -> None:
    state = (deployed.module / "terraform.tfstate").read_text()
    assert "a-password" not in state


def test_change_then_destroy(new_workspace: NewWorkspace, moto_url: str, tmp_path: Path) -> None:
    images = {service: IMAGE.format(service) for service in FUNCTIONS}
    workspace = for_moto(
        new_workspace(), moto_url, tmp_path / "calls", environment="dev", build_images=False, image_uris=images
    )
    workspace.apply()
    assert not (tmp_path / "calls").exists(), "images given: neither docker nor aws is called"
    functions = client("lambda", moto_url)
    assert functions.get_function(FunctionName="skyfan-dev-executor")["Code"]["ImageUri"] == images["executor"]

    workspace.variables |= {"executor_memory_mb": 2048, "log_retention_days": 7, "create_alarms": False}
    output = workspace.apply("-refresh=false")
    assert "0 added, 8 changed, 11 destroyed" in output, output  # two functions, dashboard, five log groups; the alarms
    assert functions.get_function(FunctionName="skyfan-dev-executor")["Configuration"]["MemorySize"] == 2048
    alarms = client("cloudwatch", moto_url).describe_alarms(AlarmNamePrefix="skyfan-dev")["MetricAlarms"]
    assert alarms == []

    s3 = client("s3", moto_url)
    bucket = workspace.outputs()["bucket"]
    s3.delete_bucket_policy(Bucket=bucket)  # moto takes its Deny for everyone's: it does not read conditions
    s3.put_object(Bucket=bucket, Key="runs/first/summary.json", Body=b"{}")
    refused = workspace.run("destroy", "-auto-approve", "-no-color", "-refresh=false", check=False)
    assert refused.status != 0, "results must not be deleted by accident"
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 1

    # docs/how-to/deploy.md, "Teardown": first let go of the bucket, then destroy.
    workspace.variables["force_destroy"] = True
    workspace.apply("-refresh=false")
    s3.delete_bucket_policy(Bucket=bucket)
    workspace.destroy()
    assert workspace.resources() == {}
    assert bucket not in [b["Name"] for b in s3.list_buckets()["Buckets"]]


def test_list_of_newer_arguments_holds_nothing_stale(new_workspace: NewWorkspace) -> None:
    with pytest.raises(ValueError, match=r"aws_lambda_function\.no_such_argument"):
        drop_newer(new_workspace().module, newer_names() | {"aws_lambda_function.no_such_argument"})


def test_argument_that_is_newer_and_not_listed_fails(
    new_workspace: NewWorkspace, moto_url: str, tmp_path: Path
) -> None:
    workspace = new_workspace()
    workspace.replace("functions.tf", "  timeout     ", "  skip_destroy = false\n  timeout     ")
    result = for_moto(workspace, moto_url, tmp_path / "calls").run("validate", "-no-color", check=False)
    assert result.status != 0
    assert 'An argument named "skip_destroy" is not expected here' in result.output
