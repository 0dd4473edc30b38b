"""Whether a model takes numbers of the dataset as indices of a table.

torch and onnxruntime raise an error for an index that the table does not have; a converted model gives numbers all the
same. So such a model stays with its own engine, unless an operator bounds the number first.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from skyfan.models.programs.graph import Program
from skyfan.models.programs.operators import operator_name

# Operators that look up, and the arguments that hold indices.
_INDICES = {
    **dict.fromkeys(("embedding", "index", "index_put", "index_put_", "take_along_dim"), "indices"),
    **dict.fromkeys(("index_select", "gather", "scatter", "scatter_", "scatter_add", "scatter_add_"), "index"),
    "one_hot": "self",
}
# What these give lies between bounds that the program itself sets, whatever goes in.
_BOUNDED = frozenset(
    {"bucketize", "searchsorted", "argmax", "argmin", "argsort", "clamp", "remainder", "topk", "sort", "kthvalue"}
    | {"eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_not", "isnan", "isfinite", "isinf"}
    | {"sym_size", "sym_numel", "zeros_like", "ones_like", "full_like", "sigmoid"}
)


@dataclass(frozen=True)
class Call:
    """One call of a graph: which of the values that it is given are indices, and whether it bounds what it gives."""

    name: str
    indices: Sequence[str]
    given: Sequence[str]
    outputs: Sequence[str]
    bounded: bool


def first_unbounded_lookup(inputs: Iterable[str], calls: Iterable[Call]) -> str | None:
    """The first operator that is given indices which the inputs decide without bounds; None if there is none."""
    unbounded = set(inputs)
    for call in calls:
        if not unbounded.isdisjoint(call.indices):
            return call.name
        if not call.bounded and not unbounded.isdisjoint(call.given):
            unbounded.update(call.outputs)
    return None


def unbounded_lookup(program: Program) -> str | None:
    """The same of a `.pt2` program."""
    return first_unbounded_lookup(program.inputs.values(), _calls(program))


def _calls(program: Program) -> Iterable[Call]:
    for node in program.graph.nodes:
        name = operator_name(node.target)
        indices = node.argument(_INDICES[name]) if name in _INDICES else None
        yield Call(
            name,
            indices.names() if indices is not None else [],
            [value for item in node.inputs for value in item.argument.names()],
            [value for output in node.outputs for value in output.names()],
            bounded=name in _BOUNDED,
        )
