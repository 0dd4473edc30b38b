"""When a map has failed: the rule, free of LocalStack.

AWS: "Tolerated failure threshold for Distributed Map state",
https://docs.aws.amazon.com/step-functions/latest/dg/maprun-fail-threshold.html (as of 2026-11): failed and timed-out
items over all items; either threshold fails the map when it is exceeded; with none, one failure does.
"""


def exceeded(failed: int, total: int, tolerated_count: int, tolerated_percentage: float) -> bool:
    """Whether `failed` of `total` items are more than tolerated; a threshold of 0 counts as not given."""
    if failed == 0:
        return False
    if not tolerated_count and not tolerated_percentage:
        return True
    over_count = bool(tolerated_count) and failed > tolerated_count
    over_percentage = bool(tolerated_percentage) and failed * 100 > tolerated_percentage * total
    return over_count or over_percentage
