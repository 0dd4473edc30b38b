"""Graphs that are more than tensor operations: name → (the change of a harmless program, what its refusal says)."""

from collections.abc import Callable
from typing import Any

from tests.models.programs.editing import (
    Json,
    argument,
    call_first,
    graph_of,
    node,
    tensor,
)

FROM_FILE = "torch.ops.aten.from_file.default"
NO_GRAD = "torch.ops.higher_order.wrap_with_set_grad_enabled"
TEXT = {"as_string": "/tmp/never"}


def expression(text: object) -> Callable[[Json], None]:
    """A program whose batch size is that text."""

    def change(program: Json) -> None:
        size = graph_of(program)["tensor_values"]["image"]["sizes"][0]
        size["as_expr"]["expr_str"] = text

    return change


HOSTILE_GRAPHS = {
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
