"""Studies: a grid of runs, measured in random order, resumable, and the tables and figures made from them."""

from skyfan.studies.bench.engine import Measurement, read_measurements, run_study, schedule
from skyfan.studies.bench.spec import PACKAGED, Setting, Study, load_study
from skyfan.studies.bench.statistics import Stat, summarise

__all__ = [
    "PACKAGED",
    "Measurement",
    "Setting",
    "Stat",
    "Study",
    "load_study",
    "read_measurements",
    "run_study",
    "schedule",
    "summarise",
]
