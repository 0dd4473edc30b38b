"""Batches of samples on their way through an engine, and what comes out: predictions, and why some are missing."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from skyfan.formats.row_values import finite_rows
from skyfan.stages.measure import Stopwatch
from skyfan.stages.read_ahead import Block

REDSHIFT = "redshift"


@dataclass(frozen=True)
class Batch:
    """Consecutive samples on their way through the engine: which of them it can compute, and their true redshifts."""

    first_sample: int
    valid: NDArray[np.bool_]
    z_spec: NDArray[np.float32] | None


@dataclass
class Outputs:
    """Predictions as they come in, and why some are missing."""

    outputs: list[NDArray[np.float32]] = field(default_factory=list)
    index: list[NDArray[np.int64]] = field(default_factory=list)
    z_spec: list[NDArray[np.float32]] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)
    reasons: dict[str, int] = field(default_factory=dict)
    batches: int = 0

    def miss(self, rows: NDArray[np.bool_], first_sample: int, reason: str) -> None:
        """Counts the samples of these rows [B] as missing."""
        count = int(rows.sum())
        if count:
            self.reasons[reason] = self.reasons.get(reason, 0) + count
            self.missing += [first_sample + int(row) for row in np.flatnonzero(rows)]

    def add(self, batch: Batch, output: NDArray[np.float32]) -> None:
        """What the engine says of a batch [B, width]; samples without a finite output become NaN and are counted."""
        finite = finite_rows(output)
        self.miss(batch.valid & ~finite, batch.first_sample, "the model's output is not finite")
        self.outputs.append(np.where((batch.valid & finite)[:, None], output, np.float32(np.nan)))
        self.index.append(np.arange(batch.first_sample, batch.first_sample + len(output), dtype=np.int64))
        if batch.z_spec is not None:
            self.z_spec.append(batch.z_spec)
        self.batches += 1


def batches(
    blocks: Iterator[Block], inputs: tuple[str, ...], batch_size: int, watch: Stopwatch, collected: Outputs
) -> Iterator[tuple[Batch, list[NDArray[np.generic]]]]:
    """Batch by batch what the engine takes, [B, …] each, and what is to be kept beside it."""
    while True:
        with watch.phase("wait"):
            block = next(blocks, None)
        if block is None:
            return
        valid = _valid_rows(block, inputs, collected)
        for start in range(0, block.count, batch_size):
            rows = slice(start, min(start + batch_size, block.count))
            yield _batch(block, inputs, rows, valid[rows])


def _valid_rows(block: Block, inputs: tuple[str, ...], collected: Outputs) -> NDArray[np.bool_]:
    """Which rows have only finite inputs; the others are counted as missing, by reason."""
    valid = np.ones(block.count, dtype=np.bool_)
    for name in inputs:
        finite = finite_rows(block.tensors[name])
        collected.miss(valid & ~finite, block.first_sample, f"NaN or infinite values in {name}")
        valid &= finite
    return valid


def _batch(
    block: Block, inputs: tuple[str, ...], rows: slice, valid: NDArray[np.bool_]
) -> tuple[Batch, list[NDArray[np.generic]]]:
    tensors = [block.tensors[name][rows] for name in inputs]
    if not valid.all():
        # Rows that hold NaN are computed as zeros, so that batches keep their shape, and then blanked.
        tensors = [values.copy() for values in tensors]
        for values in tensors:
            values[~valid] = 0
    z_spec = block.tensors.get(REDSHIFT)
    if z_spec is not None:
        z_spec = z_spec[rows].reshape(len(valid), -1)[:, 0]
    # A copy: the block is filled anew before the outputs are there.
    known = None if z_spec is None else z_spec.astype(np.float32)
    return Batch(block.first_sample + rows.start, valid, known), tensors
