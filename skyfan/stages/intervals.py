"""Calibrates a run's intervals: predicts a dataset with known redshifts, before anything is written."""

from collections.abc import Iterator
from contextlib import closing
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from skyfan.columns import REDSHIFT
from skyfan.engines import Engine
from skyfan.errors import DatasetError
from skyfan.formats.dataset import read_layouts
from skyfan.job import Job
from skyfan.layout import FileLayout
from skyfan.planning import Calibration, PlanItem, Span, dataset_identity
from skyfan.science.conformal import conformity_scores, half_width
from skyfan.stages.batches import Columns, predictions
from skyfan.stages.known_redshifts import require_real_redshifts
from skyfan.stages.measure import Stopwatch
from skyfan.stages.missing_values import MissingValues
from skyfan.stages.preprocess import Preprocessing
from skyfan.stages.read_ahead import ReadAhead
from skyfan.stages.result_columns import result_columns

MAX_CALIBRATION_SAMPLES = 10_000
"""Of that many the calibrated part varies by 0.5%, and one process predicts them in seconds."""


def calibrate(job: Job, engine: Engine, width: int) -> Calibration:
    """The calibration on the first `MAX_CALIBRATION_SAMPLES` galaxies of `job.calibrate`.

    Raises:
        DatasetError: it lacks a column, or too few of its redshifts are known.
        ModelError: the model gives no redshifts.
    """
    assert job.calibrate is not None
    files = read_layouts(job.calibrate, columns=job)
    require_real_redshifts(files)
    if REDSHIFT not in files[0].names:
        raise DatasetError(
            f"--calibrate {files[0].uri} has no column of known redshifts; it holds {', '.join(files[0].names)}. Name "
            "one with --target."
        )
    scores = np.concatenate([np.empty(0), *_scores(job, engine, width, files)])
    try:
        found = half_width(scores)
    except ValueError as error:
        raise DatasetError(f"--calibrate {job.calibrate}: {error}.") from error
    return Calibration(uri=job.calibrate, identity=dataset_identity(files), samples=len(scores), half_width=found)


def _scores(job: Job, engine: Engine, width: int, files: tuple[FileLayout, ...]) -> Iterator[NDArray[np.float64]]:
    inputs = engine.bind(files[0].names)
    # Of the predictions only redshifts count here: what is kept beside them may be in the dataset alone.
    options = job.options.model_copy(update={"id": None, "keep": (), "classes": (), "labels": None})
    # With an interval of no width of a point, and the model's own of p(z).
    columns = result_columns(options, files[0], inputs, engine, width, half_width=0.0)
    read = Columns(inputs, (), Preprocessing(job))
    reader = ReadAhead(_first_samples(files), read.read, job.batch_size, engine.allocate, engine.read_buffers)
    with closing(predictions(engine, reader, read, MissingValues(job), Stopwatch())) as computed:
        for batch, output in computed:
            found = columns.redshifts(output, batch.z_spec)
            assert found is not None
            present = found.valid & ~batch.reasons.astype(np.bool_)
            names = ("z_pred", "z_low", "z_high", "z_spec")
            yield conformity_scores(*(found.columns[name][present].astype(np.float64) for name in names))


def _first_samples(files: tuple[FileLayout, ...]) -> PlanItem:
    """As the work of one rank."""
    firsts = [0, *accumulate(file.samples for file in files)]
    spans = [
        Span(file=number, start=0, stop=min(file.samples, MAX_CALIBRATION_SAMPLES - first), first_sample=first)
        for number, (file, first) in enumerate(zip(files, firsts, strict=False))
        if file.samples and first < MAX_CALIBRATION_SAMPLES
    ]
    return PlanItem(rank=0, world_size=1, files=files, spans=tuple(spans))
