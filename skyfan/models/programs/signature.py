"""A whole program from its JSON: which values are inputs, weights and outputs, and what users call them."""

import json
import re
from typing import Any

from skyfan.models.programs import fields
from skyfan.models.programs.fields import integer, items, mapping, refuse, shown, union
from skyfan.models.programs.graph import TENSOR, Argument, Program, Weight
from skyfan.models.programs.reading import MAX_ARGUMENTS, MAX_VALUES, GraphReader, Scope

SCHEMA_MAJOR = 8
_SYMBOL = re.compile(r"s\d{1,5}")
_WEIGHTS = {"parameter": "parameter_name", "buffer": "buffer_name", "tensor_constant": "tensor_constant_name"}
_TREE_DEPTH = 8
CHANGES_ITSELF = (
    "changes its own weights while it predicts, so that the same row gets another prediction each time; "
    "call .eval() before exporting"
)
_LEAF: dict[str, object] = {"type": None, "context": None, "children_spec": []}
Ranges = dict[str, tuple[int | None, int | None]]


def read_program(data: bytes) -> Program:
    """The program in a `models/model.json`; raises `Refusal`."""
    found = mapping(fields.parse(data, "graph"), "the program")
    version = mapping(found.get("schema_version"), "the version").get("major")
    if version != SCHEMA_MAJOR:
        refuse(f"is of version {shown(version)} of torch's format, not {SCHEMA_MAJOR}; export it again with this torch")
    module = mapping(found.get("graph_module"), "the graph's module")
    if module.get("treespec_namedtuple_fields"):
        refuse("takes or returns named tuples; export it with tensors, tuples, lists or dicts")
    reader = GraphReader()
    scope = reader.read(module.get("graph"), None)
    signature = mapping(module.get("signature"), "the signature")
    inputs, weights = _inputs(items(signature.get("input_specs"), "inputs", MAX_VALUES), scope)
    root = _root(items(module.get("module_call_graph"), "modules", MAX_VALUES))
    return Program(
        reader.graph,
        inputs,
        _outputs(items(signature.get("output_specs"), "outputs", MAX_ARGUMENTS), scope),
        _output_names(root.get("out_spec"), len(scope.outputs)),
        weights,
        _ranges(mapping(found.get("range_constraints", {}), "the ranges of sizes")),
    )


def _inputs(specs: list[Any], scope: Scope) -> tuple[dict[str, str], tuple[Weight, ...]]:
    if len(specs) != len(scope.inputs):
        refuse(f"is damaged: it describes {len(specs)} of {len(scope.inputs)} inputs")
    taken: dict[str, str] = {}
    weights = []
    for spec, value in zip(specs, scope.inputs, strict=True):
        kind, content = union(spec, "an input")
        found = mapping(content, "an input")
        if kind in ("user_input", "constant_input") and value is None:
            continue
        tag, argument = union(found.get("arg"), "an input") if kind == "user_input" else (TENSOR, found.get("arg"))
        name = fields.name(mapping(argument, "an input").get("name"), "an input")
        if tag != TENSOR or value is None or scope.known.get(name) != value:
            refuse(f"is damaged: its input {name!a} is not the graph's")
        if kind == "user_input":
            taken[name] = value
        elif kind in _WEIGHTS:
            weights.append(Weight(value, _text(found.get(_WEIGHTS[kind])), kind == "parameter"))
        else:
            refuse(f"takes a {shown(kind)}, which is no tensor")
    if not taken:
        refuse("takes no tensors")
    return taken, tuple(weights)


def _text(value: object) -> str:
    return value if isinstance(value, str) else refuse(f"is damaged: a weight is called {shown(value)}")


def _outputs(specs: list[Any], scope: Scope) -> tuple[Argument, ...]:
    kinds = [union(spec, "an output")[0] for spec in specs]
    if any(kind.endswith("_mutation") for kind in kinds):
        refuse("writes into its inputs" if "user_input_mutation" in kinds else CHANGES_ITSELF)
    other = next((kind for kind in kinds if kind != "user_output"), None)
    if other is not None or len(kinds) != len(scope.outputs):
        refuse(f"gives {shown(other)} beside its {len(scope.outputs)} outputs")
    # Outputs that are no tensors (a batch size, None) are nothing to write into a table.
    if not any(output.tag == TENSOR for output in scope.outputs):
        refuse("gives no tensor")
    return scope.outputs


def _root(entries: list[Any]) -> dict[str, Any]:
    found = [mapping(entry, "a module") for entry in entries]
    root = next((entry for entry in found if entry.get("fqn") == ""), {})
    return mapping(root.get("signature"), "the call of the program")


def _output_names(text: object, count: int) -> tuple[str, ...]:
    """The names that the keys of dictionaries give to outputs; `output_0`, `output_1`, … for the others."""
    if not isinstance(text, str):
        refuse("does not describe its outputs")
    version, *tree = items(fields.parse(text.encode("ascii", "replace"), "output tree"), "the output tree", 2)
    if version != 1 or not tree:
        refuse("describes its outputs in an unknown way")
    names = [
        "_".join(path) if any(not part.isdigit() for part in path) else f"output_{at}"
        for at, path in enumerate(_leaves(mapping(tree[0], "the output tree"), (), 0))
    ]
    if len(names) != count or len(set(names)) != count:
        refuse(f"names {len(set(names))} of its {count} outputs")
    return tuple(names)


def _leaves(node: dict[str, Any], path: tuple[str, ...], depth: int) -> list[tuple[str, ...]]:
    kind, children = node.get("type"), items(node.get("children_spec"), "outputs", MAX_ARGUMENTS)
    if kind is None and not children:
        return [path]
    if depth > _TREE_DEPTH or kind not in ("builtins.tuple", "builtins.list", "builtins.dict"):
        refuse(f"returns a {shown(kind)}; export it with tensors, tuples, lists or dicts")
    keys = [str(at) for at in range(len(children))]
    if kind == "builtins.dict":
        context = node.get("context")
        held = fields.parse(context.encode("ascii", "replace"), "output names") if isinstance(context, str) else None
        keys = [fields.name(key, "an output") for key in items(held, "output names", MAX_ARGUMENTS)]
    if len(keys) != len(children):
        refuse("is damaged: its outputs have other names than values")
    pairs = zip(keys, children, strict=True)
    return [leaf for key, child in pairs for leaf in _leaves(mapping(child, "an output"), (*path, key), depth + 1)]


def _ranges(found: dict[str, Any]) -> Ranges:
    ranges: Ranges = {}
    for symbol, limits in found.items():
        held = mapping(limits, "a range")
        low, high = (held.get(key) for key in ("min_val", "max_val"))
        if not _SYMBOL.fullmatch(symbol):
            refuse(f"has a size of its own making, {shown(symbol)}: its shapes depend on values, not on the batch")
        low = None if low is None else integer(low, "the end of a range")
        ranges[symbol] = (low, None if high is None else integer(high, "the end of a range"))
    return ranges


def program_json(program: Program, torch_version: str) -> bytes:
    """The `models/model.json` of a program, for torch: its tree of inputs is one tuple, in the order of `inputs`."""
    inputs = [weight.value for weight in program.weights] + list(program.inputs.values())
    specs: list[object] = [
        {"parameter": {"arg": {"name": w.value}, "parameter_name": w.value}}
        if w.trained
        else {"buffer": {"arg": {"name": w.value}, "buffer_name": w.value, "persistent": True}}
        for w in program.weights
    ]
    specs += [{"user_input": {"arg": {TENSOR: {"name": value}}}} for value in program.inputs.values()]
    graph_module = {
        "graph": program.graph.json(inputs, program.outputs),
        "signature": {
            "input_specs": specs,
            "output_specs": [{"user_output": {"arg": output.json()}} for output in program.outputs],
        },
        "module_call_graph": [{"fqn": "", "signature": _call(program)}],
        "metadata": {},
        "treespec_namedtuple_fields": {},
    }
    whole = {
        "graph_module": graph_module,
        "opset_version": {"aten": 10},
        "range_constraints": {s: {"min_val": low, "max_val": high} for s, (low, high) in program.ranges.items()},
        "schema_version": {"major": SCHEMA_MAJOR, "minor": 0},
        "verifiers": ["TRAINING"],
        "torch_version": torch_version,
        "guards_code": [],
    }
    # torch reads infinities and NaN as text, which `allow_nan` would write as words of no JSON
    return json.dumps(_finite(whole), allow_nan=False).encode()


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, float) and value - value != 0:  # infinite or NaN
        return {float("inf"): "Infinity", float("-inf"): "-Infinity"}.get(value, "NaN")
    return value


def _call(program: Program) -> dict[str, object]:
    arguments = {"type": "builtins.tuple", "context": "null", "children_spec": [_LEAF] * len(program.inputs)}
    keywords = {"type": "builtins.dict", "context": "[]", "children_spec": []}
    taken = {"type": "builtins.tuple", "context": "null", "children_spec": [arguments, keywords]}
    given = {"type": "builtins.tuple", "context": "null", "children_spec": [_LEAF] * len(program.outputs)}
    return {
        "inputs": [],
        "outputs": [],
        "in_spec": json.dumps([1, taken]),
        "out_spec": json.dumps([1, given]),
        "forward_arg_names": list(program.inputs.values()),
    }
