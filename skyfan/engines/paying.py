"""Whether a run is long enough for the conversion of its program to pay."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skyfan.engines.choose import create_engine
from skyfan.job import RunOptions
from skyfan.models.loading import LoadedModel
from skyfan.models.reference_outputs import check_samples
from skyfan.units import format_duration

# A conversion takes about 7 s, most of them torch.export's imports, and OpenVINO then takes half of torch's time: from
# here on it saves more than it takes for most of the corpus (benchmarks/NOTES.md, section 13).
CONVERSION_PAYS_FROM_S = 15.0
# What an executor that runs torch takes longer to start than one that does not (same section).
TORCH_START_S = 1.5
_NOISE_ROWS, _MAX_ROWS, _LONG_ENOUGH_S = 8, 1024, 0.05


@dataclass(frozen=True)
class Work:
    """What a run has to do: its samples, and how many processes load the model for that."""

    samples: int
    executors: int


def why_not_worth_it(
    model: LoadedModel, work: Work, samples: Sequence[NDArray[Any]] | None, *, threads: int
) -> str | None:
    """Why a program stays with torch: it would be done before a conversion pays; None where it pays.

    The program predicts some of the dataset's `samples`, or noise, for up to a tenth of a second or so.
    """
    rows = samples or check_samples(model.examples, model.inputs[0].shape[0] or _NOISE_ROWS)
    engine = create_engine(model, RunOptions(engine="torch"), threads=threads)
    needed_s = work.samples / samples_per_s(engine.predict, rows) + work.executors * TORCH_START_S
    if needed_s >= CONVERSION_PAYS_FROM_S:
        return None
    return (
        f"auto: {work.samples:,} samples of this model take about {format_duration(needed_s)} with torch, its start "
        "included; converting would not pay"
    )


def samples_per_s(
    predict: Callable[[Sequence[NDArray[Any]]], Any],
    rows: Sequence[NDArray[Any]],
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """The rate of a batch that takes long enough to be timed; batches are four times larger each until one does."""
    count = min(4, len(rows[0]))
    predict([values[:count] for values in rows])
    while True:
        batch = [np.resize(values, (count, *values.shape[1:])) for values in rows]
        start = clock()
        predict(batch)
        spent_s = clock() - start
        if spent_s >= _LONG_ENOUGH_S or count >= _MAX_ROWS:
            return count / spent_s
        count *= 4
