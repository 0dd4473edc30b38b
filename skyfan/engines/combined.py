"""Engines made of engines: several models on each batch that is read, and one model on an image's eight symmetries."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skyfan.engines.base import Engine, EngineInfo
from skyfan.errors import ModelError
from skyfan.layout import OutputSpec

Z_PRED, STD, DISAGREEMENT = "z_pred", "_std", "_disagreement"
SYMMETRIES = 8
_SCALAR: tuple[int, ...] = ()

Array = NDArray[np.generic]
Floats = NDArray[np.float32]


def redshift_column(engine: Engine, z_column: int | None, width: int) -> int | None:
    """Which of the `width` output columns is redshift: by the model itself, the user, or an output called z_pred.

    Raises:
        ModelError: the user's column is none of them.
    """
    if engine.z_column is not None:
        return engine.z_column
    if z_column is None:
        start = 0
        for spec in engine.outputs(width):
            if (spec.name, spec.width) == (Z_PRED, 1):
                return start
            start += spec.width
        return None
    if z_column >= width:
        raise ModelError(f"the model gives {width} columns, so that --z-column {z_column} is not one of them.")
    return z_column


def _named_outputs(engine: Engine, z_column: int | None, width: int) -> Iterator[OutputSpec]:
    """The engine's outputs; one that is the redshift alone is called z_pred, whatever the model calls it."""
    redshift, start = redshift_column(engine, z_column, width), 0
    for spec in engine.outputs(width):
        yield replace(spec, name=Z_PRED) if (start, spec.width) == (redshift, 1) else spec
        start += spec.width


class SeveralModels(Engine):
    """Every model predicts each batch, which is read once.

    Outputs are `<name>_<output>` for each model. Where all of them give a redshift, z_pred is the mean of these,
    before all others, with `z_pred_std` (that of a population) and `z_pred_disagreement` (the largest difference
    between two models).
    """

    def __init__(self, models: Sequence[tuple[str, Engine]], z_column: int | None) -> None:
        self._names = [name for name, _ in models]
        self._engines = [engine for _, engine in models]
        self._asked_z_column = z_column
        self._taken: list[list[int]] = []
        self._widths: list[int] = []
        self.z_column: int | None = None
        self.info = _joint_info(models)

    def bind(self, tensor_names: Sequence[str]) -> tuple[str, ...]:
        """What any of the models takes."""
        each = [engine.bind(tensor_names) for engine in self._engines]
        names = tuple(dict.fromkeys(name for bound in each for name in bound))
        self._taken = [[names.index(name) for name in bound] for bound in each]
        return names

    def allocate(self, size_bytes: int) -> NDArray[np.uint8]:
        """As the first model's engine does."""
        return self._engines[0].allocate(size_bytes)

    def predict(self, inputs: Sequence[Array]) -> Floats:
        """Outputs of all models side by side [B, width], after what is computed over their redshifts."""
        pairs = list(zip(self._engines, self._taken, strict=True))
        found = [engine.predict([inputs[at] for at in taken]) for engine, taken in pairs]
        self._widths = [outputs.shape[1] for outputs in found]
        columns = [
            redshift_column(engine, self._asked_z_column, width)
            for engine, width in zip(self._engines, self._widths, strict=True)
        ]
        redshifts = [outputs[:, at] for outputs, at in zip(found, columns, strict=True) if at is not None]
        if len(redshifts) < len(found):
            return np.concatenate(found, axis=1)
        self.z_column = 0
        z = np.stack(redshifts).astype(np.float64)
        over_models = np.stack([z.mean(axis=0), z.std(axis=0), np.ptp(z, axis=0)], axis=1)
        return np.concatenate([over_models.astype(np.float32), *found], axis=1)

    def outputs(self, _width: int) -> tuple[OutputSpec, ...]:
        """The redshifts' mean, standard deviation and disagreement, then the outputs of each model."""
        over_models = (Z_PRED, Z_PRED + STD, Z_PRED + DISAGREEMENT) if self.z_column is not None else ()
        specs = [OutputSpec(name, _SCALAR) for name in over_models]
        for name, engine, own_width in zip(self._names, self._engines, self._widths, strict=True):
            named = _named_outputs(engine, self._asked_z_column, own_width)
            specs += [replace(spec, name=f"{name}_{spec.name}") for spec in named]
        return tuple(specs)


class OverSymmetries(Engine):
    """One model on the eight symmetries of the images (turned by quarters, and mirrored): mean and deviation.

    Outputs are the means under their own names, and behind them `<output>_std`, the standard deviation of the eight.
    """

    def __init__(self, engine: Engine, z_column: int | None) -> None:
        self._engine, self._asked_z_column = engine, z_column
        self.z_column = engine.z_column
        self.info = replace(engine.info, reason=f"{engine.info.reason}; mean over {SYMMETRIES} symmetries")

    def bind(self, tensor_names: Sequence[str]) -> tuple[str, ...]:
        """As the model."""
        return self._engine.bind(tensor_names)

    def allocate(self, size_bytes: int) -> NDArray[np.uint8]:
        """As the model's engine."""
        return self._engine.allocate(size_bytes)

    def predict(self, inputs: Sequence[Array]) -> Floats:
        """Means and standard deviations [B, 2 · width]; ModelError where no input is an image."""
        return next(self.stream([inputs]))

    def stream(self, batches: Iterable[Sequence[Array]]) -> Generator[Floats]:
        """`predict` of every batch, in order."""
        turned = (views for inputs in batches for views in symmetries(inputs))
        found: list[Floats] = []
        with closing(self._engine.stream(turned)) as computed:
            for outputs in computed:
                found.append(outputs)
                if len(found) == SYMMETRIES:
                    stacked = np.stack(found).astype(np.float64)
                    yield np.concatenate([stacked.mean(axis=0), stacked.std(axis=0)], axis=1).astype(np.float32)
                    found = []

    def outputs(self, width: int) -> tuple[OutputSpec, ...]:
        """Each output's mean, then each output's standard deviation."""
        means = tuple(_named_outputs(self._engine, self._asked_z_column, width // 2))
        return (*means, *(replace(spec, name=spec.name + STD) for spec in means))


def symmetries(inputs: Sequence[Array]) -> Iterator[list[Array]]:
    """The batch eight times, its images [B, C, N, N] turned by 0, 90, 180 and 270 degrees, and so mirrored.

    Raises:
        ModelError: no input is an image, or one is not square.
    """
    images = [values.ndim == 4 for values in inputs]
    shapes = [list(values.shape[1:]) for values in inputs]
    if not any(images):
        raise ModelError(f"--augment symmetries turns images, and the model takes none (rows of {shapes})")
    if any(values.shape[2] != values.shape[3] for values, image in zip(inputs, images, strict=True) if image):
        raise ModelError(f"--augment symmetries turns square images, and these are not (rows of {shapes})")
    for mirrored in (False, True):
        for quarters in range(4):
            yield [
                _turned(values, quarters, mirrored=mirrored) if image else values
                for values, image in zip(inputs, images, strict=True)
            ]


def _turned(values: Array, quarters: int, *, mirrored: bool) -> Array:
    flipped = values[..., ::-1] if mirrored else values
    return np.ascontiguousarray(np.rot90(flipped, quarters, axes=(2, 3)))


def _joint_info(models: Sequence[tuple[str, Engine]]) -> EngineInfo:
    """One description of what ran: where the models differ, all of it."""
    infos = [engine.info for _, engine in models]

    def joined(name: str) -> Any:
        return " + ".join(dict.fromkeys(str(getattr(info, name)) for info in infos))

    deviations = [info.deviation for info in infos if info.deviation]
    return replace(
        infos[0],
        name=joined("name"),
        version=joined("version"),
        reason="; ".join(f"{name}: {engine.info.reason}" for name, engine in models),
        precision=joined("precision"),
        torch_version=next((info.torch_version for info in infos if info.torch_version), None),
        deviation={key: max(one[key] for one in deviations) for key in deviations[0]} if deviations else None,
    )
