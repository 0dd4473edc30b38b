"""Bills of runs after the fact: Lambda's REPORT lines, and the same ranks at other memory sizes."""

from skyfan.studies.billing.lambda_logs import LambdaReport, fetch_reports, parse_report, parse_reports
from skyfan.studies.billing.memory_sizes import MemoryOption, compare

__all__ = ["LambdaReport", "MemoryOption", "compare", "fetch_reports", "parse_report", "parse_reports"]
