"""How a dataset becomes partitions, and how partitions are given to ranks."""

from collections.abc import Sequence

from skyfan.errors import BadInput
from skyfan.job import WHOLE_FILES, PartitionSize, size_in_bytes
from skyfan.layout import FileLayout
from skyfan.planning import MAX_RANKS, Span
from skyfan.units import counted, format_size

# A `.pt` file is a little larger than its tensors (ZIP directory, pickled metadata, alignment). Reserving it
# makes "100MB" mean the 5,113 samples that the reference system's 100MB files hold.
CONTAINER_OVERHEAD_BYTES = 2048

# Of one rank, before compression. It is in memory, too, when it is committed: conditional puts are of whole objects.
MAX_RESULT_BYTES = 256 * 2**20
# What partitions aim at, so that a rank stays well within 700 MB of memory.
PARTITION_RESULT_BYTES = MAX_RESULT_BYTES // 2

# A rank on a GPU has several partitions. Between ranks a GPU waits: 38 ms a rank on an H100 (benchmarks/NOTES.md), 2%
# of the time that it takes for this many bytes of images of 20 KB.
GPU_RANK_BYTES = 4 * 2**30
# What an interruption loses at most, and far within the 15 minutes that a rank may take anywhere.
GPU_RANK_S = 60.0


def samples_per_partition(sample_bytes: int, partition_size_bytes: int) -> int:
    """How many samples of that size a `.pt` file of `partition_size_bytes` would hold; at least one."""
    return max(1, (partition_size_bytes - CONTAINER_OVERHEAD_BYTES) // max(1, sample_bytes))


def make_partitions(
    files: tuple[FileLayout, ...], partition_size: PartitionSize, result_row_bytes: int = 0
) -> list[Span]:
    """Partitions of every file in dataset order, of about `partition_size` bytes, or one a file.

    Where samples have results of `result_row_bytes` each, none has more of them than `PARTITION_RESULT_BYTES`.

    Raises:
        BadInput: there would be more than `MAX_RANKS`.
    """
    partitions: list[Span] = []
    first_sample = 0
    size_bytes = size_in_bytes(partition_size)
    steps = [
        file.samples if size_bytes is None else samples_per_partition(file.sample_bytes, size_bytes) for file in files
    ]
    most = _samples_within(PARTITION_RESULT_BYTES, result_row_bytes)
    steps = [min(step, most) for step in steps]
    count = sum(-(-file.samples // step) for file, step in zip(files, steps, strict=True))
    if count > MAX_RANKS:
        size = WHOLE_FILES if size_bytes is None else format_size(size_bytes)
        raise BadInput(
            f"--partition-size {size} would make {count:,} partitions, more than the {MAX_RANKS:,} that a run holds; "
            "take a larger one."
        )
    for number, (file, step) in enumerate(zip(files, steps, strict=True)):
        for start in range(0, file.samples, step):
            stop = min(start + step, file.samples)
            partitions.append(Span(file=number, start=start, stop=stop, first_sample=first_sample + start))
        first_sample += file.samples
    return partitions


def max_rank_samples(result_row_bytes: int) -> int:
    """Samples whose results are at most `MAX_RESULT_BYTES` together; at least one."""
    return _samples_within(MAX_RESULT_BYTES, result_row_bytes)


def _samples_within(result_bytes: int, result_row_bytes: int) -> int:
    return max(1, result_bytes // max(1, result_row_bytes))


def distribute(partitions: list[Span], world_size: int) -> tuple[tuple[Span, ...], ...]:
    """Gives partitions to ranks in contiguous runs: rank r gets ceil(partitions left / ranks left).

    This is the reference system's rule; ranks beyond the partitions get none. Neighbouring partitions of one
    file become one span.

    Raises:
        BadInput: more ranks than a run holds.
    """
    if world_size > MAX_RANKS:
        raise BadInput(
            f"--world-size is {world_size:,}, more than the {MAX_RANKS:,} ranks that a run holds; this data has "
            f"{counted(len(partitions), 'partition')}, and more ranks than that have nothing to do."
        )
    ranks: list[tuple[Span, ...]] = []
    position = 0
    for rank in range(world_size):
        count = -(-(len(partitions) - position) // (world_size - rank))
        ranks.append(_merge(partitions[position : position + count]))
        position += count
    return tuple(ranks)


def gpu_rank_bytes(
    files: Sequence[FileLayout], partitions: Sequence[Span], executors: int, samples_per_s: float | None
) -> int:
    """About how much data a rank on a GPU has: as much as it may, and as many ranks for each of the `executors`.

    At most `GPU_RANK_BYTES`, and what takes `GPU_RANK_S` at this rate, where it is known.
    """
    data_bytes = sum(part.samples * files[part.file].sample_bytes for part in partitions)
    samples = sum(part.samples for part in partitions)
    most_bytes = GPU_RANK_BYTES
    if samples_per_s is not None:
        most_bytes = min(most_bytes, max(1, int(GPU_RANK_S * samples_per_s * data_bytes / max(1, samples))))
    rounds = -(-data_bytes // (most_bytes * executors))
    return max(1, -(-data_bytes // (max(1, rounds) * executors)))


def distribute_ranks(
    partitions: list[Span],
    files: Sequence[FileLayout],
    world_size: int | None,
    rank_bytes: int | None,
    result_row_bytes: int,
) -> tuple[tuple[Span, ...], ...]:
    """Gives partitions to `world_size` ranks or, where that is None, to ranks of about `rank_bytes` or one a rank.

    No rank of `rank_bytes` has more results than `PARTITION_RESULT_BYTES`, unless one partition has.
    """
    if world_size is not None or rank_bytes is None:
        return distribute(partitions, world_size or len(partitions))
    most = _samples_within(PARTITION_RESULT_BYTES, result_row_bytes)
    ranks: list[list[Span]] = []
    share, samples, position = -1, 0, 0
    for part in partitions:
        if position // rank_bytes != share or samples + part.samples > most:
            ranks.append([])
            share, samples = position // rank_bytes, 0
        ranks[-1].append(part)
        samples += part.samples
        position += part.samples * files[part.file].sample_bytes
    return tuple(map(_merge, ranks))


def _merge(spans: Sequence[Span]) -> tuple[Span, ...]:
    merged: list[Span] = []
    for span in spans:
        if merged and merged[-1].file == span.file and merged[-1].stop == span.start:
            merged[-1] = merged[-1].model_copy(update={"stop": span.stop})
        else:
            merged.append(span)
    return tuple(merged)
