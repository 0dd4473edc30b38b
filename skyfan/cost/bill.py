"""A bill: quantities used × their list prices, item by item.

Lambda bills the *configured* memory × the duration of each invocation, initialisation included, rounded up to the
next millisecond. It bills neither the memory in use nor CPU time.
"""

import dataclasses
import math
from collections.abc import Sequence

from skyfan.aws_limits import LAMBDA_FREE_EPHEMERAL_MB, LAMBDA_MAX_MEMORY_MB, LAMBDA_MIN_MEMORY_MB
from skyfan.cost.prices import Architecture, Prices
from skyfan.errors import BadInput
from skyfan.records import Cost

GB = 2**30
MONTH_DAYS = 30.0
# Express workflows are billed in steps of 100 ms and of 64 MB.
_EXPRESS_STEP_S = 0.1
_EXPRESS_MEMORY_GB = 64 / 1024
# A task of Batch on Fargate (infra/terraform/batch.tf).
FARGATE_VCPUS, FARGATE_GB = 4, 8


@dataclasses.dataclass(frozen=True, slots=True)
class Invocation:
    """`count` equal Lambda invocations: how long each ran, and how long it initialised before (0 when warm).

    `memory_mb` is what its function was configured with; None means the memory of the `Usage`.
    """

    duration_s: float
    init_s: float = 0.0
    count: int = 1
    memory_mb: int | None = None

    def __post_init__(self) -> None:
        if self.duration_s < 0 or self.init_s < 0:
            raise BadInput(f"an invocation lasted {self.duration_s} s with {self.init_s} s init; neither can be < 0.")

    @property
    def billed_s(self) -> float:
        """Duration and initialisation of one, rounded up to whole milliseconds."""
        # round() first: 40.908 s must not become 40,909 ms because 40.908 * 1000 is 40908.00000000001.
        return math.ceil(round((self.duration_s + self.init_s) * 1000, 6)) / 1000


@dataclasses.dataclass(frozen=True, slots=True)
class Usage:
    """Everything that a run used and AWS bills. `fargate_h` and `instance_h` are hours of tasks and of instances."""

    invocations: Sequence[Invocation]
    memory_mb: int = LAMBDA_MAX_MEMORY_MB
    architecture: Architecture = "x86_64"
    ephemeral_mb: int = LAMBDA_FREE_EPHEMERAL_MB
    transitions: int = 0
    express_durations_s: Sequence[float] = ()
    s3_puts: int = 0
    s3_gets: int = 0
    log_bytes: int = 0
    stored_bytes: int = 0
    kept_days: float = MONTH_DAYS
    fargate_h: float = 0.0
    instance_type: str | None = None
    instance_h: float = 0.0

    def __post_init__(self) -> None:
        for size_mb in {self.memory_mb, *(one.memory_mb for one in self.invocations if one.memory_mb)}:
            if not LAMBDA_MIN_MEMORY_MB <= size_mb <= LAMBDA_MAX_MEMORY_MB:
                raise BadInput(
                    f"a Lambda function of {size_mb} MB does not exist; "
                    f"choose {LAMBDA_MIN_MEMORY_MB} to {LAMBDA_MAX_MEMORY_MB} MB."
                )
        for name in ("transitions", "s3_puts", "s3_gets", "log_bytes", "stored_bytes", "kept_days"):
            if getattr(self, name) < 0:
                raise BadInput(f"{name} is {getattr(self, name)}; it cannot be less than zero.")


@dataclasses.dataclass(frozen=True, slots=True)
class BillItem:
    """One line: quantity × unit price."""

    name: str
    quantity: float
    unit: str
    unit_usd: float

    @property
    def usd(self) -> float:
        """Quantity × unit price."""
        return self.quantity * self.unit_usd


@dataclasses.dataclass(frozen=True, slots=True)
class Bill:
    """All items, with the region and date of their prices."""

    items: tuple[BillItem, ...]
    region: str
    prices_dated: str

    @property
    def total_usd(self) -> float:
        """Sum of all lines."""
        return math.fsum(item.usd for item in self.items)

    def as_cost(self, basis: str) -> Cost:
        """The bill as `summary.json` holds it; `basis` names the source of the quantities."""
        return Cost(
            total_usd=self.total_usd,
            items_usd={item.name: item.usd for item in self.items},
            basis=basis,
            prices_dated=self.prices_dated,
        )


def bill(usage: Usage, prices: Prices, region: str = "us-east-1") -> Bill:
    """What `usage` costs at `prices`. Items that cost nothing are kept, to show that they were counted.

    Raises:
        BadInput: no prices for this region.
    """
    unit = prices.region(region)
    billed_s = math.fsum(one.billed_s * one.count for one in usage.invocations)
    memory_gb_s = math.fsum(
        one.billed_s * one.count * (one.memory_mb or usage.memory_mb) / 1024 for one in usage.invocations
    )
    extra_gb = max(0, usage.ephemeral_mb - LAMBDA_FREE_EPHEMERAL_MB) / 1024
    express_s = math.fsum(math.ceil(round(s / _EXPRESS_STEP_S, 6)) * _EXPRESS_STEP_S for s in usage.express_durations_s)
    months = usage.kept_days / MONTH_DAYS
    lambda_price = unit.lambda_gb_s[usage.architecture]
    instance_usd_h = unit.instance_h(usage.instance_type) if usage.instance_type else 0.0
    lines = (
        ("Lambda compute", memory_gb_s, "GB-s", lambda_price),
        ("Lambda requests", sum(one.count for one in usage.invocations), "requests", unit.lambda_request),
        ("Lambda ephemeral storage", billed_s * extra_gb, "GB-s", unit.lambda_ephemeral_gb_s),
        ("Fargate vCPU", usage.fargate_h * FARGATE_VCPUS, "vCPU-hours", unit.fargate_vcpu_h),
        ("Fargate memory", usage.fargate_h * FARGATE_GB, "GB-hours", unit.fargate_gb_h),
        (f"Instances {usage.instance_type or ''}".strip(), usage.instance_h, "hours", instance_usd_h),
        ("Step Functions transitions", usage.transitions, "transitions", unit.transition),
        ("Step Functions Express requests", len(usage.express_durations_s), "requests", unit.express_request),
        ("Step Functions Express memory", express_s * _EXPRESS_MEMORY_GB, "GB-s", unit.express_gb_s),
        ("S3 PUT", usage.s3_puts, "requests", unit.s3_put),
        ("S3 GET", usage.s3_gets, "requests", unit.s3_get),
        ("S3 storage", usage.stored_bytes / GB * months, "GB-months", unit.s3_gb_month),
        ("Logs ingested", usage.log_bytes / GB, "GB", unit.logs_ingested_gb),
        ("Logs stored", usage.log_bytes / GB * months, "GB-months", unit.logs_stored_gb_month),
    )
    return Bill(tuple(BillItem(*line) for line in lines), region, prices.dated)
