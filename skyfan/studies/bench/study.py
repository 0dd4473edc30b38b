"""The definition of a study: a grid over a run's options, fixed options, and the number of repetitions.

A study file is TOML:

    name = "batch-size"
    title = "Time and throughput against batch size"
    repetitions = 3

    [grid]
    batch_size = [32, 64, 128, 256, 512]

    [fixed]
    partition_size = "25MB"

    [quick]                  # replaces the above with `--quick`
    repetitions = 1
    grid.batch_size = [64, 512]
"""

import hashlib
import itertools
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, field_validator

from skyfan import store
from skyfan.errors import BadInput
from skyfan.job import DEFAULT_PARTITION_BYTES, WHOLE_FILES, RunOptions
from skyfan.units import parse_size
from skyfan.validation import Frozen, first_problem

PACKAGED = (
    "experiments-25",
    "batch-size",
    "partition-size",
    "world-size",
    "data-size",
    "data-access",
    "local-vs-distributed",
)


class Setting(Frozen):
    """One cell of the grid: the options of a run.

    `repeat` enlarges the data by taking the dataset that many times. `layout` is the dataset as it is (`one`) or as one
    file per partition (`many`). `place` is where the data are read from.
    """

    partition_size: str = f"{DEFAULT_PARTITION_BYTES // 2**20}MB"
    file_limit: int | None = Field(default=None, ge=1)
    batch_size: int = Field(default=RunOptions().batch_size, ge=1)
    world_size: int | None = Field(default=None, ge=1)
    workers: int | None = Field(default=2, ge=1)
    repeat: int = Field(default=1, ge=1)
    on: str = "local"
    layout: Literal["one", "many"] = "one"
    place: Literal["local", "s3"] = "local"

    @field_validator("partition_size")
    @classmethod
    def _is_a_size(cls, text: str) -> str:
        if text != WHOLE_FILES:
            parse_size(text, "partition_size")
        return text

    @property
    def key(self) -> str:
        """A short name for the cell's files; equal settings have equal keys."""
        canonical = json.dumps(self.model_dump(), sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    def differs_from(self, other: Self) -> dict[str, Any]:
        """The fields in which this setting differs from `other`, with their values here."""
        mine, theirs = self.model_dump(), other.model_dump()
        return {name: value for name, value in mine.items() if value != theirs[name]}


class Study(Frozen):
    """A grid of settings; each is measured `repetitions` times, after `warmup` runs that do not count."""

    name: str = Field(pattern=r"^[a-z0-9-]+$")
    title: str
    repetitions: int = Field(default=3, ge=1)
    warmup: int = Field(default=1, ge=0)
    grid: dict[str, tuple[Any, ...]] = Field(min_length=1)
    fixed: dict[str, Any] = Field(default_factory=dict)

    @field_validator("grid")
    @classmethod
    def _has_values(cls, grid: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
        for axis, values in grid.items():
            if not values:
                raise ValueError(f"axis {axis} has no values")
        return grid

    def settings(self) -> list[Setting]:
        """All cells of the grid; the last axis changes fastest."""
        axes = list(self.grid)
        return [
            Setting.model_validate({**self.fixed, **dict(zip(axes, values, strict=True))})
            for values in itertools.product(*self.grid.values())
        ]

    def enlarged(self, times: int) -> Self:
        """The same study on `times` times the data."""
        if "repeat" in self.grid:
            repeats = tuple(repeat * times for repeat in self.grid["repeat"])
            return self.model_copy(update={"grid": {**self.grid, "repeat": repeats}})
        return self.model_copy(update={"fixed": {**self.fixed, "repeat": self.fixed.get("repeat", 1) * times}})


def load_study(name: str, *, quick: bool = False) -> Study:
    """A packaged study by name, or the TOML file at that URI; with `quick` its smaller form.

    Raises:
        BadInput: no such study, or the file is not a study.
    """
    if name in PACKAGED:
        text = (Path(__file__).parent / "studies" / f"{name}.toml").read_text()
    elif name.endswith(".toml"):
        text = store.read(name).decode()
    else:
        raise BadInput(f"there is no study {name!r}; take one of {', '.join(PACKAGED)}, or a .toml file.")
    try:
        content = tomllib.loads(text)
        smaller = content.pop("quick", {})
        study = Study.model_validate(_merged(content, smaller) if quick else content)
        study.settings()
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"study {name} is not TOML: {error}.") from error
    except ValidationError as error:
        raise BadInput(f"study {name}, {first_problem(error)}") from error
    return study


def _merged(content: Mapping[str, Any], smaller: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(content)
    for key, value in smaller.items():
        old = result.get(key)
        result[key] = {**old, **value} if isinstance(value, dict) and isinstance(old, dict) else value
    return result
