"""What an inference engine is to the executor."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class EngineInfo:
    """What ran, for the rank record."""

    name: str
    version: str
    reason: str
    precision: str
    device: str
    threads: int
    torch_version: str | None = None
    deviation: dict[str, float] | None = None


class Engine(ABC):
    """A loaded model, ready to predict. Not thread-safe: one rank at a time."""

    info: EngineInfo
    z_column: int | None
    """Which output column is redshift, if the model itself says so."""

    @abstractmethod
    def bind(self, tensor_names: Sequence[str]) -> tuple[str, ...]:
        """Which of the dataset's tensors `predict` takes, in order; ModelError where they don't fit."""

    @abstractmethod
    def predict(self, inputs: Sequence[NDArray[np.generic]]) -> NDArray[np.float32]:
        """Outputs of shape [B, width] for tensors whose first dimension is B, in `bind`'s order."""

    def output_width(self, blank: Sequence[NDArray[np.generic]]) -> int:
        """Columns of what it predicts for inputs of these shapes [1, …]; ModelError where they don't fit."""
        width: int = self.predict(blank).shape[1]
        return width
