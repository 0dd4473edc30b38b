"""One call of a collective on one rank: its tag, its deadline and the channel."""

from skyfan.comm.channel import Channel, Op, Parts, Request, Tag
from skyfan.comm.payloads import Array, raw_bytes


class Operation:
    """Posts and waits on behalf of one collective; `step` numbers the messages within it."""

    __slots__ = ("channel", "deadline", "op", "rank", "sequence", "size")

    def __init__(self, channel: Channel, op: Op, sequence: int, deadline: float) -> None:
        self.channel = channel
        self.op = int(op)
        self.sequence = sequence
        self.deadline = deadline
        self.rank = channel.rank
        self.size = channel.world_size

    def isend(self, dst: int, step: int, parts: Parts, check: int = 0) -> Request:
        """Post a message to `dst`."""
        return self.channel.isend(dst, Tag(self.op, self.sequence, step), parts, check)

    def irecv(self, src: int, step: int, into: memoryview | None = None, check: int = 0) -> Request:
        """Post a receive from `src`."""
        return self.channel.irecv(src, Tag(self.op, self.sequence, step), into, check)

    def wait(self, *requests: Request) -> None:
        """Wait for all of `requests`."""
        self.channel.wait(requests, self.deadline)

    def recv(self, src: int, step: int) -> memoryview:
        """Wait for a message of unknown length."""
        request = self.irecv(src, step)
        self.wait(request)
        return request.result()

    def send_array(self, dst: int, step: int, array: Array, check: int) -> None:
        """Send an array whose dtype and shape are the same on the receiving rank; `check` is its fingerprint."""
        self.wait(self.isend(dst, step, (raw_bytes(array),), check))

    def recv_array(self, src: int, step: int, into: Array, check: int) -> None:
        """Receive into `into` what the rank `src` sends with `send_array`."""
        self.wait(self.irecv(src, step, raw_bytes(into), check))
