"""The predecessor's published results, its tables recomputed, and the true numbers beside them."""

from skyfan.studies.published.analysis import Analysis, analyse
from skyfan.studies.published.check import Difference, TableCheck, check_table
from skyfan.studies.published.corrected import Corrected, correct
from skyfan.studies.published.runs import Run, find_runs
from skyfan.studies.published.tables import batch_varying, result_stats, write_csv
from skyfan.studies.published.timings import Timings, planned_ranks, read_timings

__all__ = [
    "Analysis",
    "Corrected",
    "Difference",
    "Run",
    "TableCheck",
    "Timings",
    "analyse",
    "batch_varying",
    "check_table",
    "correct",
    "find_runs",
    "planned_ranks",
    "read_timings",
    "result_stats",
    "write_csv",
]
