"""Samples on which a reduced precision is calibrated: the first of a file, the same for every rank of it."""

import numpy as np
from numpy.typing import NDArray

from skyfan.formats.row_values import finite_rows
from skyfan.formats.rows import batch_bytes, read_batch
from skyfan.layout import FileLayout
from skyfan.models.loading import LoadedModel

CALIBRATION_SAMPLES = 128


def first_samples(file: FileLayout, model: LoadedModel) -> list[NDArray[np.generic]] | None:
    """Inputs [B, …] in the model's order, without rows that hold NaN; None if no row is left."""
    specs = {spec.name: spec for spec in file.tensors}
    names = model.bind(list(specs))
    wanted = [specs[name] for name in names]
    stop = min(CALIBRATION_SAMPLES, file.samples)
    buffer = np.empty(batch_bytes(wanted, stop), np.uint8)
    tensors = read_batch(file.uri, wanted, 0, stop, buffer=buffer, etag=file.etag)
    finite = np.ones(stop, np.bool_)
    for values in tensors.values():
        finite &= finite_rows(values)
    return [tensors[name][finite] for name in names] if finite.any() else None
