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

# Seconds that a conversion takes, most of the first imports of torch.export, and for each of the program's calls; the
# share of torch's time that OpenVINO saves in the median (benchmarks/NOTES.md, section 11).
CONVERSION_S, CONVERSION_S_PER_CALL, SAVED_SHARE = 7.0, 0.05, 0.5
# What an executor that runs torch takes longer to start than one that does not (same section).
TORCH_START_S = 1.5
_NOISE_ROWS, _MAX_ROWS, _LONG_ENOUGH_S = 8, 1024, 0.05


@dataclass(frozen=True)
class Work:
    """What a run has to do: one prediction a sample, or several, and how many processes load the model for that."""

    predictions: int
    executors: int


def why_not_worth_it(
    model: LoadedModel, work: Work, samples: Sequence[NDArray[Any]] | None, *, threads: int
) -> str | None:
    """Why a program stays with torch: converting it takes longer than it saves; None where it pays.

    Counted in seconds of one executor, so that it saves computing time on any number of them. The program predicts
    some of the dataset's `samples`, or noise, for a tenth of a second or so. An ONNX model converts in a second.
    """
    if model.program is None:
        return None
    rows = samples or check_samples(model.examples, model.inputs[0].shape[0] or _NOISE_ROWS)
    engine = create_engine(model, RunOptions(engine="torch"), threads=threads)
    torch_s = work.predictions / samples_per_s(engine.predict, rows)
    conversion_s = conversion_takes_s(model.program.targets)
    if SAVED_SHARE * torch_s + work.executors * TORCH_START_S >= conversion_s:
        return None
    return (
        f"auto: {work.predictions:,} predictions of this model take about {format_duration(torch_s)} with torch; "
        f"converting it takes about {conversion_s:.0f} s and would not pay"
    )


def conversion_takes_s(calls: Sequence[str]) -> float:
    """About how long converting a program of these calls takes."""
    return CONVERSION_S + CONVERSION_S_PER_CALL * len(calls)


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
