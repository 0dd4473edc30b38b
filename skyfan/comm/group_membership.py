"""A rank's membership in a group, as the rank has it: one stream to the rendezvous server.

gRPC's thread sends requests, and a heartbeat when there is no other request; a thread of this module reads events.
Those about other ranks go to the `PeerMonitor`, the others to `expect`.
"""

import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc

from skyfan.comm.errors import CommError, CommTimeout, PeerLost, RendezvousLost
from skyfan.comm.peer_monitor import PeerMonitor
from skyfan.comm.waiting import pause_s, require_running
from skyfan.errors import SkyfanError
from skyfan.rpc.channel_options import channel_options
from skyfan.rpc.credentials import tls_from_environment
from skyfan.rpc.errors import call_metadata, error_of
from skyfan.v1 import rendezvous_pb2 as pb
from skyfan.v1 import rendezvous_pb2_grpc as pb_grpc

_BEATS_PER_TIMEOUT = 4


def open_channel(address: str) -> grpc.Channel:
    """A blocking channel to the rendezvous server at HOST:PORT, with TLS if the environment names its files.

    Raises:
        BadInput: only some of the TLS files are named, or one cannot be read.
    """
    tls = tls_from_environment()
    if tls is None:
        return grpc.insecure_channel(address, options=channel_options())
    credentials = grpc.ssl_channel_credentials(tls.authority, tls.key, tls.certificate)
    return grpc.secure_channel(address, credentials, options=channel_options())


class GroupMembership:
    """Joins at the server `address` (HOST:PORT) on construction, until `deadline`, a time of `time.monotonic()`.

    `expect` waits for the server's next answer of a kind. `monitor` is told which ranks were lost or have left, and
    when the server is gone; `cancelled` stops every wait of this rank when it is set.

    Raises:
        RendezvousLost: the server cannot be reached before the deadline.
        GroupRefused: the server does not admit this rank.
        GroupLimit: the group is beyond the server's limits.
        Interrupted: `cancelled` was set.
    """

    def __init__(
        self,
        address: str,
        terms: pb.GroupTerms,
        rank: int,
        monitor: PeerMonitor,
        deadline: float,
        cancelled: threading.Event | None = None,
    ) -> None:
        self.address = address
        self.monitor = monitor
        self._cancelled = cancelled
        self.stub_channel = open_channel(address)
        self.stub = pb_grpc.RendezvousStub(self.stub_channel)
        self._what = f"rendezvous server {address}"
        self._requests: queue.Queue[pb.MemberRequest | None] = queue.Queue(64)
        self._answers: queue.Queue[Any] = queue.Queue(16)
        self._beat_s = terms.heartbeat_timeout_s / _BEATS_PER_TIMEOUT
        self._timeout_s = terms.heartbeat_timeout_s
        self._heard_at = time.monotonic()
        self._ending = False
        self._ended = threading.Event()
        self._requests.put(pb.MemberRequest(join=pb.Join(terms=terms, rank=rank)))
        # With a server that is still starting, gRPC tries again; a connectivity watch would outlive a closed channel.
        self._call = self.stub.JoinGroup(self._outgoing(), metadata=call_metadata(), wait_for_ready=True)
        self._thread = threading.Thread(target=self._listen, name="skyfan-comm-membership", daemon=True)
        self._thread.start()
        try:
            self.joined: pb.Joined = self.expect("joined", deadline)
        except CommTimeout as error:
            self.disconnect()
            raise RendezvousLost(
                f"{self._what} cannot be reached; check the address and that it is running."
            ) from error
        except SkyfanError:
            self.disconnect()
            raise

    def expect(self, kind: str, deadline: float) -> Any:
        """The server's next answer, which must be of this kind; `deadline` is a time of `time.monotonic()`.

        Raises:
            CommTimeout: it did not come before the deadline.
            CommError: it is of another kind, or the membership ended.
            PeerLost: a rank died or stopped early.
            Interrupted: the caller stopped this rank.
        """
        # A loss that came behind an answer was not put behind it, and what is waited for does not come any more.
        failure = self.monitor.failure(needs_server=False)
        if failure is not None:
            raise failure
        answer = self._next_answer(kind, deadline)
        if isinstance(answer, SkyfanError):
            raise answer
        found = answer.WhichOneof("kind")
        if found != kind:
            raise CommError(f"{self._what} answered {found!r} instead of {kind!r}; run one version everywhere.")
        return getattr(answer, kind)

    def _next_answer(self, kind: str, deadline: float) -> Any:
        while True:
            require_running(self._cancelled, f"waiting for {kind!r} from {self._what}")
            try:
                return self._answers.get(timeout=pause_s(deadline - time.monotonic(), self._cancelled) or 0.001)
            except queue.Empty as error:
                if time.monotonic() >= deadline:
                    raise CommTimeout(f"{self._what} did not answer in time (waiting for {kind!r}).") from error

    def send(self, **kind: Any) -> None:
        """Send a request of one kind: `send(links=...)`."""
        self._requests.put(pb.MemberRequest(**kind), timeout=self._timeout_s)

    def leave(self, failed: BaseException | None, deadline: float) -> None:
        """Tell the server that this rank leaves, wait until it has confirmed, and close the connection.

        `failed` is why this rank stops early, None after its last operation; `deadline` is by `time.monotonic()`.
        """
        self._ending = True
        leave = pb.Leave()
        if failed is not None:
            leave.error = str(failed) or type(failed).__name__
            if isinstance(failed, PeerLost) and failed.rank is not None:
                leave.culprit = failed.rank
        try:
            self._requests.put(pb.MemberRequest(leave=leave), timeout=max(0.01, deadline - time.monotonic()))
            self._ended.wait(max(0.01, deadline - time.monotonic()))
        finally:
            self.disconnect()

    def disconnect(self) -> None:
        """Close the connection; the server treats it as the loss of this rank unless it has left."""
        self._ending = True
        self._call.cancel()
        self._requests.put_nowait(None)
        self._thread.join(self._timeout_s)
        self.stub_channel.close()

    def _outgoing(self) -> Iterator[pb.MemberRequest]:
        number = 0
        while True:
            try:
                request = self._requests.get(timeout=self._beat_s)
            except queue.Empty:
                if self._ended.is_set():
                    return
                number += 1
                if time.monotonic() - self._heard_at > self._timeout_s + self._beat_s:
                    self.monitor.server_gone(f"{self._what} has not answered for {self._timeout_s:g} s.")
                    self._call.cancel()
                    return
                request = pb.MemberRequest(heartbeat=pb.Heartbeat(number=number))
            if request is None:
                return
            yield request

    def _listen(self) -> None:
        try:
            for event in self._call:
                self._heard_at = time.monotonic()
                self._take(event)
            self._finish(CommError(f"{self._what} ended the membership."))
        except grpc.RpcError as error:
            self._finish(error_of(error, self._what))  # type: ignore[arg-type] # the blocking call's error has the same methods

    def _take(self, event: pb.MemberEvent) -> None:
        kind = event.WhichOneof("kind")
        if kind == "lost":
            reason = event.lost.reason.rstrip(".")
            self.monitor.peer_lost(event.lost.rank, f"{reason}.")
            if self._answers.empty():
                self._answers.put(PeerLost(f"{reason}.", event.lost.rank))
        elif kind == "left":
            self.monitor.peer_left(event.left.rank)
        elif kind != "heartbeat":
            self._answers.put(event)

    def _finish(self, error: SkyfanError) -> None:
        self._ended.set()
        if not self._ending:
            self.monitor.server_gone(str(error))
        self._answers.put(error)
