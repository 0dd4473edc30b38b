"""What a training was like, epoch by epoch: as a table, as a picture, and in one sentence."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, fields

from skyfan.training.training_settings import EpochResult

# Below this many epochs after the best one, a rise may be noise; and so may a change of the loss of under a percent.
_SURE_EPOCHS, _SURE_CHANGE = 3, 0.01


def curve_csv(history: Sequence[EpochResult]) -> bytes:
    """One row an epoch, with the fields of `EpochResult` as columns."""
    text = io.StringIO()
    table = csv.DictWriter(text, [one.name for one in fields(EpochResult)], lineterminator="\n")
    table.writeheader()
    table.writerows(asdict(result) for result in history)
    return text.getvalue().encode()


def curve_png(history: Sequence[EpochResult]) -> bytes:
    """Losses, and NMAD of the validation samples, over epochs; the best epoch is marked."""
    from skyfan.report.drawing import Figure

    epochs = [result.epoch for result in history]
    figure = Figure(figsize=(7, 5), layout="constrained")
    losses, nmad = figure.subplots(2, 1, sharex=True)
    losses.plot(epochs, [result.training_loss for result in history], label="training")
    losses.plot(epochs, [result.validation_loss for result in history], label="validation, averaged weights")
    losses.set_ylabel("loss")
    nmad.plot(epochs, [result.validation_nmad for result in history], color="C1")
    nmad.set(xlabel="epoch", ylabel="NMAD of the validation samples")
    best = best_of(history)
    for axes in (losses, nmad):
        axes.axvline(best.epoch, color="grey", linestyle=":", label=f"best: epoch {best.epoch}")
    losses.legend()
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    return picture.getvalue()


def best_of(history: Sequence[EpochResult]) -> EpochResult:
    """The epoch whose weights are kept; the last one where none is best."""
    return next((result for result in reversed(history) if result.best), history[-1])


def verdict(history: Sequence[EpochResult]) -> str:
    """Whether the model began to overfit, as a sentence.

    It did if the validation loss rose after the best epoch while the training loss fell on.
    """
    best, last = best_of(history), history[-1]
    if best is last:
        return "the last epoch was the best: more --epochs may give a better model."
    unit = _SURE_CHANGE * max(abs(best.validation_loss), abs(best.training_loss))
    rose, fell = last.validation_loss - best.validation_loss, best.training_loss - last.training_loss
    if rose > unit and fell > unit:
        if last.epoch - best.epoch < _SURE_EPOCHS:
            return (
                f"epoch {best.epoch} was the best, and too few came after it to tell whether the model overfits: its "
                f"validation loss rose by {rose:.4f}; more --epochs would show it."
            )
        return (
            f"it overfits after epoch {best.epoch}: until epoch {last.epoch} the training loss fell by {fell:.4f} and "
            f"the validation loss rose by {rose:.4f}; the weights of epoch {best.epoch} are kept."
        )
    return f"no overfitting: since epoch {best.epoch}, the best, the validation loss has changed by {rose:+.4f}."
