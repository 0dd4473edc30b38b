"""Where a job runs, and with how many executors, where the user does not say.

One process with all cores is the default, as it loads the model once and starts nothing. Several executors pay where a
machine has several GPUs, or so many cores that one process no longer fills them, and the job is long enough for their
start. The memory of an executor on a processor and what starting two costs on two cores are measured
(benchmarks/NOTES.md, 12); how many cores one fills, and a GPU's memory, are estimates.
"""

from dataclasses import dataclass

from skyfan import store
from skyfan.aws_limits import MAP_CONCURRENCY
from skyfan.diagnosis.machine import available_memory_bytes
from skyfan.engines.device import CPU, available_device, visible_gpus
from skyfan.engines.threads import available_threads
from skyfan.errors import SkyfanError
from skyfan.job import Job

# OpenVINO's lanes and torch's threads fill about this many cores; more executors fill more.
CORES_PER_EXECUTOR = 8
# An executor with a model of 16 million parameters takes 442 MB (benchmarks/results/targets.md); a GPU's about 3 GB.
EXECUTOR_BYTES, GPU_EXECUTOR_BYTES = 2**30, 4 * 2**30
# Two executors took 2 to 9 CPU seconds more than one process, in which one computes some hundred MB.
DATA_BYTES_PER_EXECUTOR = 2**30
COLLECTIVE_WORKERS = 2


@dataclass(frozen=True)
class Machine:
    """What a job may use here; `memory_bytes` is None where it is not known."""

    cores: int
    memory_bytes: int | None
    gpus: int


@dataclass(frozen=True)
class Placement:
    """`on` is `process` or `local`; `workers` executors run at once."""

    on: str
    workers: int


def place(machine: Machine, data_bytes: int, *, workers: int | None = None, collectives: bool = False) -> Placement:
    """Where a job with this much data runs; `workers` and `collectives` are the job's own."""
    if collectives:
        return Placement("local", workers or COLLECTIVE_WORKERS)
    chosen = workers or executors(machine, data_bytes)
    return Placement("local" if chosen > 1 else "process", chosen)


def executors(machine: Machine, data_bytes: int) -> int:
    """How many executors the machine feeds and the job keeps busy: one a GPU, else one for every eight cores."""
    most = machine.gpus or machine.cores // CORES_PER_EXECUTOR
    each_bytes = GPU_EXECUTOR_BYTES if machine.gpus else EXECUTOR_BYTES
    fitting = most if machine.memory_bytes is None else machine.memory_bytes // each_bytes
    return max(1, min(most, fitting, data_bytes // DATA_BYTES_PER_EXECUTOR, MAP_CONCURRENCY))


def place_job(job: Job) -> Placement:
    """Where a job runs on this machine; its dataset is listed only where the job does not say how many executors."""
    is_told = job.workers is not None or job.collectives
    size_bytes = 0 if is_told else dataset_bytes(job.dataset)
    return place(this_machine(job), size_bytes, workers=job.workers, collectives=job.collectives)


def this_machine(job: Job) -> Machine:
    """The machine that this process runs on, as far as the job may use it."""
    gpus = 0 if job.device == CPU else len(visible_gpus())
    return Machine(available_threads(), available_memory_bytes(), gpus)


def gpu_executors(job: Job) -> int:
    """How many executors with a GPU each compute the job here; 0 where processors do. Asks torch only beside a GPU."""
    if job.device == CPU or not visible_gpus() or available_device(job.device) == CPU:
        return 0
    return place_job(job).workers


def dataset_bytes(uri: str) -> int:
    """Bytes of the dataset's file, or of all files in its folder; 0 where that cannot be told, and the run will."""
    try:
        return store.head(uri).size_bytes if store.exists(uri) else sum(one.size_bytes for one in store.list(uri))
    except SkyfanError:
        return 0
