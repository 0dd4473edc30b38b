"""The communicator: point-to-point messages and collectives between the ranks of one group."""

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from skyfan.comm.algorithms import reductions, trees
from skyfan.comm.channel import Channel, Op, Tag
from skyfan.comm.errors import CommError
from skyfan.comm.operation import Operation
from skyfan.comm.payloads import Array, Sendable, Value, as_array, decode, encode
from skyfan.comm.reduction import SUM, Reduction, as_reduction
from skyfan.errors import BadInput

DEFAULT_TIMEOUT_S = 60.0
_CLOSE_TIMEOUT_S = 5.0


class Communicator:
    """One rank's end of a group; get it from `skyfan.comm.connect`, use it in a `with` block.

    Every operation blocks until this rank's part is done, at most `timeout_s` (of the communicator, or given
    to the call). All ranks must call the same collectives in the same order. After an error the
    communicator is of no further use and raises it again. One thread at a time.

    Arrays may have any dtype without Python objects and any shape; numbers count as arrays of no dimension.
    Values that a rank passes in and gets back itself (its own entry of a gather, say) may share memory.

    Raises, in every operation: `PeerLost` (names the rank), `CommTimeout` (names the ranks waited for),
    `RendezvousLost`, `CollectiveMismatch`, `Interrupted` (this rank was stopped while it waited), `BadInput` (an
    argument cannot be used).
    """

    def __init__(self, channel: Channel, group: str, *, timeout_s: float = DEFAULT_TIMEOUT_S, why: str = "") -> None:
        self.rank = channel.rank
        self.world_size = channel.world_size
        self.group = group
        self.timeout_s = timeout_s
        self.channel = channel.name
        self.why = why
        self.paths: dict[int, str] = dict.fromkeys(set(range(self.world_size)) - {self.rank}, channel.name)
        self.formation_s = 0.0
        self._channel = channel
        self._sequence = 0
        self._closed = False

    def send(self, value: Sendable, dst: int, *, tag: int = 0, timeout_s: float | None = None) -> None:
        """Send an array or bytes to rank `dst`; returns when the memory may be changed again.

        A value beyond a few MB returns only while `dst` receives: two ranks that send to each other first and
        receive afterwards wait until the deadline.
        """
        self._require_peer(dst, "send")
        description, data = encode(value, "send")
        head = memoryview(len(description).to_bytes(8, "little"))
        request = self._channel.isend(dst, self._message_tag(tag), (head, memoryview(description), data))
        self._channel.wait((request,), self._deadline(timeout_s))

    def recv(self, src: int, *, tag: int = 0, timeout_s: float | None = None) -> Value:
        """The next value that rank `src` sends with this tag."""
        self._require_peer(src, "recv")
        request = self._channel.irecv(src, self._message_tag(tag))
        self._channel.wait((request,), self._deadline(timeout_s))
        message = request.result()
        end = 8 + int.from_bytes(message[:8], "little")
        return decode(message[8:end], message[end:], src)

    def barrier(self, *, timeout_s: float | None = None) -> None:
        """Return when all ranks have called it."""
        trees.barrier(self._operation(Op.BARRIER, timeout_s))

    def bcast(self, value: Sendable | None = None, *, root: int = 0, timeout_s: float | None = None) -> Value:
        """The root's value, on all ranks; what the others pass is not used."""
        self._require_rank(root, "root")
        if self.rank == root and value is None:
            raise BadInput(f"bcast: rank {root} is the root and must pass a value.")
        return trees.bcast(self._operation(Op.BCAST, timeout_s), value, root)

    def gather(self, value: Sendable, *, root: int = 0, timeout_s: float | None = None) -> list[Value] | None:
        """All ranks' values in rank order on the root, None elsewhere; dtypes and shapes may differ."""
        self._require_rank(root, "root")
        return trees.gather(self._operation(Op.GATHER, timeout_s), value, root)

    def allgather(self, value: Sendable, *, timeout_s: float | None = None) -> list[Value]:
        """All ranks' values in rank order, on all ranks; dtypes and shapes may differ."""
        return trees.allgather(self._operation(Op.ALLGATHER, timeout_s), value)

    def scatter(
        self, values: Sequence[Sendable] | None = None, *, root: int = 0, timeout_s: float | None = None
    ) -> Value:
        """Rank r gets the root's `values[r]`."""
        self._require_rank(root, "root")
        if self.rank == root and (values is None or len(values) != self.world_size):
            found = "none" if values is None else str(len(values))
            raise BadInput(f"scatter: rank {root} is the root and must pass {self.world_size} values, not {found}.")
        return trees.scatter(self._operation(Op.SCATTER, timeout_s), values, root)

    def reduce(
        self,
        array: npt.ArrayLike,
        op: str | Reduction = SUM,
        *,
        root: int = 0,
        timeout_s: float | None = None,
    ) -> Array | None:
        """The reduction of all ranks' arrays on the root, None elsewhere."""
        self._require_rank(root, "root")
        reduction = as_reduction(op)
        prepared = reduction.prepare(as_array(array, "reduce"))
        return reductions.reduce(self._operation(Op.REDUCE, timeout_s), prepared, reduction, root)

    def allreduce(
        self,
        array: npt.ArrayLike,
        op: str | Reduction = SUM,
        *,
        out: Array | None = None,
        timeout_s: float | None = None,
    ) -> Array:
        """The reduction of all ranks' arrays, bit for bit the same on all ranks.

        `out` (C-contiguous, of the result's dtype and shape) takes the result; it may be `array` itself.
        """
        reduction = as_reduction(op)
        prepared = reduction.prepare(as_array(array, "allreduce"))
        if out is None:
            out = np.empty_like(prepared)
        elif out.dtype != prepared.dtype or out.shape != prepared.shape or not out.flags.c_contiguous:
            raise BadInput(f"allreduce: out must be a C-contiguous array of {prepared.dtype} {prepared.shape}.")
        reductions.allreduce(self._operation(Op.ALLREDUCE, timeout_s), prepared, reduction, out)
        return out

    def scan(self, array: npt.ArrayLike, op: str | Reduction = SUM, *, timeout_s: float | None = None) -> Array:
        """On rank r the reduction of the arrays of ranks 0 to r."""
        reduction = as_reduction(op)
        prepared = reduction.prepare(as_array(array, "scan"))
        return reductions.scan(self._operation(Op.SCAN, timeout_s), prepared, reduction)

    def close(self, failed: BaseException | None = None) -> None:
        """Leave the group, within 5 s (15 where a store hangs).

        `failed` is why this rank stops early: the other ranks then fail naming it.
        """
        if self._closed:
            return
        self._closed = True
        self._channel.close(failed, _CLOSE_TIMEOUT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(failed=error)

    def _operation(self, op: Op, timeout_s: float | None) -> Operation:
        self._require_open()
        self._channel.check()
        self._sequence += 1
        return Operation(self._channel, op, self._sequence, self._deadline(timeout_s))

    def _deadline(self, timeout_s: float | None) -> float:
        return time.monotonic() + (self.timeout_s if timeout_s is None else timeout_s)

    def _message_tag(self, tag: int) -> Tag:
        self._require_open()
        if not -(2**63) <= tag < 2**63:
            raise BadInput(f"tag {tag} does not fit into 64 bits.")
        return Tag(int(Op.MESSAGE), 0, tag)

    def _require_open(self) -> None:
        if self._closed:
            raise CommError("this communicator is closed; connect again under a new group name.")

    def _require_rank(self, rank: int, what: str) -> None:
        if not 0 <= rank < self.world_size:
            raise BadInput(f"{what} {rank} is not a rank of this group: use 0 to {self.world_size - 1}.")

    def _require_peer(self, rank: int, what: str) -> None:
        self._require_rank(rank, f"{what}: rank")
        if rank == self.rank:
            raise BadInput(f"{what}: rank {rank} cannot exchange messages with itself.")
