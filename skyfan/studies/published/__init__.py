"""The reference system's published results, its tables recomputed, and the true numbers beside them."""

from skyfan.studies.published.analysis import Analysis, analyse
from skyfan.studies.published.corrected import Corrected, correct
from skyfan.studies.published.published_runs import ReferenceRun, find_all_runs, reference_runs
from skyfan.studies.published.published_tables import batch_varying, result_stats
from skyfan.studies.published.table_check import Difference, TableCheck, check_table
from skyfan.studies.published.timings import Timings, planned_ranks, read_timings

__all__ = [
    "Analysis",
    "Corrected",
    "Difference",
    "ReferenceRun",
    "TableCheck",
    "Timings",
    "analyse",
    "batch_varying",
    "check_table",
    "correct",
    "find_all_runs",
    "planned_ranks",
    "read_timings",
    "reference_runs",
    "result_stats",
]
