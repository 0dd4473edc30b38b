"""What an inference engine is to the executor."""

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from skyfan.layout import OutputSpec

if TYPE_CHECKING:
    from skyfan.models.inputs import ModelInputs


@dataclass(frozen=True)
class EngineInfo:
    """What ran, for the rank record. `piece_samples`: how many samples a GPU computes at once."""

    name: str
    version: str
    reason: str
    precision: str
    device: str
    threads: int
    torch_version: str | None = None
    deviation: dict[str, float] | None = None
    piece_samples: int | None = None
    compiled: bool = False


class Engine(ABC):
    """A loaded model that predicts. Not thread-safe: one rank at a time."""

    info: EngineInfo
    z_column: int | None
    """Which output column is redshift, if the model itself names it."""
    read_buffers: int = 3
    """Blocks of samples in memory: one that it works on, and those that are read or wait for it."""

    call: "ModelInputs"
    """What its model takes, where it has one."""

    def bind(self, tensor_names: Sequence[str]) -> tuple[str, ...]:
        """Which of the dataset's tensors `predict` takes, in order; ModelError where they don't fit."""
        return self.call.bind(tensor_names)

    @abstractmethod
    def predict(self, inputs: Sequence[NDArray[np.generic]]) -> NDArray[np.float32]:
        """Outputs of shape [B, width] for tensors whose first dimension is B, in `bind`'s order."""

    def stream(self, batches: Iterable[Sequence[NDArray[np.generic]]]) -> Generator[NDArray[np.float32]]:
        """`predict` of every batch, in order. An engine may ask for further batches before it gives the first outputs.

        It is done with a batch's memory when it asks for the next one.
        """
        for inputs in batches:
            yield self.predict(inputs)

    def allocate(self, size_bytes: int) -> NDArray[np.uint8]:
        """Memory to read a block of samples into, of the kind that this engine takes its inputs from fastest."""
        return np.empty(size_bytes, np.uint8)

    def outputs(self, width: int) -> tuple[OutputSpec, ...]:
        """The named outputs that lie side by side in the `width` columns of what `predict` gave last."""
        return (OutputSpec("output_0", (width,)),)

    def output_width(self, blank: Sequence[NDArray[np.generic]]) -> int:
        """Columns of what it predicts for inputs of these shapes [1, …]; ModelError where they don't fit."""
        width: int = self.predict(blank).shape[1]
        return width
