"""Supervised training of an AstroMAE: AdamW, cosine schedule, averaged weights, early stopping.

Everything random (split, order, orientation) depends only on the seed and the number of the epoch. So an interrupted
and resumed training gives the same model as an uninterrupted one, on one machine with the same number of threads.
"""

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from skyfan.errors import BadInput, DatasetError, Interrupted
from skyfan.events import Progress, unwatched
from skyfan.models.astromae import AstroMAE
from skyfan.models.config import AstroMAEConfig
from skyfan.science.metrics import science_metrics
from skyfan.training.losses import training_loss
from skyfan.training.mixture_head import with_head
from skyfan.training.samples import Samples, split_by_galaxy
from skyfan.training.standardise import fit_standardisation, fold, unfold
from skyfan.training.training_batches import ORIENTATIONS, Features, Pixels, batches_of
from skyfan.training.training_settings import EpochResult, Trained, TrainingSettings
from skyfan.training.training_state import TrainingState, load_state, save_state

_WARM_UP_FRACTION = 0.05
_EVALUATION_BATCH = 512

Report = Callable[[EpochResult, "Trained"], None]


def train(
    samples: Samples,
    initial: AstroMAEConfig | AstroMAE,
    settings: TrainingSettings,
    *,
    state_path: Path | None = None,
    report: Report | None = None,
    progress: Progress = unwatched,
    stopping: Callable[[], bool] = lambda: False,
    device: str = "cpu",
) -> Trained:
    """Trains a new model of these sizes, or `initial` further, on `samples`.

    With `state_path`, a checkpoint is written there after every epoch, and training continues from an existing one; the
    caller deletes it. `report` is called after every epoch, with the best model so far; `progress` counts steps.
    `stopping` is asked after every step: where it returns true, the checkpoint is written within the epoch.

    Raises:
        DatasetError: the samples do not fit the configuration, or do not vary.
        BadInput: the checkpoint belongs to other data or settings, or the training diverged.
        Interrupted: `stopping` returned true.
    """
    config = initial if isinstance(initial, AstroMAEConfig) else initial.config
    check_fit(samples, config)
    rows, held_out = split_by_galaxy(
        samples.redshift, settings.validation_fraction, np.random.default_rng(settings.seed)
    )
    loop = _Loop(samples.take(rows), samples.take(held_out), initial, settings, device)
    if state_path is not None and state_path.exists():
        loop.state = load_state(state_path, loop.state, loop.identity())
    while loop.state.epoch < settings.epochs and loop.state.epochs_without_gain < settings.patience:
        try:
            result = loop.run_epoch(progress, stopping)
        except Interrupted:
            if state_path is not None:
                save_state(state_path, loop.state, loop.identity())
            raise
        if state_path is not None:
            save_state(state_path, loop.state, loop.identity())
        if report:
            report(result, loop.finish())
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
        self,
        training: Samples,
        validation: Samples,
        initial: AstroMAEConfig | AstroMAE,
        settings: TrainingSettings,
        device: str,
    ) -> None:
        self.settings, self.device = settings, device
        fitted = fit_standardisation(training)
        self.standardisation = fitted.of_redshift_alone() if settings.head_only else fitted
        pixels, held_out = (Pixels.of(part, self.standardisation, device) for part in (training, validation))
        self.data_sha256 = training.sha256(), validation.sha256()
        self.steps_per_epoch = max(1, len(training) // settings.batch_size)
        torch.manual_seed(settings.seed)
        if isinstance(initial, AstroMAE):
            model = with_head(unfold(initial, self.standardisation), settings.mixture)
        else:
            model = with_head(_fresh(initial), settings.mixture)
        model = model.to(device)
        self.training: Pixels | Features = pixels
        self.validation: Pixels | Features = held_out
        if settings.head_only:
            self.training = pixels.features(model, augment=settings.augment)
            self.validation = held_out.features(model, augment=False)
        averaged = copy.deepcopy(model).requires_grad_(False)
        # Without decay a row that has no gradient, that of the redshift, stays as it is.
        decay = 0.0 if settings.head_only else settings.weight_decay
        groups = _parameter_groups(self._trained(model), decay)
        optimiser = torch.optim.AdamW(groups, lr=settings.learning_rate)
        self.state = TrainingState(model, averaged, copy.deepcopy(averaged), optimiser)

    def identity(self) -> str:
        """Everything that two trainings must share, if one is to continue from the other's checkpoint."""
        return repr((self.settings, self.state.model.config, self.data_sha256))

    def run_epoch(self, progress: Progress, stopping: Callable[[], bool]) -> EpochResult:
        """One pass over the training samples, or the rest of an interrupted one; then the averaged weights' metrics.

        Raises:
            Interrupted: `stopping` returned true; the state is that after the last step.
        """
        state, start_s = self.state, time.perf_counter()
        before_s = state.epoch_s
        self._trained(state.model).train()
        for rows, way in self._orders(done=len(state.losses)):
            if stopping():
                raise Interrupted(f"stopped in epoch {state.epoch + 1} of {self.settings.epochs}.")
            state.losses.append(self._step(rows, way))
            state.epoch_s = before_s + time.perf_counter() - start_s
            progress(state.step, self.steps_per_epoch * self.settings.epochs)
        state.epoch += 1
        result = self._evaluate(float(np.mean(state.losses)))
        result = replace(result, seconds=before_s + time.perf_counter() - start_s)
        state.history.append(result)
        state.losses, state.epoch_s = [], 0.0
        if result.best:
            state.best.load_state_dict(state.averaged.state_dict())
            state.epochs_without_gain = 0
        else:
            state.epochs_without_gain += 1
        return result

    def finish(self) -> Trained:
        """The best model with its standardisation folded in."""
        state = self.state
        best = next((result for result in reversed(state.history) if result.best), None)
        if best is None:
            raise BadInput("the training diverged (no finite validation loss); try a lower --learning-rate.")
        return Trained(
            model=fold(copy.deepcopy(state.best).cpu(), self.standardisation).eval(),
            best=best,
            history=tuple(state.history),
            training_samples=len(self.training),
            validation_samples=len(self.validation),
        )

    def _trained(self, model: AstroMAE) -> nn.Module:
        """The layers that this training changes."""
        last = model.concat_block[-1]
        assert isinstance(last, nn.Linear)
        return last if self.settings.head_only else model

    def _orders(self, done: int) -> Iterator[tuple[Tensor, Tensor | None]]:
        """The rows of each step of this epoch and their orientations, without the first `done` steps."""
        rng = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + self.state.epoch)
        order = torch.randperm(len(self.training), generator=rng)
        size = self.settings.batch_size
        for step in range(self.steps_per_epoch):
            rows = order[step * size : (step + 1) * size]
            way = torch.randint(ORIENTATIONS, (len(rows),), generator=rng) if self.settings.augment else None
            if step >= done:
                yield rows.to(self.device), None if way is None else way.to(self.device)

    def _step(self, rows: Tensor, way: Tensor | None) -> float:
        state = self.state
        for group in state.optimiser.param_groups:
            group["lr"] = self.settings.learning_rate * self._schedule(state.step)
        state.optimiser.zero_grad()
        with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.settings.mixed_precision):
            raw = self.training.raw(state.model, rows, way)
        loss = training_loss(raw, self.training.redshift[rows], self.standardisation, self.settings)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._trained(state.model).parameters(), max_norm=1.0)
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
        averaged, current = (self._trained(model).state_dict() for model in (state.averaged, state.model))
        with torch.no_grad():
            for name, tensor in averaged.items():
                if tensor.is_floating_point():
                    tensor.lerp_(current[name], weight)
                else:
                    tensor.copy_(current[name])

    def _evaluate(self, mean_training_loss: float) -> EpochResult:
        model, redshift = self.state.averaged.eval(), self.validation.redshift
        with torch.inference_mode():
            batches = batches_of(len(self.validation), _EVALUATION_BATCH)
            raw = torch.cat([self.validation.raw(model, rows.to(self.device), None) for rows in batches])
            loss = training_loss(raw, redshift, self.standardisation, self.settings).item()
        predicted = self.standardisation.redshift(raw[:, 0].float()).cpu().numpy()
        metrics = science_metrics(predicted, redshift.cpu().numpy())
        if metrics is None:
            raise BadInput("the training diverged (no finite prediction); try a lower --learning-rate.")
        best = loss < min((result.validation_loss for result in self.state.history), default=math.inf)
        return EpochResult(self.state.epoch, mean_training_loss, loss, metrics.nmad, metrics.r2, best, 0.0)


def _fresh(config: AstroMAEConfig) -> AstroMAE:
    model = AstroMAE(config)
    last = model.concat_block[-1]
    assert isinstance(last, nn.Linear)
    nn.init.zeros_(last.weight)
    return model


def _parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Weights of linear layers and convolutions decay; biases, norms and positions do not."""
    decayed = [p for p in model.parameters() if p.dim() in (2, 4)]
    others = [p for p in model.parameters() if p.dim() not in (2, 4)]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
