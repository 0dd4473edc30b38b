"""The parameters of the simulator: a few times and rates of a deployment, each with its source.

A calibration is data (JSON). Two are packaged: `published` is fitted on the reference system's published runs,
`skyfan` is our executor before anybody has measured it on AWS; `skyfan plan --fit` makes one from runs.
"""

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
from pydantic import Field, ValidationError, model_validator

from skyfan import store
from skyfan.errors import BadInput
from skyfan.validation import Frozen, first_problem

PACKAGED = ("published", "skyfan")


class Spread(Frozen):
    """The spread of ranks' times: the inverse distribution function of time ÷ median.

    `probability` rises from 0 to 1; between its points the function is linear.
    """

    probability: tuple[float, ...] = Field(min_length=2)
    factor: tuple[float, ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _rises(self) -> Self:
        for name, points in (("probability", self.probability), ("factor", self.factor)):
            if any(later < earlier for earlier, later in itertools.pairwise(points)):
                raise ValueError(f"{name} must not fall")
        if len(self.probability) != len(self.factor) or (self.probability[0], self.probability[-1]) != (0.0, 1.0):
            raise ValueError("probability must run from 0 to 1 with one factor each")
        if self.factor[0] < 0:
            raise ValueError("factors must not be negative")
        return self

    @classmethod
    def none(cls) -> Self:
        """Every rank takes the median time."""
        return cls(probability=(0.0, 1.0), factor=(1.0, 1.0))

    @classmethod
    def measured(cls, factors: Sequence[float]) -> Self:
        """The spread of observed time ÷ median, with more points at the slow end, where the stragglers are."""
        tail = 1 - np.geomspace(0.2, 0.001, 15)
        probability = np.unique(np.concatenate([np.linspace(0, 0.8, 17), tail, [1.0]]).round(6))
        values = np.maximum.accumulate(np.quantile(np.asarray(factors, dtype=np.float64), probability))
        return cls(probability=tuple(probability.tolist()), factor=tuple(values.round(4).tolist()))

    def draw(self, count: int, random: np.random.Generator) -> np.ndarray:
        """`count` random factors, float64 [count]."""
        return np.interp(random.random(count), self.probability, self.factor)


class Calibration(Frozen):
    """The parameters of one deployment; docs/explanation/forecast.md explains each one."""

    schema_: Literal["skyfan.calibration/1"] = Field(default="skyfan.calibration/1", alias="schema")
    source: str
    plan_s: float = Field(ge=0, description="from the request to the first rank's start")
    start_interval_s: float = Field(ge=0, description="between starts of ranks, where no limit holds them back")
    rank_fixed_s: float = Field(ge=0, description="a rank's time whatever its size: start, imports, model")
    cold_start_s: float = Field(default=0.0, ge=0, description="more for a rank in a new environment")
    compute_s_per_sample: float = Field(ge=0, description="at `measured_vcpus`")
    measured_vcpus: float = Field(gt=0)
    parallel_share: float = Field(default=0.9, ge=0, le=1, description="of compute that gains from processors")
    read_bytes_per_s: float | None = Field(default=None, gt=0, description="None where compute_s includes reading")
    request_bytes: int = Field(default=8 * 2**20, gt=0, description="size of one ranged GET")
    spread: Spread
    failure_share: float = Field(default=0.0, ge=0, lt=1, description="of attempts that fail and are tried again")
    aggregate_s: float = Field(ge=0)
    aggregate_s_per_rank: float = Field(ge=0)
    aggregate_at_most_ranks: int | None = Field(default=None, description="1,000 where one listing page is read")
    residual_sigma: float = Field(default=0.0, ge=0, description="spread of ln(measured ÷ predicted) in the fit")
    fit: str = Field(default="", description="on how many runs, with what error")

    def save(self, uri: str) -> None:
        """Writes the JSON file."""
        store.put(uri, self.model_dump_json(by_alias=True, indent=2).encode())


@dataclass(frozen=True)
class MeasuredRate:
    """Samples a second of a model with `threads` threads."""

    model: str
    samples_per_s: float
    threads: int

    def in_calibration(self, known: Calibration) -> Calibration:
        """The calibration with this model's compute time."""
        source = (
            f"{known.source}; compute as measured here: {self.model} at {self.samples_per_s:,.0f} samples/s with "
            f"{self.threads} threads"
        )
        changes = {"compute_s_per_sample": 1 / self.samples_per_s, "measured_vcpus": float(self.threads)}
        return known.model_copy(update={**changes, "source": source})


def load_calibration(name: str = "skyfan") -> Calibration:
    """A packaged calibration by name, or the file at that URI.

    Raises:
        BadInput: the file is not a calibration.
    """
    data = store.read(str(Path(__file__).parent / f"{name}.json") if name in PACKAGED else name)
    try:
        return Calibration.model_validate(json.loads(data))
    except ValidationError as error:
        raise BadInput(f"calibration {name}, {first_problem(error)}") from error
    except ValueError as error:
        raise BadInput(f"calibration {name} is not JSON: {error}.") from error
