"""Samples on which a reduced precision is calibrated: the first of a file, the same for every rank of it."""

import numpy as np
from numpy.typing import NDArray

from skyfan.formats.catalog import UNJOINED
from skyfan.formats.row_values import finite_rows
from skyfan.formats.rows import batch_bytes, read_batch
from skyfan.job import RunOptions
from skyfan.layout import FileLayout
from skyfan.models.loading import LoadedModel
from skyfan.stages.preprocess import Preprocessing

CALIBRATION_SAMPLES = 128


def first_samples(file: FileLayout, model: LoadedModel, options: RunOptions) -> list[NDArray[np.generic]] | None:
    """Inputs [B, …] in the model's order, preprocessed, without rows that hold NaN; None if no row is left.

    None, too, where a column is a catalogue's that is not joined yet.
    """
    specs = {spec.name: spec for spec in file.tensors}
    names = model.bind(list(specs))
    preprocessing = Preprocessing(options)
    wanted = [specs[name] for name in {*names, *preprocessing.columns}]
    if any(spec.uri == UNJOINED for spec in wanted):
        return None
    stop = min(CALIBRATION_SAMPLES, file.samples)
    buffer = np.empty(batch_bytes(wanted, stop), np.uint8)
    tensors = read_batch(file.uri, wanted, 0, stop, buffer=buffer, etag=file.etag)
    finite = np.ones(stop, np.bool_)
    for values in tensors.values():
        finite &= finite_rows(values)
    reasons: NDArray[np.object_] = np.full(stop, None, np.object_)
    inputs = preprocessing.apply(names, [tensors[name] for name in names], tensors, reasons)
    finite &= ~reasons.astype(np.bool_)
    return [values[finite] for values in inputs] if finite.any() else None
