"""Which samples of a run the packaged model was trained on: on those, its metrics tell nothing."""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skyfan.columns import IN_TRAINING
from skyfan.job import DEMO_MODEL
from skyfan.layout import FileLayout
from skyfan.planning import Plan

NOTICED_SHARE = 0.1
"""Of other SDSS galaxies 2 to 3% have by chance the redshift of one of the training sample."""


def are_marked(layout: FileLayout) -> bool:
    """Whether the file marks them, by one truth value a sample; another column of that name is the user's own."""
    marks = [spec for spec in layout.tensors if spec.name == IN_TRAINING]
    return any(spec.dtype == "bool" and not spec.row_shape for spec in marks)


def trained_rows(plan: Plan, z_spec: NDArray[np.float64], columns: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Which of the rows [N] are of galaxies on which the run's model was trained; for all models but the packaged none.

    Files of simulated galaxies mark them in `columns`; without a mark it is the redshift that tells, to the last bit.
    """
    if plan.job.model != DEMO_MODEL:
        return np.zeros(len(z_spec), np.bool_)
    if IN_TRAINING in columns and are_marked(plan.files[0]):
        return np.asarray(columns[IN_TRAINING], np.bool_)
    return np.isin(z_spec.astype(np.float32), _trained_redshifts())


def is_noticed(plan: Plan, trained_samples: int) -> bool:
    """Whether `trained_samples` of the run's samples are more than chance gives, or are marked."""
    return trained_samples > 0 and (are_marked(plan.files[0]) or trained_samples > NOTICED_SHARE * plan.samples)


@functools.cache
def _trained_redshifts() -> NDArray[np.float32]:
    from skyfan.sky.sdss_catalog import load_catalog, subset_rows  # reads 5,000 rows of text

    catalog = load_catalog()
    return catalog.redshift[subset_rows(len(catalog), "train")].astype(np.float32)
