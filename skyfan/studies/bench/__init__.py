"""Studies: a grid of runs that is measured in random order, can be resumed, and is reported in tables and figures."""

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
