"""The deployed state machine, state by state, without LocalStack: enough of Amazon States Language for its branches.

Paths, the intrinsics that the definition uses, Choice, Pass, Task with Catch, Succeed and Fail; no Map, no Retry. What
it does not know raises.
"""

import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

TaskFailed = type("TaskFailed", (Exception,), {"__doc__": "A task failed: name and cause."})
Call = Callable[[Mapping[str, Any]], Any]

_INTRINSIC = re.compile(r"States\.(\w+)\((.*)\)")


@dataclass
class Execution:
    """How an execution ended, and which states it entered."""

    output: Any = None
    error: str | None = None
    cause: str = ""
    entered: list[str] = field(default_factory=list)


def execute(definition: Mapping[str, Any], given: Any, context: dict[str, Any], tasks: Mapping[str, Call]) -> Execution:
    """Runs the machine; `tasks` are by Resource, and for Lambda by function."""
    done, name, data = Execution(), definition["StartAt"], given
    while True:
        state = definition["States"][name]
        done.entered.append(name)
        match state["Type"]:
            case "Succeed":
                done.output = resolve(state.get("OutputPath", "$"), data, context)
                return done
            case "Fail":
                done.error = state.get("Error") or resolve(state["ErrorPath"], data, context)
                done.cause = state.get("Cause") or resolve(state["CausePath"], data, context)
                return done
            case "Choice":
                chosen = (rule["Next"] for rule in state["Choices"] if holds(rule, data, context))
                name = next(chosen, state["Default"])
                continue
            case "Pass":
                result = state["Result"] if "Result" in state else fill(state["Parameters"], data, context)
                data, name = put(data, state.get("ResultPath", "$"), result), state["Next"]
            case "Task":
                data, name = _task(state, data, context, tasks)
            case other:
                raise NotImplementedError(other)


def _task(state: Mapping[str, Any], data: Any, context: dict[str, Any], tasks: Mapping[str, Call]) -> tuple[Any, str]:
    asked = fill(state["Parameters"], data, context)
    call = tasks[asked.get("FunctionName") or state["Resource"]]
    try:
        answer = call(asked)
    except TaskFailed as failed:
        caught = {"Error": failed.args[0], "Cause": failed.args[1]}
        catcher = state["Catch"][0]
        assert catcher["ErrorEquals"] == ["States.ALL"]
        return put(data, catcher["ResultPath"], caught), catcher["Next"]
    return put(data, state["ResultPath"], fill(state["ResultSelector"], answer, context)), state["Next"]


def fill(template: Any, data: Any, context: dict[str, Any]) -> Any:
    """A template whose keys that end in `.$` are paths or intrinsics."""
    if isinstance(template, dict):
        return {
            key.removesuffix(".$"): resolve(value, data, context) if key.endswith(".$") else fill(value, data, context)
            for key, value in template.items()
        }
    return [fill(one, data, context) for one in template] if isinstance(template, list) else template


def resolve(text: str, data: Any, context: dict[str, Any]) -> Any:
    """A path or an intrinsic; a key that is missing raises, as on AWS."""
    if match := _INTRINSIC.fullmatch(text):
        parts = [part.strip() for part in match[2].split(", ")] if match[2] else []
        values = [part.strip("'") if part.startswith("'") else resolve(part, data, context) for part in parts]
        match match[1]:
            case "UUID":
                return str(uuid.uuid4())
            case "Array":
                return values
            case "Format":
                return str(values[0]).replace("{}", "{!s}").format(*values[1:])
            case other:
                raise NotImplementedError(other)
    found = context if text.startswith("$$") else data
    for key in text.lstrip("$").removeprefix(".").split("."):
        found = found[key] if key else found
    return found


def put(data: Any, path: str, result: Any) -> Any:
    """The data with `result` at `path`."""
    if path == "$":
        return result
    first, _, rest = path.removeprefix("$.").partition(".")
    assert not rest, path
    return {**data, first: result}


def holds(rule: Mapping[str, Any], data: Any, context: dict[str, Any]) -> bool:
    """Whether a rule of a Choice applies."""
    if "And" in rule:
        return all(holds(part, data, context) for part in rule["And"])
    ((operator, wanted),) = ((key, value) for key, value in rule.items() if key not in ("Variable", "Next"))
    try:
        value = resolve(rule["Variable"], data, context)
    except (KeyError, TypeError):
        return operator == "IsPresent" and not wanted
    match operator:
        case "IsPresent":
            return bool(wanted)
        case "StringEquals" | "NumericEquals" | "BooleanEquals":
            return bool(value == wanted)
        case "NumericGreaterThan":
            return bool(value > wanted)
        case "StringMatches":
            return re.fullmatch(re.escape(wanted).replace(r"\*", ".*"), value) is not None
        case other:
            raise NotImplementedError(other)
