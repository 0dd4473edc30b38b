"""What a model takes: the tensors of its call, and whether a dataset's fit."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from skyfan.errors import ModelError
from skyfan.models.config import AstroMAEConfig


class Shaped(Protocol):
    """A numpy array or a torch tensor."""

    @property
    def shape(self) -> Sequence[int]:
        """Its sizes."""


@dataclass(frozen=True)
class ModelInput:
    """One tensor that a model takes; `None` in the shape is any size."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str

    @property
    def numpy_dtype(self) -> str:
        """The dtype in which numpy passes it to an engine: numpy itself has no bfloat16."""
        return "float32" if self.dtype == "bfloat16" else self.dtype


def examples(inputs: Sequence[ModelInput], shapes: Sequence[tuple[int, ...]]) -> tuple[ModelInput, ...]:
    """The inputs in sizes that fit the model, for samples to try it on."""
    return tuple(ModelInput(taken.name, shape, taken.dtype) for taken, shape in zip(inputs, shapes, strict=True))


@dataclass(frozen=True)
class ModelInputs:
    """The tensors of a model's call, in its order. `by_name`: a dataset must have them under these names."""

    tensors: tuple[ModelInput, ...]
    by_name: bool

    @classmethod
    def of_astromae(cls, config: AstroMAEConfig) -> "ModelInputs":
        """Image [B, C, H, W] and magnitude [B, M]."""
        image = (None, config.channels, config.image_size, config.image_size)
        magnitude = (None, config.magnitudes)
        return cls((ModelInput("image", image, "float32"), ModelInput("magnitude", magnitude, "float32")), by_name=True)

    def bind(self, tensor_names: Sequence[str]) -> tuple[str, ...]:
        """The dataset tensors to call the model with: by name where all match, else the first ones in order.

        Raises:
            ModelError: the dataset has no such tensors, or too few.
        """
        names = tuple(wanted.name for wanted in self.tensors)
        if set(names) <= set(tensor_names):
            return names
        if self.by_name:
            missing = [name for name in names if name not in tensor_names]
            raise ModelError(
                f"the dataset has no tensor {missing[0]!r}, only {', '.join(tensor_names)}; if it has another name "
                f"there, give it with --inputs {missing[0]}=COLUMN."
            )
        if len(names) > len(tensor_names):
            raise ModelError(f"the model takes {len(names)} tensors, the dataset has {len(tensor_names)}.")
        return tuple(tensor_names[: len(names)])

    def check_shapes(self, tensors: Sequence[Shaped]) -> None:
        """Raises `ModelError` unless each tensor's shape beyond the batch is what the model takes."""
        if len(tensors) != len(self.tensors):
            raise ModelError(f"the model takes {len(self.tensors)} tensors, not {len(tensors)}.")
        for wanted, tensor in zip(self.tensors, tensors, strict=True):
            sizes = zip(wanted.shape[1:], tensor.shape[1:], strict=False)
            if len(tensor.shape) != len(wanted.shape) or any(w is not None and w != n for w, n in sizes):
                raise ModelError(
                    f"the model takes {wanted.name!r} of shape {_of_samples(wanted.shape)}, "
                    f"the dataset's has {_of_samples(tensor.shape)}{_way_on(wanted, tuple(tensor.shape[1:]))}."
                )

    def arrays(self, tensors: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """A dataset's tensors [B, …] in the dtypes that the model takes, their values one after another.

        Raises:
            ModelError: they are of other shapes, or complex.
        """
        self.check_shapes(tensors)
        if any(np.iscomplexobj(values) for values in tensors):
            raise ModelError("the model takes real numbers and a tensor of the dataset holds complex ones.")
        pairs = zip(tensors, self.tensors, strict=True)
        return [np.ascontiguousarray(values, dtype=taken.numpy_dtype) for values, taken in pairs]


def _of_samples(shape: Sequence[int | None]) -> str:
    return f"[{', '.join(['samples', *('any' if size is None else str(size) for size in shape[1:])])}]"


def _way_on(wanted: ModelInput, stored: tuple[int, ...]) -> str:
    """The option that makes samples of the shape `stored` what the model takes, where one does."""
    sizes = tuple(size for size in wanted.shape[1:] if size is not None)
    if len(sizes) != len(wanted.shape) - 1:
        return ""
    name, shape = wanted.name, ",".join(map(str, sizes))
    if len(stored) == 1 and math.prod(stored) == math.prod(sizes) and len(sizes) > 1:
        return f"; --shape {name}={shape} reads it so"
    if len(sizes) != 3 or len(stored) != 3:
        return ""
    if (stored[2], *stored[:2]) == sizes:
        return f"; --axes {name}=NHWC reads it so"
    if stored[0] == sizes[0] and stored[1] >= sizes[1] and stored[2] >= sizes[2]:
        return f"; --crop {name}={sizes[1]},{sizes[2]} takes its middle"
    if stored[0] > sizes[0] and stored[1:] == sizes[1:]:
        return f"; --bands {name}={','.join(map(str, range(sizes[0])))} takes the first {sizes[0]} bands"
    return ""
