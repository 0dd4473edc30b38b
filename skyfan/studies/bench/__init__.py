"""Studies: a grid of runs, measured in random order, resumable, and the tables and figures made from them."""

from skyfan.studies.bench.measurements import Measurement, read_measurements, run_study, schedule
from skyfan.studies.bench.study import PACKAGED, Setting, Study, load_study

__all__ = [
    "PACKAGED",
    "Measurement",
    "Setting",
    "Study",
    "load_study",
    "read_measurements",
    "run_study",
    "schedule",
]
