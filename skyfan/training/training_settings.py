"""What a training is asked for, and what it tells."""

from dataclasses import dataclass
from typing import Literal

from skyfan.errors import BadInput
from skyfan.models.astromae import AstroMAE

Loss = Literal["point", "mixture"]


@dataclass(frozen=True)
class TrainingSettings:
    """The settings on which a trained model depends, besides its data and its architecture.

    `loss`: `point` trains the redshift, `mixture` also p(z) as `components` normal distributions. With `head_only`
    all layers but the last keep their weights, and where p(z) is trained the redshift stays as it is;
    `initial_sha256` is the model that the training starts from.
    """

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
    loss: Loss = "point"
    components: int = 3
    head_only: bool = False
    initial_sha256: str = ""
    mixed_precision: bool = False

    def __post_init__(self) -> None:
        """Raises `BadInput` for the first setting with which training is impossible."""
        positive = ("epochs", "batch_size", "learning_rate", "huber_delta", "patience", "components")
        for name in positive:
            if getattr(self, name) <= 0:
                raise BadInput(f"{name.replace('_', ' ')} must be above 0, not {getattr(self, name)}.")
        for name in ("averaging", "validation_fraction"):
            if not 0 < getattr(self, name) < 1:
                raise BadInput(f"{name.replace('_', ' ')} must be between 0 and 1, not {getattr(self, name)}.")
        if self.weight_decay < 0 or self.seed < 0:
            raise BadInput("weight decay and seed must not be negative.")
        if self.head_only and not self.initial_sha256:
            raise BadInput("--head-only needs --from MODEL: only a trained model's other layers can be kept.")

    @property
    def mixture(self) -> int:
        """Components of p(z) that the model gets; 0: none."""
        return self.components if self.loss == "mixture" else 0


@dataclass(frozen=True)
class EpochResult:
    """One epoch: mean training loss, and the metrics of the averaged weights on the validation samples.

    `seconds` is its wall time, `best` whether no epoch before had a lower validation loss.
    """

    epoch: int
    training_loss: float
    validation_loss: float
    validation_nmad: float
    validation_r2: float
    best: bool
    seconds: float


@dataclass(frozen=True)
class Trained:
    """The best model, which takes raw inputs, and a summary of its training."""

    model: AstroMAE
    best: EpochResult
    history: tuple[EpochResult, ...]
    training_samples: int
    validation_samples: int

    @property
    def epochs(self) -> int:
        """How many there were."""
        return len(self.history)
