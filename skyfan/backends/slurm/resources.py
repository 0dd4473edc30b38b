"""What a run asks of Slurm: how many tasks, with how much memory and time."""

import math
from dataclasses import dataclass

from skyfan.backends.slurm.slurm_options import SlurmOptions
from skyfan.engines.threads import available_threads
from skyfan.job import Job
from skyfan.planning import Plan
from skyfan.stages.messages import PreparedModel
from skyfan.stages.plan import RANK_OVERHEAD_S

MIB = 2**20
# Python with its libraries, reading ahead and a row group: measured 0.45 GB (docs/explanation/engines.md), rounded up.
_PROCESS_BYTES = 700 * MIB
# Weights in the file's form, in the engine's, and what it keeps of them while it compiles.
_WEIGHT_COPIES = 3
_BYTES_PER_WEIGHT = 4
# A batch as it is read, as it is given to the engine, and its largest activations.
_BATCH_COPIES = 8
# CUDA's context, pinned memory and torch itself.
_GPU_PROCESS_BYTES = 4096 * MIB
_MEMORY_MARGIN = 1.5
_MEMORY_STEP_BYTES = 256 * MIB
# Nodes differ from the machine on which the rate was measured, and their file system has other users.
_TIME_MARGIN = 3.0
_LEAST_MINUTES = 10
# Merging reads predictions again, at least at this rate, and draws the report.
_AGGREGATED_ROWS_PER_S = 100_000
_AGGREGATOR_BYTES = 2048 * MIB


@dataclass(frozen=True, slots=True)
class TaskRequest:
    """`tasks` of an array or of an allocation, each with `memory_mb` (MiB) for every processor, and `minutes`."""

    tasks: int
    ranks: int
    memory_mb_per_cpu: int
    minutes: int
    aggregator_memory_mb: int
    aggregator_minutes: int

    @property
    def ranks_per_task(self) -> int:
        """Of the task that has most."""
        return -(-self.ranks // self.tasks)


def task_request(
    job: Job, plan: Plan, ranks: int, prepared: PreparedModel, options: SlurmOptions, max_array_size: int
) -> TaskRequest:
    """What to ask for `ranks` of the plan; the options stand above the forecast."""
    if options.layout == "allocation":
        tasks = min(ranks, job.workers or ranks)
    else:
        tasks = min(-(-ranks // (options.ranks_per_task or 1)), max_array_size)
    memory_bytes = options.memory or forecast_memory_bytes(job, plan, prepared, gpu=uses_gpu(job, options))
    rank_s = forecast_rank_s(plan, prepared, options.cpus_per_task)
    minutes = max(_LEAST_MINUTES, math.ceil(_TIME_MARGIN * rank_s * -(-ranks // tasks) / 60))
    return TaskRequest(
        tasks=tasks,
        ranks=ranks,
        memory_mb_per_cpu=-(-memory_bytes // MIB // options.cpus_per_task),
        minutes=options.minutes or minutes,
        aggregator_memory_mb=_AGGREGATOR_BYTES // MIB,
        aggregator_minutes=_LEAST_MINUTES + math.ceil(plan.samples / _AGGREGATED_ROWS_PER_S / 60),
    )


def uses_gpu(job: Job, options: SlurmOptions) -> bool:
    """Whether tasks have a GPU."""
    return job.device == "cuda" or options.gres is not None


def forecast_rank_s(plan: Plan, prepared: PreparedModel, cpus: int) -> float:
    """Seconds of the largest rank on `cpus` processors, at the rate that was measured on this machine's."""
    if prepared.samples_per_s is None:
        return RANK_OVERHEAD_S
    rate = prepared.samples_per_s * min(1.0, cpus / available_threads())
    return RANK_OVERHEAD_S + max(plan.rank_samples) / rate


def forecast_memory_bytes(job: Job, plan: Plan, prepared: PreparedModel, *, gpu: bool) -> int:
    """Memory of a task, with a margin; of the process, the weights, a batch, and the rank's results."""
    largest = max(plan.rank_samples)
    sample_bytes = max(file.sample_bytes for file in plan.files)
    needed = (
        _PROCESS_BYTES
        + prepared.parameters * _BYTES_PER_WEIGHT * _WEIGHT_COPIES
        + min(largest, job.batch_size) * sample_bytes * _BATCH_COPIES
        + 2 * largest * prepared.result_row_bytes
        + (_GPU_PROCESS_BYTES if gpu else 0)
    )
    return math.ceil(needed * _MEMORY_MARGIN / _MEMORY_STEP_BYTES) * _MEMORY_STEP_BYTES
