"""Missing values in a model's inputs: found, replaced or made the reason why a sample has no prediction."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skyfan.errors import DatasetError
from skyfan.job import RunOptions
from skyfan.missing import NOT_FINITE, SENTINEL, MissingPolicy, parse_missing
from skyfan.science.sentinels import SENTINELS, sentinels


@dataclass
class MissingValues:
    """Applies a job's policies to batches, and counts what they did in one rank.

    `replaced` counts values by column, `samples_replaced` samples; `undeclared` the samples in which a column holds
    what catalogues customarily write for missing values, without the job naming such values.
    """

    options: RunOptions
    replaced: dict[str, int] = field(default_factory=dict)
    samples_replaced: int = 0
    undeclared: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._policies = parse_missing(self.options.missing)

    def policy(self, name: str) -> MissingPolicy:
        """That of a column."""
        return self._policies.get(name, self._policies[""])

    def apply(
        self,
        names: Sequence[str],
        tensors: Sequence[NDArray[Any]],
        first_sample: int,
        finite: Mapping[str, NDArray[np.bool_]] | None = None,
    ) -> tuple[list[NDArray[Any]], NDArray[np.object_], NDArray[np.int32]]:
        """Inputs [B, …] that hold no missing value, why rows have no prediction (None: they have), values replaced.

        Rows without a prediction become zeros, so that a batch keeps its shape. What is given is not written to.
        `finite`: of some inputs, which rows are known to hold nothing that is not finite.

        Raises:
            DatasetError: a value is missing where the policy is `fail`.
        """
        reasons: NDArray[np.object_] = np.full(len(tensors[0]), None, np.object_)
        replaced = np.zeros(len(reasons), np.int32)
        usable = list(tensors)
        for position, (name, values) in enumerate(zip(names, tensors, strict=True)):
            self._count_undeclared(name, values)
            if not self.options.sentinel and finite and name in finite and finite[name].all():
                continue
            broken, named = self._absent(values)
            absent = broken | named
            if not absent.any():
                continue
            skipped = self._skipped(name, absent, first_sample)
            for row in np.flatnonzero(skipped):
                why = NOT_FINITE if broken[row].any() else SENTINEL
                reasons[row] = reasons[row] or why.format(name)
            if self.policy(name).action != "skip":
                absent[skipped] = False
                usable[position] = _replaced(values, absent, self.policy(name))
                replaced += absent.sum(axis=1, dtype=np.int32)
                self.replaced[name] = self.replaced.get(name, 0) + int(absent.sum())
        self.samples_replaced += int((replaced > 0).sum())
        return _blanked(usable, tensors, reasons), reasons, replaced

    def _absent(self, values: NDArray[Any]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which values [B, values a row] are not finite, and which are the job's sentinels."""
        flat = values.reshape(len(values), -1)
        broken = np.zeros(flat.shape, np.bool_) if flat.dtype.kind in "biu" else ~np.isfinite(flat)
        named = np.zeros(flat.shape, np.bool_)
        for number in self.options.sentinel:
            if _holds(flat.dtype, number):
                named |= flat == flat.dtype.type(number)
        return broken, named

    def _skipped(self, name: str, absent: NDArray[np.bool_], first_sample: int) -> NDArray[np.bool_]:
        """Which rows get no prediction; a quantile needs at least one value that is there."""
        match self.policy(name).action:
            case "fail":
                raise DatasetError(
                    f"sample {first_sample + int(absent.any(axis=1).argmax())} has missing values in {name}, and "
                    f"--missing is fail; choose --missing {name}=skip, zero or quantile:Q, or correct the data."
                )
            case "zero":
                return np.zeros(len(absent), np.bool_)
            case "quantile":
                return np.asarray(absent.all(axis=1))
            case _:
                return np.asarray(absent.any(axis=1))

    def _count_undeclared(self, name: str, values: NDArray[Any]) -> None:
        if self.options.sentinel or name not in SENTINELS or values.dtype.kind == "c":
            return
        found = sentinels(name, values.reshape(len(values), -1)).any(axis=1)
        if found.any():
            self.undeclared[name] = self.undeclared.get(name, 0) + int(found.sum())


def _replaced(values: NDArray[Any], absent: NDArray[np.bool_], policy: MissingPolicy) -> NDArray[Any]:
    """A copy of the rows [B, …] in which the values that are `absent` [B, values a row] are replaced."""
    flat = values.reshape(len(values), -1).copy()
    if policy.action == "zero":
        flat[absent] = 0
    else:
        for row in np.flatnonzero(absent.any(axis=1)):
            known = flat[row, ~absent[row]].astype(np.float64)
            flat[row, absent[row]] = np.quantile(known, policy.quantile)
    return flat.reshape(values.shape)


def _holds(dtype: np.dtype[Any], number: float) -> bool:
    """Whether a column of this type can hold the number at all."""
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return number.is_integer() and limits.min <= number <= limits.max
    return dtype.kind != "b" and math.isfinite(number)


def _blanked(
    usable: list[NDArray[Any]], given: Sequence[NDArray[Any]], reasons: NDArray[np.object_]
) -> list[NDArray[Any]]:
    bad = reasons.astype(np.bool_)
    if not bad.any():
        return usable
    copies = [values.copy() if values is before else values for values, before in zip(usable, given, strict=True)]
    for values in copies:
        values[bad] = 0
    return copies
