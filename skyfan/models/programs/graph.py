"""A program's graph as data of our own, and as the JSON that torch is given.

Nothing of the file's JSON is passed on: values are read by type into these classes, and written from them. Every value
gets a new name (`v0`, `v1`, …), so no text of the file becomes a name in the source that torch generates from a graph.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from skyfan.models.programs.expressions import Expression

# What an argument holds, by the tag that the archive has for it. Not here, and so refused: operators, subgraphs
# (one kind is written out in their place, see `reading`), custom objects, complex numbers, dictionaries.
TENSOR, TENSORS, OPTIONAL_TENSORS = "as_tensor", "as_tensors", "as_optional_tensors"
SYMBOLS = {"as_sym_int": "as_int", "as_sym_float": "as_float", "as_sym_bool": "as_bool"}
SYMBOL_LISTS = {"as_sym_ints": "as_int", "as_sym_floats": "as_float", "as_sym_bools": "as_bool"}
CPU = {"type": "cpu", "index": None}
STRIDED = 7

Size = int | Expression


@dataclass(frozen=True)
class Name:
    """A value of the graph."""

    text: str


@dataclass(frozen=True)
class Argument:
    """One argument or result: its tag and its value, with `Name` wherever it is another value of the graph."""

    tag: str
    value: Any

    def names(self) -> list[str]:
        """The values of the graph that it holds."""
        held = self.value if isinstance(self.value, tuple) else (self.value,)
        return [item.text for item in held if isinstance(item, Name)]

    def json(self) -> dict[str, object]:
        """In the form of the archive."""
        return {self.tag: self._content()}

    def _content(self) -> object:
        if self.tag == TENSOR:
            return {"name": self.value.text}
        if self.tag == TENSORS:
            return [{"name": item.text} for item in self.value]
        if self.tag == OPTIONAL_TENSORS:
            return [{"as_none": True} if item is None else {TENSOR: {"name": item.text}} for item in self.value]
        if self.tag in SYMBOLS:
            return _symbol(self.value, SYMBOLS[self.tag])
        if self.tag in SYMBOL_LISTS:
            return [_symbol(item, SYMBOL_LISTS[self.tag]) for item in self.value]
        return list(self.value) if isinstance(self.value, tuple) else self.value


def _symbol(value: object, constant: str) -> dict[str, object]:
    return {"as_name": value.text} if isinstance(value, Name) else {constant: value}


@dataclass(frozen=True)
class Input:
    """One named argument of an operator; `keyword` as it was exported."""

    name: str
    argument: Argument
    keyword: bool


@dataclass(frozen=True)
class Node:
    """One call of an operator, `target` being its full name with the overload."""

    target: str
    inputs: tuple[Input, ...]
    outputs: tuple[Argument, ...]

    def argument(self, name: str) -> Argument | None:
        """The argument of that name, if it is given."""
        return next((item.argument for item in self.inputs if item.name == name), None)

    def json(self, name: str) -> dict[str, object]:
        """In the form of the archive, without the metadata, which only describes where it is from."""
        inputs = [{"name": i.name, "arg": i.argument.json(), "kind": 2 if i.keyword else 1} for i in self.inputs]
        return {
            "target": self.target,
            "inputs": inputs,
            "outputs": [output.json() for output in self.outputs],
            "metadata": {},
            "is_hop_single_tensor_return": None,
            "name": name,
        }


@dataclass(frozen=True)
class TensorMeta:
    """What a tensor is: the archive's number of its dtype, sizes and strides in elements, where it begins."""

    dtype: int
    sizes: tuple[Size, ...]
    strides: tuple[Size, ...]
    offset: Size = 0

    def json(self) -> dict[str, object]:
        """In the form of the archive: on the CPU, strided, without gradients."""
        return {
            "dtype": self.dtype,
            "sizes": [_size(size) for size in self.sizes],
            "strides": [_size(size) for size in self.strides],
            "storage_offset": _size(self.offset),
            "requires_grad": False,
            "device": CPU,
            "layout": STRIDED,
        }


def _size(size: Size) -> dict[str, object]:
    return {"as_expr": size.json()} if isinstance(size, Expression) else {"as_int": size}


@dataclass
class Graph:
    """Calls in order, and what is known of the values: tensors, and symbolic numbers by the kind of their table."""

    nodes: list[Node] = field(default_factory=list)
    tensors: dict[str, TensorMeta] = field(default_factory=dict)
    symbols: dict[str, tuple[str, Any]] = field(default_factory=dict)

    def json(self, inputs: Sequence[str], outputs: Sequence[Argument]) -> dict[str, object]:
        """In the form of the archive."""
        tables: dict[str, dict[str, object]] = {"as_sym_int": {}, "as_sym_float": {}, "as_sym_bool": {}}
        for name, (tag, value) in self.symbols.items():
            held = {"as_expr": value.json()} if isinstance(value, Expression) else {SYMBOLS[tag]: value}
            tables[tag][name] = held
        return {
            "inputs": [{TENSOR: {"name": name}} for name in inputs],
            "outputs": [output.json() for output in outputs],
            "nodes": [node.json(_node_name(node, at)) for at, node in enumerate(self.nodes)],
            "tensor_values": {name: meta.json() for name, meta in self.tensors.items()},
            "sym_int_values": tables["as_sym_int"],
            "sym_float_values": tables["as_sym_float"],
            "sym_bool_values": tables["as_sym_bool"],
            "is_single_tensor_return": False,
            "custom_obj_values": {},
        }


def _node_name(node: Node, at: int) -> str:
    names = node.outputs[0].names() if len(node.outputs) == 1 and node.outputs[0].tag != TENSORS else []
    return names[0] if names else f"call_{at}"


@dataclass(frozen=True)
class Weight:
    """A stored tensor: its value in the graph, its name in the file, and whether it is trained."""

    value: str
    name: str
    trained: bool


@dataclass(frozen=True)
class Program:
    """A whole program: the graph, what goes in under the user's names, what comes out, stored tensors."""

    graph: Graph
    inputs: Mapping[str, str]  # the user's name of an input → its value in the graph
    outputs: tuple[Argument, ...]
    output_names: tuple[str, ...]
    weights: tuple[Weight, ...]
    ranges: Mapping[str, tuple[int | None, int | None]]
