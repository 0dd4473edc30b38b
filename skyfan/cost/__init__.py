"""What a run costs: list prices, what a run used, and the itemised bill."""

from skyfan.cost.bill import Bill, BillItem, Invocation, Usage, bill
from skyfan.cost.prices import Architecture, Prices, RegionPrices, load_prices, priced_region
from skyfan.cost.usage import RankTime, pipeline_transitions, rank_times, recorded_region, run_usage, usage_of_ranks

__all__ = [
    "Architecture",
    "Bill",
    "BillItem",
    "Invocation",
    "Prices",
    "RankTime",
    "RegionPrices",
    "Usage",
    "bill",
    "load_prices",
    "pipeline_transitions",
    "priced_region",
    "rank_times",
    "recorded_region",
    "run_usage",
    "usage_of_ranks",
]
