"""The state machine as Terraform renders it: whole, connected, and refused where it is broken."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import ACCOUNT, FUNCTIONS
from .tf_harness.workspace import Workspace

Machine = dict[str, Any]


def defects(machine: Machine, where: str = "the machine") -> list[str]:
    """States that lead nowhere, that nothing leads to, and tasks without a bound, here and in maps."""
    states: dict[str, Machine] = machine["States"]
    found = [f"{where} starts at {machine['StartAt']}, which is not there"] if machine["StartAt"] not in states else []
    reached = {machine["StartAt"]}
    for name, state in states.items():
        targets = list(_targets(state))
        reached.update(targets)
        found += [f"{name} leads to {target}, which is not there" for target in targets if target not in states]
        if not targets and not state.get("End") and state["Type"] not in {"Succeed", "Fail"}:
            found.append(f"{name} neither ends nor leads on")
        if state["Type"] == "Task" and "TimeoutSeconds" not in state:
            found.append(f"{name} has no time-out")
        if "ItemProcessor" in state:
            found += defects(state["ItemProcessor"], name)
    return found + [f"nothing leads to {name}" for name in states if name not in reached]


def _targets(state: Machine) -> Iterator[str]:
    for holder in [state, *state.get("Catch", []), *state.get("Choices", [])]:
        if "Next" in holder:
            yield holder["Next"]
    if "Default" in state:
        yield state["Default"]


@pytest.fixture
def machine(deployed: Workspace) -> Machine:
    loaded: Machine = json.loads(deployed.resources()["aws_sfn_state_machine.pipeline"]["definition"])
    return loaded


def test_machine_is_whole(machine: Machine) -> None:
    assert defects(machine) == []


def test_machine_calls_the_functions_of_this_deployment(machine: Machine) -> None:
    text = json.dumps(machine)
    assert "${" not in text
    for service in FUNCTIONS:
        assert f'"arn:aws:lambda:us-east-1:{ACCOUNT}:function:skyfan-{service}"' in text


def test_machine_waits_longer_than_its_functions_may_take(deployed: Workspace, machine: Machine) -> None:
    resources = deployed.resources()
    timeouts = {
        attributes["arn"]: attributes["timeout"]
        for address, attributes in resources.items()
        if address.startswith("aws_lambda_function.")
    }
    rank = machine["States"]["Infer"]["ItemProcessor"]["States"]
    executor = machine["States"]["ExecutorWithoutTorch"]["Result"]
    for state in [*machine["States"].values(), *rank.values()]:
        if state["Type"] == "Task":
            assert state["TimeoutSeconds"] > timeouts[state["Parameters"].get("FunctionName", executor)]


@pytest.mark.parametrize(
    ("old", "new", "defect"),
    [
        ('"Next": "Aggregate"', '"Next": "Agregate"', "Agregate, which is not there"),
        ('"StartAt": "Receive"', '"StartAt": "Recieve"', "the machine starts at Recieve"),
        ('"End": true', '"Comment": "on"', "InferRank neither ends nor leads on"),
        ('"TimeoutSeconds": 390', '"HeartbeatSeconds": 390', "Plan has no time-out"),
        ('"Default": "Done"', '"Default": "Failed"', "nothing leads to Done"),
    ],
)
def test_broken_machine_is_noticed(machine: Machine, old: str, new: str, defect: str) -> None:
    text = json.dumps(machine)
    assert old in text
    found = defects(json.loads(text.replace(old, new, 1)))
    assert any(defect in line for line in found), found


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('"StartAt": "Receive",', '"StartAt": "Receive"', "is not a JSON object with StartAt and States"),
        ("${executor_arn}", "${exekutor_arn}", 'vars map does not contain key "exekutor_arn"'),
    ],
)
def test_unusable_machine_is_refused_by_plan(
    deployed: Workspace, tmp_path: Path, old: str, new: str, complaint: str
) -> None:
    changed = deployed.copy(tmp_path / "changed")
    changed.replace("../stepfunctions/pipeline.asl.json", old, new)
    result = changed.run("plan", "-refresh=false", "-no-color", check=False)
    assert result.status == 1
    assert complaint in " ".join(result.output.split())
