"""Carries out a job's declared preprocessing: on whole batches of an input's values, before any model sees them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skyfan.columns import ColumnOptions
from skyfan.errors import DatasetError
from skyfan.formats.row_values import finite_rows
from skyfan.layout import FileLayout, TensorSpec
from skyfan.preprocessing import Step, parse_steps

NOT_DEFINED = "NaN or infinite values in {} after --preprocess"
"""Why a sample has no prediction; `{}` is the column."""


@dataclass(frozen=True)
class Preprocessing:
    """The steps of a job, and the dataset's columns that they read beside the model's inputs."""

    options: ColumnOptions
    steps: tuple[Step, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", parse_steps(self.options.preprocess))

    @property
    def columns(self) -> frozenset[str]:
        """The columns by which values are changed, such as E(B-V)."""
        return frozenset(step.by for step in self.steps if step.by)

    def check(self, layout: FileLayout, inputs: Sequence[str]) -> None:
        """Raises `DatasetError` unless every step fits the model's inputs and the dataset's columns."""
        for step in self.steps:
            if step.column not in inputs:
                raise DatasetError(
                    f"--preprocess names the column {step.column}, which is none of the model's inputs: "
                    f"{', '.join(inputs)}."
                )
            bands = _bands(layout.tensor(step.column))
            if step.bands not in (1, bands):
                raise DatasetError(
                    f"--preprocess {step.column}={step.action} has numbers for {step.bands} bands, and {step.column} "
                    f"of {layout.uri} has {bands}; give one number, or {bands}."
                )
            if step.by and (layout.tensor(step.by).row_shape not in ((), (1,)) or not _is_real(layout.tensor(step.by))):
                raise DatasetError(f"--preprocess {step.column}={step.action}: {step.by} is not one number a sample.")
            if not _is_real(layout.tensor(step.column)):
                raise DatasetError(f"--preprocess {step.column}: the column does not hold real numbers.")

    def apply(
        self,
        names: Sequence[str],
        tensors: Sequence[NDArray[Any]],
        read: Mapping[str, NDArray[Any]],
        reasons: NDArray[np.object_],
    ) -> list[NDArray[Any]]:
        """The inputs [B, …] after all steps, as float32 (float64 where they were that); what is given is not changed.

        `read` has the rows of `columns`. Rows that are no longer finite become zeros, and get a reason why they have no
        prediction, unless they have one.
        """
        found = list(tensors)
        for position, name in enumerate(names):
            steps = [step for step in self.steps if step.column == name]
            if not steps:
                continue
            given = tensors[position]
            values = given.astype(np.float64 if given.dtype == np.float64 else np.float32)
            with np.errstate(all="ignore"):  # what is not defined is found below, and accounted for
                for step in steps:
                    _take(step, values, read)
            broken = np.flatnonzero(~finite_rows(values))
            values[broken] = 0
            for row in broken:
                reasons[row] = reasons[row] or NOT_DEFINED.format(name)
            found[position] = values
        return found


def _take(step: Step, values: NDArray[Any], read: Mapping[str, NDArray[Any]]) -> None:
    """One step on values [B, bands, …], in place."""
    if step.action == "clip":
        np.clip(values, *step.numbers[0], out=values)
        return
    first, *more = (_along_bands(numbers, values) for numbers in step.numbers)
    match step.action:
        case "asinh":
            np.arcsinh(np.divide(values, first, out=values), out=values)
        case "log":
            np.log10(np.add(values, first, out=values), out=values)
        case "standardise":
            np.divide(np.subtract(values, first, out=values), more[0], out=values)
        case _:
            shape = (len(values), *(1,) * (values.ndim - 1))
            extinction = first * read[step.by].astype(values.dtype).reshape(shape)
            if step.action == "deredden":
                np.subtract(values, extinction, out=values)
            else:
                np.multiply(values, 10 ** (0.4 * extinction), out=values)


def _along_bands(numbers: Sequence[float], values: NDArray[Any]) -> NDArray[Any]:
    """One number a band, shaped so that it meets dimension 1 of [B, bands, …]."""
    shape = (1, -1, *(1,) * (values.ndim - 2)) if values.ndim > 1 else (-1,)
    return np.array(numbers, values.dtype).reshape(shape)


def _bands(spec: TensorSpec) -> int:
    return spec.row_shape[0] if spec.row_shape else 1


def _is_real(spec: TensorSpec) -> bool:
    return spec.dtype != "string" and not spec.dtype.startswith("complex")
