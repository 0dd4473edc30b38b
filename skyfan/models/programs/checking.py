"""Holds every call of a program against the list of operators and against the operator's own signature.

Arguments must be of the types that the signature names; texts are words of a fixed list; integers and the sizes of new
tensors are bounded; a program may write into what it computed, but not into its weights. Randomness and training are
refused with the way out.
"""

import math
import re
from typing import TYPE_CHECKING, Any

from skyfan.models.programs.fields import refuse, shown
from skyfan.models.programs.graph import TENSOR, TENSORS, Argument, Name, Node, Program
from skyfan.models.programs.operators import (
    RANDOM_NAMES,
    SIZE_FUNCTIONS,
    allowed_operators,
    aten_operator,
    operator_name,
)
from skyfan.models.programs.signature import CHANGES_ITSELF

if TYPE_CHECKING:
    from torch import FunctionSchema

MAX_INTEGER, MAX_ELEMENTS, MAX_SIZE_BITS = 2**24, 2**28, 256
TO_THE_END = 2**63 - 1  # how a slice without an end is written down
_WORDS = frozenset(
    {"same", "valid", "constant", "reflect", "replicate", "circular", "none", "tanh", "trunc", "floor", "ij", "xy"}
    | {"left", "right"}
)
_EQUATION = re.compile(r"[A-Za-z ,.>-]{1,200}")
_NEW_TENSORS = frozenset({"arange", "linspace", "eye"})  # their sizes are numbers
_NOT_SIZES = ("split_sizes", "indices", "dim", "dims", "shifts")  # lists of integers that make no larger tensor
_INTEGERS = frozenset({"as_int", "as_sym_int"})
_NUMBERS = _INTEGERS | {"as_float", "as_bool", "as_sym_float"}
_TYPES = {
    # the type in an operator's signature: tags of arguments that fit it
    "Tensor": _NUMBERS | {TENSOR},
    "int": _INTEGERS,
    "SymInt": _INTEGERS,
    "float": frozenset({"as_float", "as_int", "as_sym_float"}),
    "number": _NUMBERS,
    "bool": frozenset({"as_bool"}),
    "str": frozenset({"as_string"}),
    "ScalarType": frozenset({"as_scalar_type"}),
    "Layout": frozenset({"as_layout"}),
    "MemoryFormat": frozenset({"as_memory_format"}),
    "Device": frozenset({"as_device"}),
    "List[int]": frozenset({"as_ints", "as_sym_ints", "as_int"}),
    "List[SymInt]": frozenset({"as_ints", "as_sym_ints", "as_int"}),
    "List[float]": frozenset({"as_floats"}),
    "List[bool]": frozenset({"as_bools"}),
    "List[Tensor]": frozenset({"as_tensors"}),
    "List[Optional[Tensor]]": frozenset({"as_tensors", "as_optional_tensors"}),
}
# The type of a result in the signature: its tag, where that is not a tensor's.
_RESULTS = {"List[Tensor]": TENSORS, "int": "as_sym_int", "SymInt": "as_sym_int"}
# Operators that give back the tensor they were given, though their signature does not tell.
_MAY_ALIAS = frozenset({"dropout", "feature_dropout", "alpha_dropout", "lift_fresh_copy", "broadcast_to", "tile"})
IS_RANDOM = (
    "draws random numbers ({}), so that the same row gets another prediction each time; call .eval() before exporting, "
    "or let it draw them with skyfan run --random-seed 1"
)
TRAINS = (
    "was exported in training mode ({} with {}=True), so that a row's prediction depends on chance or on the rows "
    "beside it; call .eval() before exporting"
)
DROPS = f"{TRAINS}, or let dropout draw with skyfan run --random-seed 1"


def check_calls(program: Program, *, random: bool = False) -> bool:
    """Raises `Refusal` for the first call that is not allowed; True if the program writes into its inputs."""
    allowed = allowed_operators(random=random)
    origins = {weight.value: {weight.value} for weight in program.weights}
    origins |= {value: {value} for value in program.inputs.values()}
    varying = set(program.inputs.values())
    written: set[str] = set()
    bits: dict[str, int] = {}
    for node in program.graph.nodes:
        if node.target in SIZE_FUNCTIONS:
            _check_size_function(node, bits)
            continue
        name = operator_name(node.target)
        if node.target not in allowed:
            if name in RANDOM_NAMES and not random:
                refuse(IS_RANDOM.format(name))
            refuse(f"calls {shown(node.target)}, which is no tensor operation that is allowed here")
        schema = operator_schema(node.target)
        _check_arguments(node, schema)
        if not varying.isdisjoint(value for given in node.inputs for value in given.argument.names()):
            varying.update(value for output in node.outputs for value in output.names())
            _check_evaluation(node, name, random=random)
        written |= _follow(node, schema, name, origins)
        bits |= {found: 32 for output in node.outputs if output.tag == "as_sym_int" for found in output.names()}
    if written & {weight.value for weight in program.weights}:
        refuse(CHANGES_ITSELF)
    return bool(written)


def operator_schema(target: str) -> "FunctionSchema":
    """The signature in torch of an operator that is on the list."""
    try:
        schema: FunctionSchema = aten_operator(target)._schema
    except AttributeError:
        import torch

        refuse(f"calls {target}, which torch {torch.__version__} does not have")
    return schema


def _check_arguments(node: Node, schema: "FunctionSchema") -> None:
    wanted = {argument.name: argument for argument in schema.arguments}
    for given in node.inputs:
        if given.name not in wanted:
            refuse(f"calls {node.target} with an argument {given.name!a} that it does not have")
        kind = str(wanted[given.name].real_type)
        what = f"{node.target}'s {given.name}"
        if given.argument.tag == "as_none" and kind.startswith("Optional["):
            continue
        kind = kind.removeprefix("Optional[").removesuffix("]") if kind.startswith("Optional[") else kind
        if given.argument.tag not in _TYPES.get(kind, frozenset()):
            refuse(f"gives {what} a value of kind {given.argument.tag}, not {kind}")
        _check_value(given.argument, kind, what)
    missing = [name for name, argument in wanted.items() if not argument.has_default_value()]
    absent = next((name for name in missing if node.argument(name) is None), None)
    if absent is not None:
        refuse(f"calls {node.target} without its {absent}")
    kinds = [_RESULTS.get(str(result.real_type), TENSOR) for result in schema.returns]
    if not node.outputs or [output.tag for output in node.outputs] != kinds:
        refuse(f"takes results of {node.target} that it does not have")


def _check_value(argument: Argument, kind: str, what: str) -> None:
    value = argument.value
    if kind == "str":
        if not (_EQUATION.fullmatch(value) if ".einsum." in what else value in _WORDS):
            refuse(f"gives {what} the text {shown(value)}, which is not one of those it takes")
    elif kind in ("int", "SymInt") or (kind == "number" and any(f".{name}." in what for name in _NEW_TENSORS)):
        _check_integer(value, what)
    elif kind in ("List[int]", "List[SymInt]"):
        known = [item for item in (value if isinstance(value, tuple) else (value,)) if not isinstance(item, Name)]
        for item in known:
            _check_integer(item, what)
        sizes = 1 if what.endswith(_NOT_SIZES) else math.prod(max(1, abs(item)) for item in known)
        if sizes > MAX_ELEMENTS:
            refuse(f"gives {what} the sizes {list(known)}, of more than {MAX_ELEMENTS:,} values")
    elif kind == "List[float]" and not all(math.isfinite(item) and abs(item) <= MAX_INTEGER for item in value):
        refuse(f"gives {what} a number that is not finite or too large")


def _check_integer(value: Any, what: str) -> None:
    if isinstance(value, Name) or (value == TO_THE_END and ".slice." in what):
        return
    if not abs(value) <= MAX_INTEGER:
        refuse(f"gives {what} the value {value}, beyond {MAX_INTEGER:,}")


def _check_evaluation(node: Node, name: str, *, random: bool) -> None:
    """Training statistics never; dropout that is left on only where randomness is asked for.

    Of values that depend on the inputs: weights may be normalised by their own statistics.
    """
    if _value(node, "training"):
        refuse(TRAINS.format(name, "training"))
    rates = [_value(node, key) for key in ("p", "dropout", "dropout_p")]
    rate = next((rate for rate in rates if rate), 0)
    if rate and "dropout" in name and _value(node, "train") and not random:
        refuse(DROPS.format(name, "train"))
    if rate and name in ("lstm", "gru", "rnn_tanh", "rnn_relu") and _value(node, "train") and not random:
        refuse(DROPS.format(name, "train"))
    if name == "scaled_dot_product_attention" and rate and not random:
        refuse(DROPS.format(name, f"dropout_p={rate} instead of 0, train"))


def _value(node: Node, name: str) -> Any:
    found = node.argument(name)
    return None if found is None or found.tag == "as_none" else found.value


def _follow(node: Node, schema: "FunctionSchema", name: str, origins: dict[str, set[str]]) -> set[str]:
    """Records from which weights and inputs the results may be made without a copy; those that are written into."""
    shared: set[str] = set()
    written: set[str] = set()
    aliased = {argument.name: argument.alias_info for argument in schema.arguments}
    for given in node.inputs:
        alias = aliased[given.name]
        held = {origin for value in given.argument.names() for origin in origins.get(value, ())}
        if alias is not None or name in _MAY_ALIAS:
            shared |= held
        if alias is not None and alias.is_write:
            written |= held
    for output in node.outputs:
        origins |= dict.fromkeys(output.names(), shared)
    return written


def _check_size_function(node: Node, bits: dict[str, int]) -> None:
    """Integers and numbers in, one out; as Python's integers have no end, how long results can get is bounded."""
    lengths = []
    for given in node.inputs:
        argument = given.argument
        if argument.tag not in (*_NUMBERS, "as_sym_bool"):
            refuse(f"gives {node.target} a value of kind {argument.tag}, not a number")
        value = argument.value
        lengths.append(bits.get(value.text, 64) if isinstance(value, Name) else int(abs(value)).bit_length() if
                       math.isfinite(value) else MAX_SIZE_BITS)  # fmt: skip
    total = sum(lengths) if node.target == "_operator.mul" else max(lengths, default=0) + 1
    names = [name for output in node.outputs for name in output.names()]
    if total > MAX_SIZE_BITS or len(names) != 1 or node.outputs[0].tag in (TENSOR, "as_tensors"):
        refuse(f"computes sizes of more than {MAX_SIZE_BITS} bits, or no size, with {node.target}")
    bits[names[0]] = total
