"""The whole module, rendezvous and its network included, on moto: minutes, and therefore marked slow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .conftest import ACCOUNT, NewWorkspace, for_moto
from .test_iam import policies
from .tf_harness.iam import actions, is_allowed, too_wide

pytestmark = pytest.mark.slow


def function_environment(resources: dict[str, Any], service: str) -> dict[str, str]:
    (environment,) = resources[f'aws_lambda_function.this["{service}"]']["environment"]
    variables: dict[str, str] = environment["variables"]
    return variables


def test_whole_module_applies_without_drift_and_goes_away(
    new_workspace: NewWorkspace, moto_url: str, tmp_path: Path
) -> None:
    calls = tmp_path / "calls"
    workspace = for_moto(new_workspace(), moto_url, calls, environment="full", enable_rendezvous=True)
    workspace.apply()
    outputs, resources = workspace.outputs(), workspace.resources()

    address = outputs["rendezvous"]["address"]
    assert address.endswith(":50054")
    assert outputs["rendezvous"]["token_secret_arn"].startswith(f"arn:aws:secretsmanager:us-east-1:{ACCOUNT}:secret:")
    assert "--state-machine skyfan-full-pipeline" in outputs["run_command"]

    token = Path(f"{calls}.secret").read_text()
    assert len(token) == 64
    assert token not in (workspace.module / "terraform.tfstate").read_text(), "no secret in state"

    environment = {who: function_environment(resources, who) for who in ("partitioner", "executor", "aggregator")}
    assert environment["partitioner"]["SKYFAN_RENDEZVOUS"] == address
    assert environment["executor"]["SKYFAN_TOKEN_SECRET"] == outputs["rendezvous"]["token_secret_arn"]
    assert environment["executor"]["SKYFAN_TOKEN_VERSION"] == resources['terraform_data.rendezvous_token["this"]']["id"]
    assert "SKYFAN_TOKEN" not in environment["executor"]
    assert not environment["aggregator"].keys() & {"SKYFAN_RENDEZVOUS", "SKYFAN_TOKEN_SECRET"}

    (container,) = json.loads(resources['aws_ecs_task_definition.rendezvous["this"]']["container_definitions"])
    assert [secret["name"] for secret in container["secrets"]] == ["SKYFAN_TOKEN"]
    assert container["image"] == outputs["image_uris"]["rendezvous"]
    groups = [value for name, value in resources.items() if name.startswith("aws_lb_target_group.")]
    assert sorted(group["port"] for group in groups) == [50054, 50055]
    assert all(group["preserve_client_ip"] == "true" for group in groups)

    held = policies(resources)
    assert all(too_wide(document) == [] for document in held.values())
    secret = outputs["rendezvous"]["token_secret_arn"]
    assert is_allowed(held["rendezvous"], "secretsmanager:GetSecretValue", secret)
    readers = [who for who in held if is_allowed(held[who], "secretsmanager:GetSecretValue", secret)]
    assert sorted(readers) == ["executor", "executor-torch", "rendezvous", "runner"]
    assert not is_allowed(held["executor"], "secretsmanager:GetSecretValue", f"{secret}-another")
    assert not is_allowed(held["executor"], "secretsmanager:PutSecretValue", secret)
    assert not any(name.startswith(("s3:", "lambda:", "states:")) for name in actions(held["rendezvous"]))

    result = workspace.plan()
    assert result.status == 0, result.output
    workspace.destroy()
    assert workspace.resources() == {}
