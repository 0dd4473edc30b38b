"""From the bytes of a `.pt2` file to a program that may be run."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from skyfan.errors import ModelError
from skyfan.models.inputs import ModelInput
from skyfan.models.programs.archive import GRAPH, ProgramArchive
from skyfan.models.programs.checking import check_calls
from skyfan.models.programs.expressions import Expression
from skyfan.models.programs.fields import Refusal, refuse
from skyfan.models.programs.graph import TENSOR, Program, TensorMeta
from skyfan.models.programs.reading import DTYPES
from skyfan.models.programs.signature import read_program
from skyfan.models.programs.tensors import StoredTensor, read_tensors

# Of one input: a trial makes such rows up.
MAX_ROW_VALUES = 2**24


@dataclass(frozen=True)
class CheckedProgram:
    """A program with nothing of the file in it but what was checked.

    `tensors` are its weights by their value in the graph, lying over the bytes in `contents`; `example_shapes` the
    shapes that it was exported with, in the order of `inputs`; `output_names` those of its tensors, in order;
    `writes_inputs` tells whether it writes into the tensors it is given, `draws` whether it draws random numbers.
    """

    program: Program
    tensors: Mapping[str, StoredTensor]
    contents: Mapping[str, bytes]
    inputs: tuple[ModelInput, ...]
    example_shapes: tuple[tuple[int, ...], ...]
    output_names: tuple[str, ...]
    writes_inputs: bool
    draws: bool

    @property
    def fixed_batch(self) -> int | None:
        """The one number of samples that it takes, where it was exported without a free batch dimension."""
        return next((taken.shape[0] for taken in self.inputs if taken.shape), None)


def checked_program(data: bytes, where: str, *, random: bool = False) -> CheckedProgram:
    """The program in the bytes of the file `where`; `random` lets it draw random numbers.

    Raises `ModelError` with the first thing that is not allowed, by name. torch is asked for the signatures of
    operators on the list, and for nothing else.
    """
    try:
        archive = ProgramArchive.open(data)
        program = read_program(archive.read(GRAPH))
        writes_inputs = check_calls(program, random=random)
        draws = random and _draws(program)
        tensors, contents = read_tensors(program.weights, archive)
        inputs, shapes = _taken(program)
    except Refusal as refusal:
        raise ModelError(f"{where} {refusal}.") from refusal
    named = zip(program.output_names, program.outputs, strict=True)
    names = tuple(name for name, output in named if output.tag == TENSOR)
    return CheckedProgram(program, tensors, contents, inputs, shapes, names, writes_inputs, draws)


def _draws(program: Program) -> bool:
    """Whether it is allowed with random numbers alone."""
    try:
        check_calls(program)
    except Refusal:
        return True
    return False


def _taken(program: Program) -> tuple[tuple[ModelInput, ...], tuple[tuple[int, ...], ...]]:
    metas = {name: program.graph.tensors[value] for name, value in program.inputs.items()}
    inputs = tuple(
        ModelInput(name, tuple(s if isinstance(s, int) else None for s in meta.sizes), DTYPES[meta.dtype])
        for name, meta in metas.items()
    )
    if any(not taken.shape for taken in inputs):
        refuse("takes a tensor without a batch dimension")
    shapes = tuple(_exported_shape(meta) for meta in metas.values())
    largest = max(math.prod(shape[1:]) for shape in shapes)
    if largest > MAX_ROW_VALUES:
        refuse(f"takes rows of {largest:,} values, more than {MAX_ROW_VALUES:,}")
    return inputs, shapes


def _exported_shape(meta: TensorMeta) -> tuple[int, ...]:
    return tuple((size.hint or 1) if isinstance(size, Expression) else size for size in meta.sizes)
