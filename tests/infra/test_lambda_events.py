"""The state machine sends the events that the functions' models describe, and picks what their results hold."""

import json

import pytest
from pydantic import BaseModel
from skyfan_compose.definition import Variables, render

from skyfan.serving import lambda_events as events
from skyfan.stages.messages import ModelFile

STATES = {
    "Prepare": (events.PrepareEvent, events.PrepareResult),
    "Plan": (events.PlanEvent, events.PlanResult),
    "Convert": (events.ConvertEvent, ModelFile),
    "InferRank": (events.InferEvent, events.InferResult),
    "Aggregate": (events.AggregateEvent, events.AggregateResult),
    "RecordFailure": (events.FailEvent, events.FailResult),
}


def tasks(states):
    for name, state in states.items():
        if state["Type"] == "Task":
            yield name, state
        if state["Type"] == "Map":
            yield from tasks(state["ItemProcessor"]["States"])


@pytest.fixture(scope="module")
def definition():
    return json.loads(render(Variables("p", "e", "t", "a")))


def test_every_task_has_a_model(definition):
    assert [name for name, _ in tasks(definition["States"])] == list(STATES)


@pytest.mark.parametrize("state", STATES)
def test_a_tasks_payload_has_the_fields_of_its_event(definition, state):
    task = dict(tasks(definition["States"]))[state]
    sent = {key.removesuffix(".$") for key in task["Parameters"]["Payload"]}
    assert sent == set(STATES[state][0].model_fields)
    assert task["Parameters"]["Payload"]["op"] == STATES[state][0].model_fields["op"].annotation.__args__[0]


@pytest.mark.parametrize("state", STATES)
def test_a_tasks_result_is_picked_from_the_fields_of_its_reply(definition, state):
    task = dict(tasks(definition["States"]))[state]
    picked = {path.removeprefix("$.Payload.") for path in task["ResultSelector"].values()}
    assert picked == set(STATES[state][1].model_fields)


def resolve(model: type[BaseModel], path: list[str]) -> bool:
    """Whether a path of keys exists in a model."""
    for key in path:
        field = model.model_fields.get(key) if isinstance(model, type) and issubclass(model, BaseModel) else None
        if field is None:
            return False
        model = field.annotation
    return True


def test_what_states_read_of_earlier_results_is_there(definition):
    """Every `$.prepared.…`, `$.plan.…`, `$.converted` and `$.execution.…` path of the definition."""
    kinds = {
        "prepared": events.PrepareResult,
        "plan": events.PlanResult,
        "converted": ModelFile,
        "execution": events.Execution,
        "item": events.ItemReference,
    }
    text = json.dumps(definition)
    found = {part.split('"')[0] for part in text.split('"$.')[1:]}
    for path in sorted(found):
        root, *keys = path.split(".")
        if root in kinds:
            assert resolve(kinds[root], keys), path


def test_items_are_what_the_events_item_describes(sample, tmp_path):
    from skyfan import store
    from skyfan.job import Job
    from skyfan.runs.folder import RunFolder
    from skyfan.stages.messages import PlanRequest, PreparedModel
    from skyfan.stages.plan import plan

    job = Job(dataset=str(sample.path), output=str(tmp_path / "run"), partition_size=12 * 20504)
    model = PreparedModel(uri="demo", digest="0" * 64, format="safetensors", parameters=1, needs_conversion=False)
    plan(PlanRequest(job=job, model=model))
    items = json.loads(store.read(RunFolder(job.output).map_items_uri))
    assert [events.ItemReference.model_validate(item).group_rank for item in items] == list(range(len(items)))
