"""A program's first load and first predictions, in a confined child: whether it runs, and gives rows their own outputs.

A row's prediction must be the row's: the same when it is asked for again, and the same alone as among other rows.
What the graph's check cannot see (means over the batch, weights that change) shows here.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skyfan.errors import ModelError
from skyfan.models.programs.checked import CheckedProgram, checked_program
from skyfan.models.programs.fields import Refusal
from skyfan.models.programs.reference import check_reference
from skyfan.models.reference_outputs import check_samples
from skyfan.sandbox import ChildDied, Limits, run_in_child

ROWS = 7
# |a − b| ≤ this · max(1, |a|): what rounding may do to a row in another batch is a hundred times less.
TOLERANCE = 1e-3
_MEMORY_PER_BYTE = 8
_SEED = struct.Struct("<q")


def try_program(data: bytes, where: str, *, random_seed: int | None = None) -> None:
    """Lets the program of a `.pt2` file predict in a child process; `ModelError` tells how that failed."""
    seed = _SEED.pack(-1 if random_seed is None else random_seed)
    try_in_child(f"{__name__}:tried", seed + data, where)


def try_in_child(function: str, data: bytes, where: str) -> None:
    """Lets `function` (MODULE:NAME) try a model in a child process; `ModelError` tells what is wrong with it."""
    limits = Limits(memory_bytes=Limits().memory_bytes + _MEMORY_PER_BYTE * len(data))
    try:
        refused = run_in_child(function, data, limits)
    except ChildDied as died:
        raise ModelError(f"{where} was tried in a child process and {died}; it was not run here.") from died
    if refused is not None:
        raise ModelError(f"{where}: {refused}")


def tried(data: bytes) -> str | None:
    """In the child: what is wrong with the program, or None."""
    (seed,) = _SEED.unpack_from(data)
    random_seed = None if seed < 0 else seed
    try:
        checked = checked_program(data[_SEED.size :], "it", random=random_seed is not None)
        outputs = _try_rows(checked, random_seed)
        if not checked.draws:
            check_reference(data[_SEED.size :], outputs)
    except ModelError as error:
        return str(error)
    except Refusal as refusal:
        return f"the program {refusal}."
    return None


def _try_rows(checked: CheckedProgram, random_seed: int | None) -> NDArray[np.float64]:
    """The outputs on `example_rows` [ROWS, columns]."""
    import torch

    from skyfan.models.programs.module import ProgramModule

    torch.set_num_threads(1)
    module = ProgramModule(checked, random_seed)

    def predicted(rows: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
        outputs: NDArray[np.float64] = module(*(torch.from_numpy(values) for values in rows)).double().numpy()
        return outputs

    return require_own_rows(example_rows(checked), predicted, draws=checked.draws)


def require_own_rows(
    rows: Sequence[NDArray[Any]], predicted: Callable[[Sequence[NDArray[Any]]], NDArray[Any]], *, draws: bool = False
) -> NDArray[Any]:
    """The predictions; raises `ModelError` unless a row's is the same the second time and the same alone.

    `draws`: its random numbers depend on where in its batch a row is, so that it stays there, among copies of itself.
    """
    among = predicted(rows)
    if not _same(among, predicted(rows)):
        raise ModelError(
            "the program gives the same rows other predictions the second time, as dropout that is left on or weights "
            "that change do; call .eval() before exporting."
        )
    copies = len(rows[0]) if draws else 1

    alone = np.stack(
        [
            predicted([np.repeat(values[at : at + 1], copies, axis=0) for values in rows])[at % copies]
            for at in range(len(rows[0]))
        ]
    )
    if not _same(among, alone):
        raise ModelError(
            "the program gives a row another prediction alone than among others, as batch norm in training mode or a "
            "mean over the batch does; call .eval() before exporting, and let no row see another."
        )
    return among


def example_rows(checked: CheckedProgram) -> list[NDArray[Any]]:
    """`ROWS` rows for every input, see `check_samples`; sizes that may be any are those of the program's export."""
    shapes = zip(checked.inputs, checked.example_shapes, strict=True)
    return check_samples([replace(taken, shape=shape) for taken, shape in shapes], ROWS)


def _same(found: NDArray[Any], other: NDArray[Any]) -> bool:
    if found.shape != other.shape:
        return False
    return bool(np.isclose(found, other, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True).all())
