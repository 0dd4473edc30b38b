"""The state machine's template: renders, is valid, tries again what may pass and nothing else."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from skyfan_compose.definition import TEMPLATE, Variables, render

from skyfan import errors, store  # noqa: F401 - the store derives errors of its own
from skyfan.cost.usage import PIPELINE_STATES
from skyfan.errors import LocationError, SkyfanError
from skyfan.rpc.lambda_errors import lambda_error
from tests.backends.stepfunctions.small_interpreter import holds
from tests.infra.test_lambda_events import tasks

VALIDATOR = Path(__file__).parents[1] / "backends" / "stepfunctions" / "validator"
ARN = "arn:aws:lambda:us-east-1:123456789012:function:skyfan-{}"
VARIABLES = Variables(*(ARN.format(name) for name in ("partitioner", "executor", "executor-torch", "aggregator")))


@pytest.fixture
def definition() -> dict[str, Any]:
    return json.loads(render(VARIABLES))


def test_every_variable_is_filled_in(definition):
    assert "${" not in json.dumps(definition)
    functions = {name: task["Parameters"].get("FunctionName") for name, task in tasks(definition["States"])}
    assert functions == {
        "Prepare": ARN.format("executor-torch"),
        "Plan": ARN.format("partitioner"),
        "Convert": ARN.format("executor-torch"),
        "InferRank": None,
        "Aggregate": ARN.format("aggregator"),
        "RecordFailure": ARN.format("aggregator"),
    }


def test_template_and_variables_must_agree(tmp_path):
    template = tmp_path / "other.asl.json"
    template.write_text('{"StartAt": "${somewhere}"}')
    with pytest.raises(SkyfanError, match="somewhere"):
        render(VARIABLES, template)
    with pytest.raises(LocationError, match="checkout"):
        render(VARIABLES, tmp_path / "missing.json")


def test_rendering_leaves_paths_and_context_alone():
    """Terraform's templatefile replaces ${...} only; so must ours, though $$ means much to Python's templates."""
    template, rendered = TEMPLATE.read_text(), render(VARIABLES)
    assert rendered.count("$$.") == template.count("$$.") > 0
    assert "%{" not in template  # a directive to Terraform


def test_everything_that_runs_has_a_time_limit(definition):
    assert definition["TimeoutSeconds"] == 86_400
    assert all(task["TimeoutSeconds"] == 990 for _, task in tasks(definition["States"]))


def retried(task: dict[str, Any]) -> set[str]:
    return {name for retrier in task["Retry"] for name in retrier["ErrorEquals"]}


THROTTLED = ["Lambda.TooManyRequestsException"]


def test_every_retry_is_bounded_backs_off_and_jitters(definition):
    for _, task in tasks(definition["States"]):
        for retrier in task["Retry"]:
            assert 0 < retrier["MaxAttempts"] <= (1500 if retrier["ErrorEquals"] == THROTTLED else 60)
            assert retrier["BackoffRate"] > 1
            assert retrier["MaxDelaySeconds"] <= 60
            assert retrier["JitterStrategy"] == "FULL"


def engine_image(states: dict[str, Any], engine: str) -> str:
    """The function that computes the ranks of a model with this engine."""
    choice, data = states["WhichExecutor"], {"converted": {"engine": engine}}
    chosen = next((rule["Next"] for rule in choice["Choices"] if holds(rule, data, {})), choice["Default"])
    return str(states[chosen]["Result"])


def test_the_image_that_has_torch_runs_the_ranks_that_need_it(definition):
    states = definition["States"]
    assert engine_image(states, "openvino") == ARN.format("executor")
    # ONNX Runtime is in the image with torch only, and engines of several models are joined by " + ".
    for engine in ("torch", "onnxruntime", "openvino + onnxruntime", "onnxruntime + openvino", "a later one"):
        assert engine_image(states, engine) == ARN.format("executor-torch"), engine
    rank = states["Infer"]["ItemProcessor"]["States"]["InferRank"]["Parameters"]
    assert rank["FunctionName.$"] == "$.executor"
    assert states["Infer"]["ItemSelector"]["executor.$"] == "$.executor"


def test_the_converted_model_is_written_after_the_plan_has_claimed_the_folder(definition):
    states = definition["States"]
    assert states["Prepare"]["Next"] == "Plan"
    assert states["Plan"]["Next"] == "IsAnythingToDo"
    assert states["IsAnythingToDo"]["Choices"][0]["Next"] == "Convert"
    assert states["Convert"]["Next"] == "WhichExecutor"


def test_an_image_that_lambda_is_optimising_is_waited_for_before_anything_else(definition):
    """ "Container images", https://docs.aws.amazon.com/lambda/latest/dg/images-create.html (read 2026-11): after weeks
    without use an image function is Inactive, and its first invocations fail while it becomes Pending and Active."""
    for name, task in tasks(definition["States"]):
        first = task["Retry"][0]
        assert "Lambda.CodeArtifactUserPendingException" in first["ErrorEquals"], name
        assert waited_s(first) >= 120, name  # 106 s were seen, and each function wakes by itself


def test_throttled_ranks_wait_for_hours(definition):
    """A new account runs 10 ranks at once: the last of 1,000 ranks of 60 s waits 100 minutes, and none may give up."""
    for name, task in tasks(definition["States"]):
        throttled = next(retrier for retrier in task["Retry"] if retrier["ErrorEquals"] == THROTTLED)
        assert waited_s(throttled) > 6 * 3600, name
        # 3 events a try, of the 25,000 that a Standard execution may have.
        assert throttled["MaxAttempts"] * 3 < 20_000


def waited_s(retrier: dict[str, Any]) -> float:
    """Seconds that a retrier waits in all, on average: full jitter halves each pause."""
    pause_s, waited = float(retrier["IntervalSeconds"]), 0.0
    for _ in range(retrier["MaxAttempts"]):
        waited += min(pause_s, retrier["MaxDelaySeconds"]) / 2
        pause_s = min(pause_s * retrier["BackoffRate"], retrier["MaxDelaySeconds"])
    return waited


def test_the_maps_label_is_pinned(definition):
    """Children run as `stateMachine:<name>/<label>`, which the role's trust policy names; without a Label AWS makes one
    up. At most 40 characters."""
    assert definition["States"]["Infer"]["Label"] == "Infer"


def test_the_bill_counts_the_states_that_a_run_enters(definition):
    states, entered = definition["States"], [definition["StartAt"]]
    while states[entered[-1]]["Type"] != "Succeed":
        state = states[entered[-1]]
        entered.append({"IsAnythingToDo": "Convert"}.get(entered[-1]) or state.get("Next") or state["Default"])
    assert len(entered) == PIPELINE_STATES, entered


def test_bad_input_is_never_tried_again(definition):
    bad = [errors.BadInput, *errors.BadInput.__subclasses__()]
    for _, task in tasks(definition["States"]):
        assert not retried(task) & {error.error_name() for error in bad}
        assert not retried(task) & {"States.ALL", "States.TaskFailed"}


def kinds_of(error: type[SkyfanError]) -> Iterator[type[SkyfanError]]:
    """The class and all that are derived from it where this module has imported them."""
    yield error
    for kind in error.__subclasses__():
        yield from kinds_of(kind)


# Those that can leave a stage: of `skyfan.errors` and of the store. The communicator's stay within the rank.
LEAVING = ("skyfan.errors", "skyfan.store")
TRANSIENT = [kind for kind in kinds_of(errors.Transient) if kind.__module__.startswith(LEAVING)]


@pytest.mark.parametrize("error", TRANSIENT)
def test_transient_errors_are_tried_again(definition, error):
    assert all(error.error_name() in retried(task) for _, task in tasks(definition["States"]))


@pytest.mark.parametrize("lost", ["Runtime.ExitError", "Sandbox.Timedout", "Lambda.Unknown", "States.Timeout"])
def test_lost_workers_are_replaced(definition, lost):
    assert all(lost in retried(task) for _, task in tasks(definition["States"]))


def test_errors_leave_a_handler_under_the_name_that_the_definition_matches():
    error = lambda_error(errors.DatasetError("sky.pt has no samples."))
    assert type(error).__name__ == "SkyfanDatasetError"
    assert str(error) == "sky.pt has no samples."


def test_statelint_finds_nothing_but_what_the_public_specification_lacks(tmp_path):
    statelint = Path(sys.executable).parent / "statelint"
    if not statelint.exists():
        pytest.skip("statelint is not installed")
    file = tmp_path / "pipeline.asl.json"
    file.write_text(render(VARIABLES))
    found = subprocess.run([statelint, file], capture_output=True, text=True, timeout=60)
    findings = [line.strip() for line in (found.stdout + found.stderr).splitlines()[1:]]
    # AWS's own: the specification at states-language.net has no Label and leaves ReaderConfig to the provider.
    assert findings == [
        'Field "Label" not allowed in State Machine.States.Infer',
        'Field "InputType" not allowed in State Machine.States.Infer.ItemReader.ReaderConfig',
    ]


@pytest.mark.slow
def test_asl_validator_accepts_the_definition(tmp_path):
    npm = shutil.which("npm")
    if not npm:
        pytest.skip("npm is not installed")
    tool = VALIDATOR / "node_modules" / ".bin" / "asl-validator"
    if not tool.exists():
        install = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run(install, cwd=VALIDATOR, check=True, capture_output=True, timeout=120)
    file = tmp_path / "pipeline.asl.json"

    def validate(text: str) -> int:
        file.write_text(text)
        return subprocess.run([tool, "--json-path", file], capture_output=True, timeout=60).returncode

    assert validate(render(VARIABLES)) == 0
    assert validate(re.sub('"Next": "Plan"', '"Next": "Nowhere"', render(VARIABLES))) != 0
