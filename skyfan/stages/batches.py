"""Batches of samples on their way through an engine, and the rows of results that come of them."""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from skyfan.columns import REDSHIFT
from skyfan.engines import Engine
from skyfan.formats.row_values import finite_rows
from skyfan.runs.estimates import NO_DISTRIBUTION
from skyfan.runs.predictions_writer import PredictionsWriter
from skyfan.runs.result_rows import ResultColumns, Rows
from skyfan.science.metrics import merge_sums, science_sums
from skyfan.stages.measure import Stopwatch
from skyfan.stages.missing_values import MissingValues
from skyfan.stages.preprocess import Preprocessing
from skyfan.stages.read_ahead import Block, ReadAhead

MAX_LISTED_MISSING = 100
# Results of several batches are taken together, as the cost of a batch's is nearly that of one call after the other.
HELD_ROWS, HELD_BYTES = 4096, 2**20
NOT_FINITE_OUTPUT = "the model's output is not finite"


@dataclass(frozen=True)
class Columns:
    """Columns of the dataset that a rank reads beside the redshift: what the model takes, and what is kept.

    `validities`: column → the one that is 0 where it has no value.
    """

    inputs: tuple[str, ...]
    kept: tuple[str, ...]
    preprocessing: Preprocessing
    validities: dict[str, str] = field(default_factory=dict)

    @property
    def read(self) -> frozenset[str]:
        """All that are read."""
        beside = {*self.kept, *self.preprocessing.columns}
        validities = {self.validities[name] for name in beside & self.validities.keys()}
        return frozenset({*self.inputs, *beside, *validities, REDSHIFT})

    def beside(self, block: Block, rows: slice) -> dict[str, NDArray[Any]]:
        """What the preprocessing reads of these rows beside the inputs; NaN where there is no value."""
        found = {name: block.tensors[name][rows] for name in self.preprocessing.columns}
        for name in self.validities.keys() & found.keys():
            absent = block.tensors[self.validities[name]][rows] == 0
            found[name] = np.where(absent.reshape(found[name].shape), np.nan, found[name])
        return found

    def held(self, block: Block, rows: slice) -> dict[str, NDArray[Any]]:
        """What is kept of these rows, masked where there is no value; copies, as the block is filled anew."""
        held = {name: block.tensors[name][rows].copy() for name in self.kept}
        for name in self.validities.keys() & held.keys():
            absent = block.tensors[self.validities[name]][rows] == 0
            shape = (len(absent), *(1,) * (held[name].ndim - 1))
            held[name] = np.ma.masked_array(held[name], np.broadcast_to(absent.reshape(shape), held[name].shape))
        return held


@dataclass(frozen=True)
class Batch:
    """Samples on their way through the engine: why rows get no prediction, and what is kept beside it."""

    sample_index: NDArray[np.int64]
    reasons: NDArray[np.object_]
    replaced_values: NDArray[np.int32]
    z_spec: NDArray[np.float32] | None
    kept: dict[str, NDArray[Any]]

    @classmethod
    def joined(cls, batches: Sequence[Self]) -> Self:
        """Several batches as one."""
        if len(batches) == 1:
            return batches[0]
        known = [batch.z_spec for batch in batches if batch.z_spec is not None]
        return cls(
            np.concatenate([batch.sample_index for batch in batches]),
            np.concatenate([batch.reasons for batch in batches]),
            np.concatenate([batch.replaced_values for batch in batches]),
            np.concatenate(known) if known else None,
            {name: _concatenated([batch.kept[name] for batch in batches]) for name in batches[0].kept},
        )


def _concatenated(parts: list[NDArray[Any]]) -> NDArray[Any]:
    masked = np.ma.isMaskedArray(parts[0])
    joined: NDArray[Any] = np.ma.concatenate(parts) if masked else np.concatenate(parts)  # type: ignore[no-untyped-call]
    return joined


@dataclass
class Outputs:
    """Takes a rank's predictions as they come in, writes them, and counts what is missing; at the end, `flush` it."""

    columns_of: Callable[[int], ResultColumns]
    """The columns of the results for outputs of this width, which the first batch shows."""
    writer: PredictionsWriter
    missing_values: MissingValues
    columns: ResultColumns | None = None
    missing: list[int] = field(default_factory=list)
    """The first samples without a prediction, at most `MAX_LISTED_MISSING`."""
    reasons: dict[str, int] = field(default_factory=dict)
    sums: NDArray[np.float64] = field(default_factory=lambda: science_sums(np.empty(0), np.empty(0)))
    """Of the samples whose true redshift is known."""
    batches: int = 0
    _held: list[tuple[Batch, NDArray[np.float32]]] = field(default_factory=list)
    _held_rows: int = 0
    _held_bytes: int = 0

    def add(self, batch: Batch, output: NDArray[np.float32]) -> None:
        """What the engine gives for a batch [B, width]; samples without a finite output count as missing."""
        self._held.append((batch, output.copy()))  # a model may give back its input, which lies in a block
        self._held_rows += len(output)
        self._held_bytes += output.nbytes + sum(values.nbytes for values in batch.kept.values())
        self.batches += 1
        if self._held_rows >= HELD_ROWS or self._held_bytes >= HELD_BYTES:
            self.flush()

    def flush(self) -> None:
        """Writes what is held, and counts what is missing in it."""
        if self._held:
            held, self._held, self._held_rows, self._held_bytes = self._held, [], 0, 0
            self._take(Batch.joined([batch for batch, _ in held]), np.concatenate([output for _, output in held]))

    def _take(self, batch: Batch, output: NDArray[np.float32]) -> None:
        columns = self.columns = self.columns or self.columns_of(output.shape[1])
        reasons = batch.reasons.copy()
        for row in np.flatnonzero(~finite_rows(output[:, columns.used])).tolist():
            reasons[row] = reasons[row] or NOT_FINITE_OUTPUT
        redshifts = columns.redshifts(output, batch.z_spec)
        for row in np.flatnonzero(~redshifts.valid).tolist() if redshifts and columns.pz else ():
            reasons[row] = reasons[row] or NO_DISTRIBUTION
        present = ~reasons.astype(np.bool_)
        for row in np.flatnonzero(~present).tolist():
            self.reasons[reasons[row]] = self.reasons.get(reasons[row], 0) + 1
            if len(self.missing) < MAX_LISTED_MISSING:
                self.missing.append(int(batch.sample_index[row]))
        if batch.z_spec is not None and redshifts is not None:
            part = science_sums(redshifts.columns["z_pred"][present], batch.z_spec[present])
            self.sums = merge_sums(self.sums, part)
        rows = Rows(
            sample_index=batch.sample_index,
            outputs=np.where(present[:, None], output, np.float32(np.nan)),
            missing=reasons,
            z_spec=batch.z_spec,
            kept=batch.kept,
            replaced_values=batch.replaced_values,
            redshifts=redshifts,
        )
        self.writer.write(rows.to_table(columns))

    def counts(self) -> dict[str, Any]:
        """What is missing in all that was added, as fields of a rank record."""
        return {
            "samples_missing": sum(self.reasons.values()),
            "missing_indices": tuple(self.missing),
            "missing_reasons": self.reasons,
            "replaced_values": self.missing_values.replaced,
            "samples_replaced": self.missing_values.samples_replaced,
            "undeclared_sentinels": self.missing_values.undeclared,
        }


def batches(
    blocks: Iterator[Block],
    columns: Columns,
    batch_size: int,
    missing_values: MissingValues,
    watch: Stopwatch,
) -> Iterator[tuple[Batch, list[NDArray[Any]]]]:
    """Batch by batch what the engine takes, [B, …] each, and what is to be kept beside it."""
    while True:
        with watch.phase("wait"):
            block = next(blocks, None)
        if block is None:
            return
        for start in range(0, block.count, batch_size):
            rows = slice(start, min(start + batch_size, block.count))
            first_sample = block.first_sample + start
            given = [block.tensors[name][rows] for name in columns.inputs]
            finite = {name: found[rows] for name, found in block.finite.items()}
            tensors, reasons, replaced = missing_values.apply(columns.inputs, given, first_sample, finite)
            tensors = columns.preprocessing.apply(columns.inputs, tensors, columns.beside(block, rows), reasons)
            numbers = np.arange(first_sample, first_sample + len(reasons), dtype=np.int64)
            yield Batch(numbers, reasons, replaced, _redshifts(block, rows), columns.held(block, rows)), tensors


def predictions(
    engine: Engine,
    reader: ReadAhead,
    columns: Columns,
    missing_values: MissingValues,
    watch: Stopwatch,
    go_on: Callable[[], None] = lambda: None,
) -> Generator[tuple[Batch, NDArray[np.float32]]]:
    """Every batch that `reader` reads, and what the engine gives for it; `go_on` is called before each, and may raise.

    Close it where it is not read to its end: reading and computing then stop.
    """
    pending: deque[Batch] = deque()

    def tensors() -> Iterator[list[NDArray[Any]]]:
        for batch, values in batches(blocks, columns, reader.batch_size, missing_values, watch):
            go_on()
            pending.append(batch)
            yield values

    with reader.blocks() as blocks, closing(engine.stream(tensors())) as computed:
        while True:
            with watch.phase("compute"):
                output = next(computed, None)
            if output is None:
                return
            yield pending.popleft(), output


def _redshifts(block: Block, rows: slice) -> NDArray[np.float32] | None:
    found = block.tensors.get(REDSHIFT)
    if found is None:
        return None
    values: NDArray[np.float32] = found[rows].reshape(rows.stop - rows.start, -1)[:, 0].astype(np.float32)
    return values
