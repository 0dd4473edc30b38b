"""What a run costs: list prices, itemised bills, Lambda's own REPORT lines, other memory sizes."""

from skyfan.cost.bill import Bill, BillItem, Invocation, Usage, bill
from skyfan.cost.lambda_logs import LambdaReport, fetch_reports, parse_report, parse_reports
from skyfan.cost.prices import Architecture, Prices, RegionPrices, load_prices
from skyfan.cost.run import (
    MemoryOption,
    RankTime,
    compare,
    pipeline_transitions,
    rank_times,
    usage_of_ranks,
    vcpus,
)

__all__ = [
    "Architecture",
    "Bill",
    "BillItem",
    "Invocation",
    "LambdaReport",
    "MemoryOption",
    "Prices",
    "RankTime",
    "RegionPrices",
    "Usage",
    "bill",
    "compare",
    "fetch_reports",
    "load_prices",
    "parse_report",
    "parse_reports",
    "pipeline_transitions",
    "rank_times",
    "usage_of_ranks",
    "vcpus",
]
