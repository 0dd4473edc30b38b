"""From the JSON of an archive to a `Program`: field by field, with every value renamed, subgraphs written out.

The one higher-order operator that is taken switches gradients off around a subgraph. Predictions know no gradients,
so the subgraph's calls are put in its place; torch sees no higher-order operator and no callee, whatever its name.
"""

import keyword
from collections.abc import Sequence
from typing import Any

from skyfan.models.programs import fields
from skyfan.models.programs.expressions import read_expression
from skyfan.models.programs.fields import boolean, integer, items, mapping, refuse, shown, union
from skyfan.models.programs.graph import (
    CPU,
    OPTIONAL_TENSORS,
    STRIDED,
    SYMBOL_LISTS,
    SYMBOLS,
    TENSOR,
    TENSORS,
    Argument,
    Graph,
    Input,
    Name,
    Node,
    Size,
    TensorMeta,
)

MAX_NODES, MAX_VALUES, MAX_ARGUMENTS, MAX_DIMENSIONS = 50_000, 200_000, 4_096, 8
MAX_SUBGRAPH_DEPTH, MAX_SIZE, MAX_TEXT = 8, 2**40, 200
NO_GRAD = "torch.ops.higher_order.wrap_with_set_grad_enabled"
# The archive's numbers of dtypes: unsigned and signed integers, float16, float32, float64, bool, bfloat16.
DTYPES = {1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64"}
DTYPES |= {6: "float16", 7: "float32", 8: "float64", 12: "bool", 13: "bfloat16"}
# Calls that compute nothing: they state what the program was exported for.
_STATEMENTS = frozenset(
    f"torch.ops.aten.{name}"
    for name in (
        "_assert_tensor_metadata.default",
        "_assert_scalar.default",
        "sym_constrain_range.default",
        "sym_constrain_range_for_size.default",
    )
)
_PLAIN = {"as_ints": integer, "as_floats": fields.number, "as_bools": boolean}
_TABLES = {"sym_int_values": "as_sym_int", "sym_float_values": "as_sym_float", "sym_bool_values": "as_sym_bool"}
_CONSTANTS = {"as_int": integer, "as_float": fields.number, "as_bool": boolean}


def read_meta(value: object) -> TensorMeta:
    """What a tensor is; refused unless it is strided and of a plain dtype. Wherever it was, it goes to the CPU."""
    found = mapping(value, "the description of a tensor")
    dtype = integer(found.get("dtype"), "a dtype")
    if dtype not in DTYPES:
        refuse(f"holds a tensor of dtype {dtype}, which is none of {', '.join(DTYPES.values())}")
    if found.get("layout") != STRIDED:
        refuse("holds a tensor that is not strided")
    sizes, strides = (
        tuple(read_size(size) for size in items(found.get(key), key, MAX_DIMENSIONS)) for key in ("sizes", "strides")
    )
    if len(sizes) != len(strides):
        refuse(f"is damaged: a tensor has {len(sizes)} sizes and {len(strides)} strides")
    return TensorMeta(dtype, sizes, strides, read_size(found.get("storage_offset", {"as_int": 0})))


def read_size(value: object) -> Size:
    """A size, a stride or an offset."""
    kind, content = union(value, "a size")
    if kind == "as_expr":
        return read_expression(content)
    return integer(content, "a size", 0, MAX_SIZE) if kind == "as_int" else refuse(f"holds a size of kind {kind!a}")


class GraphReader:
    """Reads graphs into one `Graph`, with new names."""

    def __init__(self) -> None:
        self.graph = Graph()
        self._count = 0

    def fresh(self) -> str:
        """A name that no other value has."""
        self._count += 1
        if self._count > MAX_VALUES:
            refuse(f"has more than {MAX_VALUES:,} values")
        return f"v{self._count - 1}"

    def read(self, value: object, given: Sequence[Argument] | None, depth: int = 0) -> "Scope":
        """Adds the calls of a graph; `given` are a subgraph's inputs, None makes new ones."""
        found = mapping(value, "the graph")
        if depth > MAX_SUBGRAPH_DEPTH:
            refuse(f"nests graphs more than {MAX_SUBGRAPH_DEPTH} deep")
        scope = Scope(self, found, depth)
        scope.bind(items(found.get("inputs"), "the inputs of a graph", MAX_VALUES), given)
        for node in items(found.get("nodes"), "calls", MAX_NODES):
            scope.call(mapping(node, "a call"))
        scope.outputs = tuple(scope.argument(item) for item in items(found.get("outputs"), "outputs", MAX_ARGUMENTS))
        return scope


class Scope:
    """The names of one graph of the file: what each stands for in ours."""

    def __init__(self, reader: GraphReader, found: dict[str, Any], depth: int) -> None:
        self.reader, self.depth = reader, depth
        self.known: dict[str, str] = {}
        self.inputs: list[str | None] = []
        self.outputs: tuple[Argument, ...] = ()
        self._metas = mapping(found.get("tensor_values"), "the table of tensors")
        self._symbols = {
            name: (tag, content)
            for table, tag in _TABLES.items()
            for name, content in mapping(found.get(table, {}), table).items()
        }

    def bind(self, wanted: Sequence[object], given: Sequence[Argument] | None) -> None:
        """Names the graph's inputs: tensors; constants among them are only placeholders, as the graph has them too."""
        if given is not None and len(given) != len(wanted):
            refuse(f"calls a graph of {len(wanted)} inputs with {len(given)}")
        for at, item in enumerate(wanted):
            tag, content = union(item, "an input")
            if tag in (*_CONSTANTS, "as_none", "as_string") and given is None:
                self.inputs.append(None)
            elif given is not None and tag == given[at].tag and tag in (TENSOR, "as_sym_int") and given[at].names():
                self._learn(_named(tag, content), given[at].names()[0])
            elif tag == TENSOR:
                self.inputs.append(self._define(tag, content).text)
            else:
                refuse(f"takes an input of kind {tag!a}, not a tensor")

    def call(self, node: dict[str, Any]) -> None:
        """Adds one call; what it computes is known from here on."""
        target = node.get("target")
        if not isinstance(target, str):
            refuse("is damaged: a call has no target")
        inputs = items(node.get("inputs"), "arguments", MAX_ARGUMENTS)
        outputs = items(node.get("outputs"), "results", MAX_ARGUMENTS)
        if target in _STATEMENTS:
            return
        if target == NO_GRAD:
            self._write_out(inputs, outputs)
            return
        read = tuple(self._input(mapping(item, "an argument")) for item in inputs)
        if len({item.name for item in read}) < len(read):
            refuse(f"calls {shown(target)} with two arguments of one name")
        self.reader.graph.nodes.append(Node(target, read, tuple(self._result(item) for item in outputs)))

    def _write_out(self, inputs: Sequence[object], outputs: Sequence[object]) -> None:
        arguments = [mapping(item, "an argument").get("arg") for item in inputs]
        tags = [union(item, "an argument") for item in arguments]
        if [tag for tag, _ in tags[:2]] != ["as_bool", "as_graph"]:
            callee = next((content for tag, content in tags if tag == "as_operator"), "no graph")
            refuse(f"calls {shown(callee)} through {NO_GRAD}; only a graph of allowed operators can be called so")
        inner = mapping(tags[1][1], "a graph").get("graph")
        given = [self.argument(item) for item in arguments[2:]]
        found = self.reader.read(inner, given, self.depth + 1).outputs
        if len(found) != len(outputs):
            refuse(f"takes {len(outputs)} results of a graph that has {len(found)}")
        for wanted, held in zip(outputs, found, strict=True):
            tag, content = union(wanted, "a result")
            if tag != held.tag or not held.names():
                refuse("takes a result of a graph that is of another kind")
            self._learn(_named(tag, content), held.names()[0])

    def _input(self, item: dict[str, Any]) -> Input:
        label = item.get("name")
        kind = item.get("kind")
        if kind not in (1, 2, None):
            refuse(f"passes an argument of kind {shown(kind)}")
        return Input(fields.name(label, "an argument"), self.argument(item.get("arg")), kind == 2)

    def argument(self, value: object) -> Argument:
        """An argument whose values are known already."""
        tag, content = union(value, "an argument")
        if tag == "as_none":
            return Argument(tag, True)
        if tag == "as_optional_tensor":
            return self.argument(content)
        if tag in _CONSTANTS:
            return Argument(tag, _CONSTANTS[tag](content, "an argument"))
        if tag in _PLAIN:
            return Argument(tag, tuple(_PLAIN[tag](item, "an argument") for item in _list(content)))
        if tag == TENSOR or tag in SYMBOLS:
            return Argument(tag, self._known(tag, content))
        if tag == TENSORS:
            return Argument(tag, tuple(self._known(TENSOR, item) for item in _list(content)))
        if tag == OPTIONAL_TENSORS:
            return Argument(tag, tuple(self._optional(item) for item in _list(content)))
        if tag in SYMBOL_LISTS:
            return Argument(tag, tuple(self._known(_single(tag), item) for item in _list(content)))
        return _described(tag, content)

    def _optional(self, value: object) -> Name | None:
        tag, content = union(value, "a tensor in a list")
        return None if tag == "as_none" else self._known(TENSOR, content)

    def _known(self, tag: str, content: object) -> Any:
        """The value that a name stands for, or the constant in its place."""
        constant = SYMBOLS.get(tag)
        if constant is not None:
            kind, inner = union(content, "a symbolic argument")
            if kind == constant:
                return _CONSTANTS[constant](inner, "an argument")
        name = _named(tag, content)
        if name not in self.known:
            refuse(f"uses {shown(name)} before anything computes it")
        return Name(self.known[name])

    def _result(self, value: object) -> Argument:
        """A result: a tensor, several, or a symbolic number."""
        tag, content = union(value, "a result")
        if tag == TENSORS:
            return Argument(tag, tuple(self._define(TENSOR, item) for item in _list(content)))
        if tag == TENSOR or tag in SYMBOLS:
            return Argument(tag, self._define(tag, content))
        return refuse(f"has a result of kind {tag!a}")

    def _define(self, tag: str, content: object) -> Name:
        name = _named(tag, content)
        new = self.reader.fresh()
        if tag == TENSOR:
            if name not in self._metas:
                refuse(f"does not describe the tensor {shown(name)}")
            self.reader.graph.tensors[new] = read_meta(self._metas[name])
        else:
            kind, value = self._symbols.get(name, ("", None))
            if kind != tag:
                refuse(f"does not describe the number {shown(name)}")
            form, inner = union(value, "a number")
            known = read_expression(inner) if form == "as_expr" else _CONSTANTS[SYMBOLS[tag]](inner, "a number")
            self.reader.graph.symbols[new] = (tag, known)
        self._learn(name, new)
        return Name(new)

    def _learn(self, name: str, new: str) -> None:
        if name in self.known:
            refuse(f"computes {shown(name)} twice")
        self.known[name] = new


def _single(tag: str) -> str:
    return tag.removesuffix("s")


def _list(content: object) -> list[Any]:
    return items(content, "an argument's items", MAX_ARGUMENTS)


def _named(tag: str, content: object) -> str:
    found = mapping(content, "a value").get("name" if tag == TENSOR else "as_name")
    name = fields.name(found, "a value")
    return refuse(f"names a value {name!a}, a word of Python") if keyword.iskeyword(name) else name


def _described(tag: str, content: object) -> Argument:
    """What is written down as a number or a word: dtypes, layouts, memory formats, devices, texts."""
    if tag == "as_scalar_type" and integer(content, "a dtype") in DTYPES:
        return Argument(tag, content)
    if tag == "as_layout":
        return Argument(tag, integer(content, "a layout", STRIDED, STRIDED))
    if tag == "as_memory_format":
        return Argument(tag, integer(content, "a memory format", 1, 4))
    if tag == "as_device":
        return Argument(tag, CPU)
    if tag == "as_string" and isinstance(content, str) and len(content) <= MAX_TEXT and content.isascii():
        return Argument(tag, content)
    if tag == "as_operator":
        refuse(f"passes the operator {shown(content)} as an argument, which is not allowed, whatever it is")
    if tag == "as_graph":
        refuse(f"passes a graph to an operator other than {NO_GRAD}")
    return refuse(f"passes an argument of kind {tag!a} ({shown(content)})")
