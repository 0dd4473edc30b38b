"""A sky of real galaxies: measured SDSS magnitudes and redshifts, rendered into pixels.

`docs/explanation/simulated-sky.md` has the sources.
"""

from skyfan.sky.sdss_catalog import BANDS, COLUMNS, Catalog, Subset, load_catalog, subset_rows, training_rows
from skyfan.sky.simulate import simulate

__all__ = ["BANDS", "COLUMNS", "Catalog", "Subset", "load_catalog", "simulate", "subset_rows", "training_rows"]
