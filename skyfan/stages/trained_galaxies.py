"""Which samples of a run the packaged model was trained on: on those, its metrics tell nothing."""

import functools

import numpy as np
from numpy.typing import NDArray

from skyfan.job import DEMO_MODEL
from skyfan.planning import Plan


def count_trained(plan: Plan, z_spec: NDArray[np.float64]) -> int:
    """How many of the redshifts [N] are those of galaxies on which the run's model was trained, to the last bit.

    0 for all models but the packaged one. Of other SDSS galaxies 2 to 3% have such a redshift by chance, as catalogues
    give six decimals.
    """
    if plan.job.model != DEMO_MODEL:
        return 0
    return int(np.isin(z_spec.astype(np.float32), _trained_redshifts()).sum())


@functools.cache
def _trained_redshifts() -> NDArray[np.float32]:
    from skyfan.sky.catalog import load_catalog, subset_rows  # reads 5,000 rows of text

    catalog = load_catalog()
    return catalog.redshift[subset_rows(len(catalog), "train")].astype(np.float32)
