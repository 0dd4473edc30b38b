"""A program's first load and first predictions, in a confined child: whether it runs, and gives rows their own outputs.

A row's prediction must be the row's: the same when it is asked for again, and the same alone as among other rows.
What the graph's check cannot see (means over the batch, weights that change) shows here.
"""

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skyfan.errors import ModelError
from skyfan.models.programs.checked import CheckedProgram, checked_program
from skyfan.models.programs.fields import Refusal
from skyfan.models.programs.reference import check_reference
from skyfan.sandbox import ChildDied, Limits, run_in_child

ROWS = 7
# |a − b| ≤ this · max(1, |a|): what rounding may do to a row in another batch is a hundred times less.
TOLERANCE = 1e-3
_MEMORY_PER_BYTE = 8
_SEED = struct.Struct("<q")


def try_program(data: bytes, where: str, *, random_seed: int | None = None) -> None:
    """Lets the program of a `.pt2` file predict in a child process; `ModelError` tells how that failed."""
    limits = Limits(memory_bytes=Limits().memory_bytes + _MEMORY_PER_BYTE * len(data))
    seed = _SEED.pack(-1 if random_seed is None else random_seed)
    try:
        refused = run_in_child(f"{__name__}:tried", seed + data, limits)
    except ChildDied as died:
        raise ModelError(f"{where} was tried in a child process and {died}; it was not run here.") from died
    if refused is not None:
        raise ModelError(f"{where}: {refused}")


def tried(data: bytes) -> str | None:
    """In the child: what is wrong with the program, or None."""
    (seed,) = _SEED.unpack_from(data)
    random_seed = None if seed < 0 else seed
    try:
        outputs = _try_rows(checked_program(data[_SEED.size :], "it", random=random_seed is not None), random_seed)
        if random_seed is None:
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

    rows = example_rows(checked)
    among = predicted(rows)
    if not _same(among, predicted(rows)):
        raise ModelError(
            "the program gives the same rows other predictions the second time, as dropout that is left on or weights "
            "that change do; call .eval() before exporting."
        )
    if random_seed is not None:
        return among  # a row's random numbers depend on where in its batch it is
    alone = np.concatenate([predicted([values[at : at + 1] for values in rows]) for at in range(ROWS)])
    if not _same(among, alone):
        raise ModelError(
            "the program gives a row another prediction alone than among others, as batch norm in training mode or a "
            "mean over the batch does; call .eval() before exporting, and let no row see another."
        )
    return among


def example_rows(checked: CheckedProgram) -> list[NDArray[Any]]:
    """`ROWS` rows for every input: noise of the size of fluxes, magnitudes from 14 to 22, small whole numbers."""
    rng = np.random.default_rng(0)
    found = []
    for taken, shape in zip(checked.inputs, checked.example_shapes, strict=True):
        noise = rng.random((ROWS, *shape[1:]), dtype=np.float32)
        if "float" in taken.dtype:
            values = 14 + 8 * noise if taken.name == "magnitude" else np.expm1(4 * noise) / 10
        else:
            values = 2 * noise
        found.append(values.astype("float32" if taken.dtype == "bfloat16" else taken.dtype))
    return found


def _same(found: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    if found.shape != other.shape:
        return False
    return bool(np.isclose(found, other, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True).all())
