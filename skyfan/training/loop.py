"""Supervised training of an AstroMAE: AdamW, cosine schedule, averaged weights, early stopping.

The loss is the Huber loss of Δz = (z_pred − z) / (1 + z), the quantity of which NMAD is a median. Everything random
(split, order, orientation) depends only on the seed and the number of the epoch. So an interrupted and resumed training
gives the same model as an uninterrupted one, on one machine with the same number of threads.
"""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skyfan.errors import BadInput, DatasetError
from skyfan.events import Progress
from skyfan.models.astromae import AstroMAE
from skyfan.models.config import AstroMAEConfig
from skyfan.science.metrics import science_metrics
from skyfan.training.samples import Samples, split_by_galaxy
from skyfan.training.standardise import Standardisation, fit_standardisation, fold
from skyfan.training.training_state import TrainingState, load_state, save_state

_WARM_UP_FRACTION = 0.05
_EVALUATION_BATCH = 512


@dataclass(frozen=True)
class TrainingSettings:
    """The settings on which a trained model depends, besides its data and its architecture."""

    epochs: int = 40
    batch_size: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 0.3
    averaging: float = 0.999
    huber_delta: float = 0.01
    validation_fraction: float = 0.1
    patience: int = 10
    augment: bool = True
    seed: int = 7

    def __post_init__(self) -> None:
        """Raises `BadInput` for the first setting with which training is impossible."""
        positive = ("epochs", "batch_size", "learning_rate", "huber_delta", "patience")
        for name in positive:
            if getattr(self, name) <= 0:
                raise BadInput(f"{name.replace('_', ' ')} must be above 0, not {getattr(self, name)}.")
        for name in ("averaging", "validation_fraction"):
            if not 0 < getattr(self, name) < 1:
                raise BadInput(f"{name.replace('_', ' ')} must be between 0 and 1, not {getattr(self, name)}.")
        if self.weight_decay < 0 or self.seed < 0:
            raise BadInput("weight decay and seed must not be negative.")


@dataclass(frozen=True)
class EpochResult:
    """One epoch: mean training loss, and the metrics of the averaged weights on the validation samples."""

    epoch: int
    training_loss: float
    validation_loss: float
    validation_nmad: float
    validation_r2: float
    best: bool


@dataclass(frozen=True)
class Trained:
    """The best model, which takes raw inputs, and a summary of its training."""

    model: AstroMAE
    best: EpochResult
    epochs: int
    training_samples: int
    validation_samples: int
    stopped_early: bool


Report = Callable[[EpochResult], None]


def train(
    samples: Samples,
    config: AstroMAEConfig,
    settings: TrainingSettings,
    state_path: Path | None = None,
    report: Report | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Trains a model of the sizes in `config` on `samples`.

    With `state_path`, a checkpoint is written there after every epoch, and training continues from an existing one; the
    caller deletes it. `report` is called after every epoch; `progress` counts steps.

    Raises:
        DatasetError: the samples do not fit the configuration, or do not vary.
        BadInput: the checkpoint belongs to other data or settings, or the training diverged.
    """
    check_fit(samples, config)
    rows, held_out = split_by_galaxy(
        samples.redshift, settings.validation_fraction, np.random.default_rng(settings.seed)
    )
    loop = _Loop(samples.take(rows), samples.take(held_out), config, settings)
    if state_path is not None and state_path.exists():
        loop.state = load_state(state_path, loop.state, loop.identity())
    while loop.state.epoch < settings.epochs and loop.state.epochs_without_gain < settings.patience:
        result = loop.run_epoch(progress)
        if report:
            report(result)
        if state_path is not None:
            save_state(state_path, loop.state, loop.identity())
    return loop.finish()


def check_fit(samples: Samples, config: AstroMAEConfig) -> None:
    """Checks the samples' shapes against the configuration.

    Raises:
        DatasetError: they differ.
    """
    wanted = (config.channels, config.image_size, config.image_size)
    if samples.image.shape[1:] != wanted or samples.magnitude.shape[1:] != (config.magnitudes,):
        raise DatasetError(
            f"the model takes images {list(wanted)} and {config.magnitudes} magnitudes, the dataset has "
            f"{list(samples.image.shape[1:])} and {samples.magnitude.shape[1]}."
        )


class _Loop:
    """The training loop; everything that changes from step to step is in `state`."""

    def __init__(
        self, training: Samples, validation: Samples, config: AstroMAEConfig, settings: TrainingSettings
    ) -> None:
        self.settings = settings
        self.standardisation = fit_standardisation(training)
        self.training = _Tensors.of(training, self.standardisation)
        self.validation = _Tensors.of(validation, self.standardisation)
        self.steps_per_epoch = max(1, len(training) // settings.batch_size)
        torch.manual_seed(settings.seed)
        model = AstroMAE(config)
        last = model.concat_block[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        averaged = copy.deepcopy(model).requires_grad_(False)
        optimiser = torch.optim.AdamW(_parameter_groups(model, settings.weight_decay), lr=settings.learning_rate)
        self.state = TrainingState(model, averaged, copy.deepcopy(averaged), optimiser)

    def identity(self) -> str:
        """Everything that two trainings must share, if one is to continue from the other's checkpoint."""
        first = self.training.magnitude[:2].sum().item(), self.training.redshift.double().sum().item()
        return repr((self.settings, self.state.model.config, len(self.training), first))

    def run_epoch(self, progress: Progress | None) -> EpochResult:
        """One pass over the training samples, and the averaged weights' metrics after it."""
        state = self.state
        rng = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + state.epoch)
        losses = []
        state.model.train()
        for batch in self._batches(rng):
            losses.append(self._step(batch))
            if progress:
                progress(state.step, self.steps_per_epoch * self.settings.epochs)
        state.epoch += 1
        result = self._evaluate(float(np.mean(losses)))
        state.history.append(result.validation_loss)
        if result.best:
            state.best.load_state_dict(state.averaged.state_dict())
            state.best_result = (result.epoch, *_numbers(result))
            state.epochs_without_gain = 0
        else:
            state.epochs_without_gain += 1
        return result

    def finish(self) -> Trained:
        """The best model with its standardisation folded in."""
        state = self.state
        if not state.best_result:
            raise BadInput("the training diverged (no finite validation loss); try a lower --learning-rate.")
        epoch, training_loss, validation_loss, nmad, r2 = state.best_result
        return Trained(
            model=fold(state.best, self.standardisation).eval(),
            best=EpochResult(int(epoch), training_loss, validation_loss, nmad, r2, best=True),
            epochs=state.epoch,
            training_samples=len(self.training),
            validation_samples=len(self.validation),
            stopped_early=state.epoch < self.settings.epochs,
        )

    def _batches(self, rng: torch.Generator) -> Iterator["_Tensors"]:
        order = torch.randperm(len(self.training), generator=rng)
        size = self.settings.batch_size
        for step in range(self.steps_per_epoch):
            batch = self.training.take(order[step * size : (step + 1) * size])
            yield batch.turned(rng) if self.settings.augment else batch

    def _step(self, batch: "_Tensors") -> float:
        state = self.state
        for group in state.optimiser.param_groups:
            group["lr"] = self.settings.learning_rate * self._schedule(state.step)
        state.optimiser.zero_grad()
        loss = self._loss(state.model(batch.image, batch.magnitude), batch.redshift)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(state.model.parameters(), max_norm=1.0)
        state.optimiser.step()
        state.step += 1
        self._average()
        return loss.item()

    def _schedule(self, step: int) -> float:
        """The learning rate's factor: a linear warm-up, then half a cosine down to zero."""
        total = self.steps_per_epoch * self.settings.epochs
        warm_up = max(1, round(_WARM_UP_FRACTION * total))
        if step < warm_up:
            return (step + 1) / warm_up
        return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, total - warm_up)))

    def _average(self) -> None:
        """Moves the averaged weights and batch-norm statistics towards the current ones."""
        state = self.state
        weight = 1 - min(self.settings.averaging, (1 + state.step) / (10 + state.step))
        averaged, current = state.averaged.state_dict(), state.model.state_dict()
        with torch.no_grad():
            for name, tensor in averaged.items():
                if tensor.is_floating_point():
                    tensor.lerp_(current[name], weight)
                else:
                    tensor.copy_(current[name])

    def _loss(self, output: Tensor, redshift: Tensor) -> Tensor:
        error = (self.standardisation.redshift(output[:, 0]) - redshift) / (1 + redshift)
        delta = self.settings.huber_delta
        return F.huber_loss(error, torch.zeros_like(error), delta=delta) / delta

    def _evaluate(self, training_loss: float) -> EpochResult:
        model = self.state.averaged.eval()
        with torch.inference_mode():
            parts = [model(part.image, part.magnitude) for part in self.validation.split(_EVALUATION_BATCH)]
            output = torch.cat(parts)
            loss = self._loss(output, self.validation.redshift).item()
        predicted = self.standardisation.redshift(output[:, 0]).numpy()
        metrics = science_metrics(predicted, self.validation.redshift.numpy())
        assert metrics is not None
        best = loss < min(self.state.history, default=math.inf)
        return EpochResult(self.state.epoch, training_loss, loss, metrics.nmad, metrics.r2, best)


def _numbers(result: EpochResult) -> tuple[float, float, float, float]:
    return result.training_loss, result.validation_loss, result.validation_nmad, result.validation_r2


@dataclass(frozen=True)
class _Tensors:
    """Standardised samples."""

    image: Tensor
    magnitude: Tensor
    redshift: Tensor

    @staticmethod
    def of(samples: Samples, standardisation: Standardisation) -> "_Tensors":
        image = standardisation.image(torch.from_numpy(samples.image))
        magnitude = standardisation.magnitude(torch.from_numpy(samples.magnitude).double()).float()
        return _Tensors(image, magnitude, torch.from_numpy(samples.redshift))

    def __len__(self) -> int:
        return len(self.redshift)

    def take(self, rows: Tensor) -> "_Tensors":
        return _Tensors(self.image[rows], self.magnitude[rows], self.redshift[rows])

    def split(self, size: int) -> Iterator["_Tensors"]:
        for start in range(0, len(self), size):
            stop = start + size
            yield _Tensors(self.image[start:stop], self.magnitude[start:stop], self.redshift[start:stop])

    def turned(self, rng: torch.Generator) -> "_Tensors":
        """Every image in one of its eight orientations, none of which changes the redshift."""
        way = torch.randint(8, (len(self),), generator=rng)
        image = torch.empty_like(self.image)
        for number in range(8):
            rows = (way == number).nonzero()[:, 0]
            turned = torch.rot90(self.image[rows], number % 4, dims=(2, 3))
            image[rows] = turned.flip(3) if number >= 4 else turned
        return _Tensors(image, self.magnitude, self.redshift)


def _parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Weights of linear layers and convolutions decay; biases, norms and positions do not."""
    decayed = [p for p in model.parameters() if p.dim() in (2, 4)]
    others = [p for p in model.parameters() if p.dim() not in (2, 4)]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
