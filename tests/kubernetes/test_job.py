"""The Indexed Job: what Kubernetes accepts, and what its container does, which is started here without Docker."""

import json
import os
import string
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from skyfan.errors import RETRY_EXIT_CODE, BadInput, SkyfanError
from tests.command import skyfan
from tests.e2e.support import assert_equal_z, predictions

JOB = Path(__file__).parents[2] / "infra/kubernetes/ranks.yaml"
RANKS = 3
# The oldest release in which backoffLimitPerIndex is stable, and a later one.
VERSIONS = ("1.33", "1.35")


def rendered(run: str = "s3://bucket/runs/sky", start: str = "20261126T210000-abcd") -> dict:
    values = {"RUN": run, "START": start, "RANKS": RANKS, "PARALLELISM": 2, "IMAGE": "registry.example/executor:1"}
    return yaml.safe_load(string.Template(JOB.read_text()).substitute(values))


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_accepts_it(version):
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    kubernetes_validate.validate(rendered(), version, strict=True)


def test_its_container_may_do_nothing_but_its_work():
    pod = rendered()["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert not pod["automountServiceAccountToken"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_codes_that_another_attempt_does_not_cure_fail_the_rank():
    rules = rendered()["spec"]["podFailurePolicy"]["rules"]
    (codes,) = (rule["onExitCodes"]["values"] for rule in rules if rule["action"] == "FailIndex")
    assert sorted(codes) == [BadInput.exit_code, SkyfanError.exit_code]
    assert RETRY_EXIT_CODE not in codes


@pytest.mark.slow
def test_its_pods_compute_the_run(sample, small_model, expected_z, tmp_path):
    output = tmp_path / "run"
    words = ("--dataset", sample.path, "--model", small_model, "--output", output, "--world-size", RANKS)
    planned = skyfan("plan", *words, "--partition-size", "500KB", "--write", "--json")
    start = json.loads(planned.stdout)["start"]
    (container,) = rendered(str(output), start)["spec"]["template"]["spec"]["containers"]
    command = [sys.executable, *container["command"][1:], *container["args"]]
    codes = []
    for index in (2, 0, 1, 3):
        environment = os.environ | {"JOB_COMPLETION_INDEX": str(index)}
        done = subprocess.run(command, env=environment, capture_output=True, timeout=120, check=False)
        codes.append(done.returncode)
    assert codes == [0, 0, 0, BadInput.exit_code]  # there is no fourth rank
    skyfan("aggregate", output, "-q")
    assert_equal_z(predictions(output), expected_z)
