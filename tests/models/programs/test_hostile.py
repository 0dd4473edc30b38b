"""Programs that would read, write, start, exhaust or crash something are refused by name; torch never gets them."""

import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from skyfan.errors import ModelError
from skyfan.models.programs.checked import checked_program
from skyfan.models.programs.exported import clean_archive
from tests.models.programs.editing import (
    GRAPH,
    WEIGHTS,
    Json,
    argument,
    call_first,
    edited,
    entries_of,
    graph_of,
    node,
    packed,
    rewritten,
    small,
    tensor,
)

FROM_FILE = "torch.ops.aten.from_file.default"
NO_GRAD = "torch.ops.higher_order.wrap_with_set_grad_enabled"
TEXT = {"as_string": "/tmp/never"}


def refused(data: bytes, says: str) -> None:
    """Refused with that, in one line of ASCII, before torch is asked to load anything."""
    with pytest.raises(ModelError, match=says) as caught:
        checked_program(data, "evil.pt2")
    assert str(caught.value).isprintable()
    assert str(caught.value).startswith("evil.pt2 ")
    assert len(str(caught.value)) < 600


def expression(text: object) -> Callable[[Json], None]:
    """A program whose batch size is that text."""

    def change(program: Json) -> None:
        size = graph_of(program)["tensor_values"]["image"]["sizes"][0]
        size["as_expr"]["expr_str"] = text

    return change


NAMED = {
    "target": (lambda g: node(g, "linear").update(target="torch.os.system"), "calls 'torch.os.system'"),
    "file reader": (
        lambda g: call_first(g, FROM_FILE, [argument(TEXT, "filename")]),
        "calls 'torch.ops.aten.from_file",
    ),
    "file writer": (lambda g: node(g, "linear").update(target="torch.ops.aten.save.default"), "aten.save"),
    "raw memory": (lambda g: node(g, "linear").update(target="torch.ops.aten.as_strided.default"), "as_strided"),
    "old memory": (lambda g: node(g, "linear").update(target="torch.ops.aten.empty.memory_format"), "aten.empty"),
    "resize": (lambda g: node(g, "linear").update(target="torch.ops.aten.resize_.default"), "resize_"),
    "another namespace": (lambda g: node(g, "linear").update(target="torch.ops.prims.device_put.default"), "prims"),
    "a packet": (lambda g: node(g, "linear").update(target="torch.ops.aten.linear"), "calls 'torch.ops.aten.linear'"),
    "attrgetter": (lambda g: node(g, "linear").update(target="_operator.attrgetter"), "_operator.attrgetter"),
    "operator.call": (lambda g: node(g, "linear").update(target="_operator.call"), "_operator.call"),
    "a shift": (lambda g: node(g, "linear").update(target="_operator.lshift"), "_operator.lshift"),
    "a power": (lambda g: node(g, "linear").update(target="_operator.pow"), "_operator.pow"),
    "math": (lambda g: node(g, "linear").update(target="math.factorial"), "math.factorial"),
    "an extension": (lambda g: node(g, "linear").update(target="#torch:evil"), "calls '#torch:evil'"),
    "dunder": (lambda g: node(g, "linear").update(target="torch.ops.aten.__class__.default"), "__class__"),
    "no text": (lambda g: node(g, "linear").update(target=["torch"]), "has no target"),
    "callee": (
        lambda g: call_first(
            g, NO_GRAD, [argument({"as_bool": False}), argument({"as_operator": FROM_FILE}), argument(TEXT)]
        ),
        "calls 'torch.ops.aten.from_file.default' through",
    ),
    "callee of cond": (
        lambda g: call_first(g, "torch.ops.higher_order.cond", [argument({"as_operator": FROM_FILE}, "a")]),
        "passes the operator 'torch.ops.aten.from_file.default' as an argument",
    ),
    "operator as argument": (
        lambda g: node(g, "linear")["inputs"].append(argument({"as_operator": "torch.ops.aten.relu.default"}, "bias")),
        "passes the operator",
    ),
    "autocast": (
        lambda g: call_first(g, "torch.ops.higher_order.wrap_with_autocast", [argument(TEXT, "a")]),
        "calls 'torch.ops.higher_order.wrap_with_autocast'",
    ),
    "custom object": (
        lambda g: node(g, "linear")["inputs"].append(
            argument({"as_custom_obj": {"name": "x", "class_fqn": "__torch__.torch.classes.x"}}, "z")
        ),
        "an argument of kind 'as_custom_obj'",
    ),
    "dictionary": (
        lambda g: node(g, "linear")["inputs"].append(argument({"as_string_to_argument": {"x": TEXT}}, "z")),
        "an argument of kind 'as_string_to_argument'",
    ),
    "generator": (
        lambda g: node(g, "linear")["inputs"].append(argument(TEXT, "generator")),
        "an argument 'generator' that it does not have",
    ),
    "text for a number": (
        lambda g: node(g, "linear")["inputs"][0].update(arg=TEXT),
        "linear.default's input a value of kind as_string, not Tensor",
    ),
    "any text": (
        lambda g: call_first(
            g,
            "torch.ops.aten.pad.default",
            [argument(tensor("image"), "self"), argument({"as_ints": [1, 1]}, "pad"), argument(TEXT, "mode")],
        ),
        "the text '/tmp/never', which is not one of those it takes",
    ),
    "two arguments of one name": (
        lambda g: node(g, "linear")["inputs"].append(node(g, "linear")["inputs"][0]),
        "two arguments of one name",
    ),
    "code in an argument's name": (lambda g: node(g, "linear")["inputs"][0].update(name="a=1, **b"), "no plain name"),
    "code in a result's name": (
        lambda g: node(g, "linear")["outputs"][0]["as_tensor"].update(name="x; import os"),
        "no plain name",
    ),
    "a keyword": (lambda g: node(g, "linear")["outputs"][0]["as_tensor"].update(name="import"), "a word of Python"),
    "an unknown value": (
        lambda g: node(g, "linear")["inputs"][0]["arg"]["as_tensor"].update(name="v0"),
        "before anything computes it",
    ),
    "a value twice": (lambda g: graph_of(g)["nodes"].append(node(g, "linear")), "twice"),
    "results that are not there": (
        lambda g: node(g, "linear")["outputs"].append({"as_sym_int": {"as_name": "n"}}),
        "does not describe the number",
    ),
    "an argument left out": (lambda g: node(g, "linear")["inputs"].pop(0), "without its input"),
    "a huge tensor": (
        lambda g: call_first(g, "torch.ops.aten.ones.default", [argument({"as_ints": [2**20, 2**20]}, "size")]),
        "of more than 268,435,456 values",
    ),
    "a huge range": (
        lambda g: call_first(g, "torch.ops.aten.arange.default", [argument({"as_float": "Infinity"}, "end")]),
        "arange.default's end the value inf",
    ),
    "dropout left on": (
        lambda g: call_first(
            g,
            "torch.ops.aten.dropout.default",
            [
                argument(tensor("image"), "input"),
                argument({"as_float": 0.5}, "p"),
                argument({"as_bool": True}, "train"),
            ],
        ),
        r"exported in training mode \(dropout with train=True\).*call \.eval\(\) before exporting",
    ),
    "random numbers": (
        lambda g: call_first(g, "torch.ops.aten.rand_like.default", [argument(tensor("image"), "self")]),
        r"draws random numbers \(rand_like\).*call \.eval\(\) before exporting",
    ),
    "writing into weights": (
        lambda g: call_first(
            g, "torch.ops.aten.add_.Tensor", [argument(tensor("b_offset"), "self"), argument({"as_int": 1}, "other")]
        ),
        r"changes its own weights.*call \.eval\(\) before exporting",
    ),
    "buffer mutation": (
        lambda g: g["graph_module"]["signature"]["output_specs"].append(
            {"buffer_mutation": {"arg": {"name": "mean"}, "buffer_name": "offset"}}
        ),
        "changes its own weights",
    ),
    "an input that is an object": (
        lambda g: g["graph_module"]["signature"]["input_specs"].__setitem__(
            0, {"custom_obj": {"arg": {"name": "p_line_weight", "class_fqn": "x"}, "custom_obj_name": "x"}}
        ),
        "takes a 'custom_obj'",
    ),
    "an imported tree": (
        lambda g: g["graph_module"]["module_call_graph"][0]["signature"].update(
            out_spec='[1, {"type": "collections.OrderedDict", "context": "[]", "children_spec": []}]'
        ),
        "returns a 'collections.OrderedDict'",
    ),
    "named tuples": (
        lambda g: g["graph_module"].update(treespec_namedtuple_fields={"os.x": {"field_names": ["a"]}}),
        "named tuples",
    ),
    "another version": (lambda g: g["schema_version"].update(major=99), "is of version 99"),
    "code as a size": (expression("__import__('os').getpid()"), "more than arithmetic"),
    "a tower of powers": (expression("9**9**9**9"), "more than arithmetic"),
    "nested powers": (expression("Pow(Pow(Integer(9), Integer(4)), Integer(4))"), "more than arithmetic"),
    "a large power": (expression("Pow(Integer(2), Integer(99999))"), "from -4 to 4"),
    "a shift in a size": (expression("LShift(Integer(1), Integer(99999))"), "more than arithmetic"),
    "a long size": (expression("Add(" + "Integer(1), " * 500 + "Integer(1))"), "cannot be read"),
    "a deep size": (expression("Abs(" * 100 + "Integer(1)" + ")" * 100), "more than arithmetic"),
    "minus signs": (expression("-" * 900 + "1"), "more than arithmetic"),
    "a symbol with arguments": (expression("Symbol('s0', **{})"), "more than arithmetic"),
    "a size that is no text": (expression(7), "cannot be read"),
    "unbacked sizes": (
        lambda g: g["range_constraints"].update(u999999999={"min_val": 0, "max_val": 1}),
        "of its own making",
    ),
    "a device full of tensors": (
        lambda g: graph_of(g)["tensor_values"]["mean"].update(sizes=[{"as_int": 1}] * 1000),
        "more than 8",
    ),
    "huge rows": (
        lambda g: graph_of(g)["tensor_values"]["image"]["sizes"].__setitem__(2, {"as_int": 2**30}),
        "takes rows of 85,899,345,920 values",
    ),
    "a sparse tensor": (lambda g: graph_of(g)["tensor_values"]["mean"].update(layout=1), "not strided"),
    "a quantized tensor": (lambda g: graph_of(g)["tensor_values"]["mean"].update(dtype=30), "of dtype 30"),
    "graphs in graphs": (lambda g: _nest(g, 12), "more than 8 deep"),
    "no nodes": (lambda g: graph_of(g).update(nodes=None), "is no list"),
    "no graph": (lambda g: g["graph_module"].update(graph=3), "the graph is no object"),
}


def _nest(program: Json, depth: int) -> None:
    inner: Any = {
        "inputs": [],
        "outputs": [],
        "nodes": [],
        "tensor_values": {},
        "sym_int_values": {},
        "sym_bool_values": {},
    }
    for _ in range(depth):
        held = argument({"as_graph": {"name": "g", "graph": inner}})
        call = {"target": NO_GRAD, "inputs": [argument({"as_bool": True}), held], "outputs": [], "metadata": {}}
        inner = {**inner, "nodes": [call]}
    graph_of(program)["nodes"].insert(0, inner["nodes"][0])


@pytest.mark.parametrize("case", NAMED)
def test_a_graph_that_is_more_than_tensor_operations_is_refused_by_name(case: str):
    change, says = NAMED[case]
    refused(edited(change), says)


def _weight(**changed: object) -> bytes:
    return edited(lambda held: held["config"]["line.weight"].update(changed), WEIGHTS)


def _shape(name: str = "line.weight", **changed: object) -> bytes:
    return edited(lambda held: held["config"][name]["tensor_meta"].update(changed), WEIGHTS)


def _sizes(*sizes: int) -> list[Json]:
    return [{"as_int": size} for size in sizes]


BEYOND = "beyond its 10 values"
STORED = {
    "a pickle": (lambda: _weight(use_pickle=True), "'line.weight' as a pickled object"),
    "a pickle that is true in its own way": (lambda: _weight(use_pickle=0), "as a pickled object"),
    "a path": (lambda: _weight(path_name="../../weight_0"), "as a pickled object"),
    "a list as path": (lambda: _weight(path_name=["weight_0"]), "as a pickled object"),
    "more values than bytes": (lambda: _shape(sizes=_sizes(2, 6), strides=_sizes(6, 1)), BEYOND),
    "expanded to 10**12": (lambda: _shape(sizes=_sizes(10**6, 10**6), strides=_sizes(0, 0)), BEYOND),
    "strides beyond": (lambda: _shape(strides=_sizes(50, 1)), BEYOND),
    "offset beyond": (lambda: _shape(storage_offset={"as_int": 1}), BEYOND),
    "negative offset": (lambda: _shape(storage_offset={"as_int": -1}), "must be an integer from 0"),
    "negative size": (lambda: _shape(sizes=_sizes(-2, 5)), "must be an integer from 0"),
    "negative stride": (lambda: _shape(strides=_sizes(-5, 1)), "must be an integer from 0"),
    "fewer strides": (lambda: _shape(strides=_sizes(1)), "2 sizes and 1 strides"),
    "a larger dtype": (lambda: _shape(dtype=8), "beyond its 5 values"),
    "code as size": (
        lambda: _shape(sizes=[{"as_expr": {"expr_str": "__import__('os').getpid()", "hint": None}}] * 2),
        "more than arithmetic",
    ),
    "a symbolic size": (
        lambda: _shape(sizes=[{"as_expr": {"expr_str": "Symbol('s0', positive=True)", "hint": None}}] * 2), "symbolic"
    ),
    "no table": (lambda: edited(lambda held: held.update(config=None), WEIGHTS), "table of tensors is no object"),
    "a missing tensor": (lambda: rewritten(lambda e: e.pop("data/weights/weight_0")), "cannot be read"),
    "a missing weight": (
        lambda: edited(lambda held: held["config"].pop("line.bias"), WEIGHTS), "'line.bias' is not stored"
    ),
    "two dtypes of the same bytes": (
        lambda: edited(
            lambda held: held["config"]["line.bias"].update(
                {**held["config"]["chosen"], "path_name": held["config"]["offset"]["path_name"]}
            ), WEIGHTS,
        ),
        "as two dtypes",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", STORED)
def test_tensors_that_are_not_what_is_stored_are_refused(case: str):
    make, says = STORED[case]
    refused(make(), says)


def _raw(change: Callable[[bytes], bytes]) -> bytes:
    return rewritten(lambda entries: entries.update({GRAPH: change(entries[GRAPH])}))


def _beside(text: str) -> bytes:
    return _raw(lambda data: data[:-1] + f', "x": {text}}}'.encode())


def _twice() -> bytes:
    """The graph and another entry that is renamed to its name, in the directory too."""
    data = rewritten(lambda entries: entries.update({"models/modem.json": b"{}"}))
    return data.replace(b"root/models/modem.json", b"root/models/model.json")


def _encrypted() -> bytes:
    data = bytearray(packed(entries_of(small())))
    at = data.find(b"PK\x01\x02")
    while at >= 0:  # the flag in every entry of the directory
        data[at + 8] |= 1
        at = data.find(b"PK\x01\x02", at + 4)
    return bytes(data)


ARCHIVES = {
    "no JSON": (lambda: _raw(lambda _: b"{"), "cannot be read"),
    "deep lists": (lambda: _beside("[" * 480 + "]" * 480), "nested more than 160 deep"),
    "deep objects": (lambda: _beside('{"a":' * 100_000 + "1" + "}" * 100_000), "nested more than 160 deep"),
    "many lists": (lambda: _beside("[" + "[]," * 2**20 + "0]"), "more than 1,048,576 lists"),
    "NaN": (lambda: _beside("NaN"), "holds NaN"),
    "a long integer": (lambda: _beside("9" * 5000), "an integer of 5000 digits"),
    "no Unicode": (lambda: _raw(lambda data: data + b"\xff\xfe"), "cannot be read"),
    "a lone surrogate": (
        lambda: _raw(lambda data: data.replace(b'"target": "torch', b'"target": "\\ud800torch', 1)), r"ud800torch"
    ),
    "escape sequences": (
        lambda: _raw(lambda data: data.replace(b'"target": "torch', b'"target": "\\u001b[2Jtorch', 1)), r"x1b\[2Jtorch"
    ),
    "a list": (lambda: _raw(lambda _: b"[]"), "the program is no object"),
    "one name twice": (_twice, "two of one name"),
    "two programs": (
        lambda: rewritten(lambda e: e.update({"x/models/model.json": e[GRAPH]})), "holds 2 exported programs"
    ),
    "encrypted": (_encrypted, "is encrypted"),
    "compressed": (lambda: packed(entries_of(small()), zipfile.ZIP_DEFLATED), "is a compressed archive"),
    "many entries": (lambda: packed({f"{n}": b"" for n in range(20_001)}), "20,001 entries"),
    "truncated": (lambda: small()[: len(small()) // 2], "is truncated or damaged"),
    "a compiled library": (
        lambda: rewritten(lambda e: e.update({"data/aotinductor/model/a.so": b"\x7fELF"})), "a compiled library"
    ),
    "no graph": (lambda: rewritten(lambda e: e.pop(GRAPH)), "holds no exported program"),
    "the first form": (
        lambda: packed({}) and _first_form(), "is of torch 2.7 or older, whose weights are pickled"
    ),
}  # fmt: skip


def _first_form() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("serialized_exported_program.json", b"{}")
    return buffer.getvalue()


@pytest.mark.parametrize("case", ARCHIVES)
def test_archives_that_are_no_plain_program_are_refused(case: str):
    make, says = ARCHIVES[case]
    refused(make(), says)


def test_what_is_not_needed_never_reaches_torch(tmp_path: Path):
    witness = tmp_path / "witness"

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return os.system, (f"touch {witness}",)

    pickled = io.BytesIO()
    torch.save((Evil(),), pickled)
    code = f"__import__('os').system('touch {witness}') == 0"

    def change(program: Json) -> None:
        program.update(guards_code=[code], verifiers=[code], torch_version=code, opset_version={code: 1}, more=code)
        program["graph_module"]["metadata"] = {"custom": code}
        program["graph_module"]["module_call_graph"].append({"fqn": code, "signature": {"in_spec": code}})
        for call in graph_of(program)["nodes"]:
            call["name"] = code
            call["metadata"] = dict.fromkeys(("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn"), code)
            call["metadata"] |= {"from_node": json.dumps([{"name": code, "target": code}]), "custom": code}

    evil = edited(change)
    evil = rewritten(lambda e: e.update({"data/sample_inputs/model.pt": pickled.getvalue(), "extra/x": b"x"}), evil)
    checked = checked_program(evil, "odd.pt2")
    clean = clean_archive(checked)
    assert b"witness" not in clean
    assert b"Evil" not in clean
    assert checked.inputs == checked_program(small(), "small.pt2").inputs


def test_names_of_the_file_are_not_those_that_torch_gets():
    held = entries_of(clean_archive(checked_program(small(), "small.pt2")))
    for name in (b'"line.weight"', b'"p_line_weight"', b'"b_offset"', b'"magnitude"', b'"image"', b'"mean"'):
        assert not any(name in content for entry, content in held.items() if entry.endswith(".json"))


def test_booleans_are_zero_or_one_whatever_their_bytes():
    path = json.loads(entries_of(small())[WEIGHTS])["config"]["chosen"]["path_name"]
    evil = rewritten(lambda entries: entries.update({f"data/weights/{path}": b"\x02\xff"}))
    assert b"\x01\x01" in checked_program(evil, "odd.pt2").contents.values()
