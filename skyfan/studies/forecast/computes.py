"""What else could run the same plan: Batch on Fargate and on GPUs, SageMaker and Slurm beside Lambda.

Each is the simulation of `map_simulation` with other numbers: a number of workers, each of which starts once and then
computes rank after rank. Rates of GPUs are of AstroMAE in float32; another model's are scaled by how its calibration
compares with the packaged one on processors.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from skyfan.aws_limits import LAMBDA_MAX_MEMORY_MB, LAMBDA_TIMEOUT_S
from skyfan.cost import Prices, RegionPrices, Usage, bill
from skyfan.cost.bill import FARGATE_GB, FARGATE_VCPUS
from skyfan.cost.usage import PIPELINE_STATES, RANK_PUTS, USUAL_INSTANCES
from skyfan.studies.billing.memory_sizes import speed, vcpus
from skyfan.studies.forecast.forecast_calibration import Calibration, load_calibration
from skyfan.studies.forecast.map_simulation import LAMBDA, Limits, Outcome, Workload, simulate
from skyfan.studies.forecast.predict import ComputeForecast, Forecast, interval

STARTING, WORKERS = "machines' start", "workers"
# Each of these GPUs computes AstroMAE in float32 at this many samples a second. H100: measured with Skyfan, files to
# committed predictions, 655,360 samples (2026-11-27, benchmarks/results/gpu.md). A100: the reference system's own run,
# one small set repeated in memory, predictions thrown away. The others: the H100's rate times their memory bandwidth ÷
# its 3,350 GB/s (NVIDIA's data sheets: A10G 600, L4 300, T4 320 GB/s).
GPU_SAMPLES_PER_S = {"H100": 74_125.0, "A100": 23_203.0, "A10G": 13_276.0, "L4": 6_638.0, "T4": 7_081.0}
MEASURED_GPUS = frozenset({"H100", "A100"})
# A rank that follows another in the same process: no imports, the model is loaded (an assumption, not measured).
_NEXT_RANK_S = 0.2
# Ranges that a worker reads at the same time; a calibration's rate is that of one.
_GPU_CONNECTIONS = 8
# Simulations of a compute: fewer of plans with many ranks, where one takes seconds and chance averages out.
_REPETITIONS, _SIMULATED_RANKS = 11, 5_000
_MINIMUM_BILLED_S = 60  # of a Fargate task, and of an EC2 or SageMaker instance


@dataclasses.dataclass(frozen=True, slots=True)
class Compute:
    """Workers of one kind.

    `start_s` passes from the request to a worker's first rank (an assumption: capacity, image, imports). A machine
    holds `slots` workers and costs `machine_usd_h` an hour; None where no price is known, as on one's own cluster.
    """

    name: str
    machine: str
    workers: int
    start_s: float
    machine_usd_h: Callable[[RegionPrices], float] | None
    vcpus: int = 4
    gpu: str | None = None
    slots: int = 1
    idle_s: float = 0.0

    @property
    def label(self) -> str:
        """Workers and what they run on, as `4 × g5.xlarge`."""
        return f"{self.workers:,} × {self.machine}"


def _fargate_h(unit: RegionPrices) -> float:
    return FARGATE_VCPUS * unit.fargate_vcpu_h + FARGATE_GB * unit.fargate_gb_h + unit.public_ipv4_h


def _instance_h(kind: str) -> Callable[[RegionPrices], float]:
    return lambda unit: unit.instance_h(kind)


# The machines that infra/terraform takes when nothing else is asked for, and those whose speed is measured. A Batch
# instance is kept for some minutes after its last job, and billed for them.
_EC2, _ML = USUAL_INSTANCES["batch-gpu"], USUAL_INSTANCES["sagemaker"]
COMPUTES = (
    Compute("batch", "4 vCPU Fargate", 64, 75.0, _fargate_h, FARGATE_VCPUS),
    Compute("batch-gpu", _EC2, 4, 240.0, _instance_h(_EC2), gpu="A10G", idle_s=120.0),
    Compute("batch-gpu", "p5.4xlarge", 1, 300.0, _instance_h("p5.4xlarge"), gpu="H100", idle_s=120.0),
    Compute("batch-gpu", "A100 (p4d)", 8, 300.0, _instance_h("p4d.24xlarge"), gpu="A100", slots=8, idle_s=120.0),
    Compute("sagemaker", _ML, 4, 240.0, _instance_h(_ML), vcpus=16),
    Compute("sagemaker", "ml.g5.xlarge", 4, 300.0, _instance_h("ml.g5.xlarge"), gpu="A10G"),
    Compute("slurm", "1 core", 256, 10.0, None, vcpus=1),
)


def compare_computes(
    own: Forecast,
    work: Workload,
    calibration: Calibration,
    prices: Prices,
    *,
    workers: int | None = None,
    region: str = "us-east-1",
) -> list[ComputeForecast]:
    """The plan on Lambda (`own`, forecast already) and on each of `COMPUTES`, with `workers` of each, if given.

    Raises:
        BadInput: the price file lacks a price.
    """
    lambdas = ComputeForecast(
        "lambda",
        f"{own.memory_mb / 1024:.3g} GB function",
        own.ranks,
        own.wall_s,
        own.wall_low_s,
        own.wall_high_s,
        own.cost_usd,
        own.binding,
        calibration.source,
        own.warnings,
    )
    return [
        lambdas,
        *(_forecast(_sized(compute, workers), work, calibration, prices, region) for compute in COMPUTES),
    ]


def _sized(compute: Compute, workers: int | None) -> Compute:
    """With the workers that are asked for, rounded up to whole machines."""
    if not workers:
        return compute
    return dataclasses.replace(compute, workers=-(-workers // compute.slots) * compute.slots)


def _forecast(
    compute: Compute,
    work: Workload,
    calibration: Calibration,
    prices: Prices,
    region: str,
) -> ComputeForecast:
    adapted = _adapted(compute, calibration)
    limits = Limits(lambda_concurrency=compute.workers, burst=compute.workers)
    same = Workload(work.rank_samples, work.sample_bytes, LAMBDA_MAX_MEMORY_MB)
    repetitions = max(1, min(_REPETITIONS, _SIMULATED_RANKS // work.ranks))
    outcomes = [simulate(same, adapted, limits, seed) for seed in range(repetitions)]
    walls = [outcome.wall_s for outcome in outcomes]
    low_s, high_s = interval(walls, calibration.residual_sigma)
    typical = outcomes[int(np.argsort(walls)[repetitions // 2])]
    return ComputeForecast(
        compute=compute.name,
        runs_on=compute.label,
        workers=compute.workers,
        wall_s=float(np.median(walls)),
        wall_low_s=low_s,
        wall_high_s=high_s,
        cost_usd=_cost_usd(compute, work, typical, prices, region),
        binding=_binding(compute, typical),
        basis=_basis(compute),
        warnings=_warnings(compute, typical),
    )


def _adapted(compute: Compute, calibration: Calibration) -> Calibration:
    """The calibration of ranks that follow each other on these workers."""
    share = calibration.parallel_share
    one_cpu_s = calibration.compute_s_per_sample * speed(calibration.measured_vcpus, share)
    if compute.gpu:
        packaged = load_calibration("skyfan")
        astromae_s = packaged.compute_s_per_sample * speed(packaged.measured_vcpus, packaged.parallel_share)
        sample_s = one_cpu_s / astromae_s / GPU_SAMPLES_PER_S[compute.gpu]
    else:
        sample_s = one_cpu_s / speed(compute.vcpus, share)
    read = calibration.read_bytes_per_s
    return calibration.model_copy(
        update={
            "compute_s_per_sample": sample_s,
            "measured_vcpus": vcpus(LAMBDA_MAX_MEMORY_MB),  # those of the simulated function: no scaling
            "plan_s": calibration.plan_s + compute.start_s,
            "start_interval_s": 0.0,
            "cold_start_s": calibration.rank_fixed_s,
            "rank_fixed_s": min(_NEXT_RANK_S, calibration.rank_fixed_s),
            "read_bytes_per_s": read and read * (_GPU_CONNECTIONS if compute.gpu else 1),
        }
    )


def _cost_usd(compute: Compute, work: Workload, outcome: Outcome, prices: Prices, region: str) -> float | None:
    """Machines from their start to the run's end, requests to S3 and the state machine."""
    if compute.machine_usd_h is None:
        return None
    machines = -(-outcome.peak_concurrency // compute.slots)
    machine_s = max(_MINIMUM_BILLED_S, compute.start_s + outcome.map_s + compute.idle_s)
    usage = Usage((), transitions=PIPELINE_STATES, s3_puts=RANK_PUTS * work.ranks, s3_gets=outcome.requests)
    return (
        machines * machine_s / 3600 * compute.machine_usd_h(prices.region(region))
        + bill(usage, prices, region).total_usd
    )


def _binding(compute: Compute, outcome: Outcome) -> str:
    if compute.start_s > outcome.map_s:
        return STARTING
    return WORKERS if outcome.binding == LAMBDA else outcome.binding


def _basis(compute: Compute) -> str:
    if not compute.gpu:
        return f"the calibration's rate on {compute.vcpus} processors"
    known = "measured" if compute.gpu in MEASURED_GPUS else "estimated from an H100's by memory bandwidth"
    return f"{GPU_SAMPLES_PER_S[compute.gpu]:,.0f} samples/s on one {compute.gpu}, {known}"


def _warnings(compute: Compute, outcome: Outcome) -> tuple[str, ...]:
    if compute.name != "slurm" and outcome.aggregate_s > LAMBDA_TIMEOUT_S:
        return (f"merging needs {outcome.aggregate_s:.0f} s, Lambda stops it at {LAMBDA_TIMEOUT_S} s",)
    return ()
