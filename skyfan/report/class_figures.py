"""Figures of predicted classes."""

from collections.abc import Sequence

import numpy as np

from skyfan.records import ClassesSummary
from skyfan.report.drawing import Figure, MaxNLocator
from skyfan.report.figures import BLUE, GREY, ORANGE, new_figure

MAX_BARS = 30


def count_figure(names: Sequence[str], counts: Sequence[int]) -> Figure:
    """How many samples each class has, the largest first."""
    order = np.argsort(-np.array(counts), kind="stable")[:MAX_BARS]
    with new_figure(5.2, 0.9 + 0.26 * len(order)) as (figure, axes):
        axes.barh([names[row] for row in order], [counts[row] for row in order], color=BLUE)
        axes.invert_yaxis()
        axes.set(xlabel="samples")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        return figure


def confidence_figure(counts: Sequence[int]) -> Figure:
    """How sure the model is: the likeliest class's probability."""
    with new_figure(5.2, 2.7) as (figure, axes):
        axes.stairs(counts, np.linspace(0, 1, len(counts) + 1), fill=True, color=BLUE)
        axes.set(xlim=(0, 1), xlabel="probability of the likeliest class", ylabel="samples")
        return figure


def calibration_figure(classes: ClassesSummary) -> Figure:
    """Accuracy against confidence; on the diagonal a model is right as often as it says."""
    _, confidence, accuracy = zip(*classes.calibration, strict=True)
    with new_figure(5.2, 3.4) as (figure, axes):
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1)
        axes.plot(confidence, accuracy, color=ORANGE, marker="o", markersize=4, linewidth=1.2)
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence, mean of a bin", ylabel="accuracy in it")
        return figure
