"""A rank's membership in a group, as seen from the rank: one stream to the rendezvous server.

Two threads, both inside gRPC's reach: one yields requests (and a heartbeat when there is nothing else to
say), one reads events. What concerns operations goes to the `Watch`, the rest to whoever waits for it.
"""

import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc

from skyfan.comm.errors import CommError, CommTimeout, PeerLost, RendezvousLost
from skyfan.comm.watch import Watch
from skyfan.errors import SkyfanError
from skyfan.rpc.credentials import tls_from_environment
from skyfan.rpc.errors import call_metadata, error_of
from skyfan.rpc.options import channel_options
from skyfan.v1 import rendezvous_pb2 as pb
from skyfan.v1 import rendezvous_pb2_grpc as pb_grpc

_BEATS_PER_TIMEOUT = 4


def open_channel(address: str) -> grpc.Channel:
    """A blocking channel to the rendezvous server, with TLS if the environment names its files."""
    tls = tls_from_environment()
    if tls is None:
        return grpc.insecure_channel(address, options=channel_options())
    credentials = grpc.ssl_channel_credentials(tls.authority, tls.key, tls.certificate)
    return grpc.secure_channel(address, credentials, options=channel_options())


class Attendance:
    """Joins on construction; `expect` waits for the server's next answer of a kind."""

    def __init__(self, address: str, terms: pb.GroupTerms, rank: int, watch: Watch, deadline: float) -> None:
        self.address = address
        self.watch = watch
        self.stub_channel = open_channel(address)
        self.stub = pb_grpc.RendezvousStub(self.stub_channel)
        self._world_size = terms.world_size
        self._what = f"rendezvous server {address}"
        self._requests: queue.Queue[pb.AttendRequest | None] = queue.Queue(64)
        self._answers: queue.Queue[Any] = queue.Queue(16)
        self._beat_s = terms.heartbeat_timeout_s / _BEATS_PER_TIMEOUT
        self._timeout_s = terms.heartbeat_timeout_s
        self._heard_at = time.monotonic()
        self._ending = False
        self._ended = threading.Event()
        self._requests.put(pb.AttendRequest(join=pb.Join(terms=terms, rank=rank)))
        try:
            grpc.channel_ready_future(self.stub_channel).result(max(0.1, deadline - time.monotonic()))
        except grpc.FutureTimeoutError as error:
            self.stub_channel.close()
            raise RendezvousLost(
                f"{self._what} cannot be reached; check the address and that it is running."
            ) from error
        self._call = self.stub.Attend(self._say(), metadata=call_metadata())
        self._thread = threading.Thread(target=self._listen, name="skyfan-comm-attend", daemon=True)
        self._thread.start()
        try:
            self.joined: pb.Joined = self.expect("joined", deadline)
        except SkyfanError:
            self.abandon()
            raise

    def expect(self, kind: str, deadline: float) -> Any:
        """The server's next answer, which must be of this kind."""
        try:
            answer = self._answers.get(timeout=max(0.001, deadline - time.monotonic()))
        except queue.Empty as error:
            raise CommTimeout(f"{self._what} did not answer in time (waiting for {kind!r}).") from error
        if isinstance(answer, SkyfanError):
            raise answer
        found = answer.WhichOneof("kind")
        if found != kind:
            raise CommError(f"{self._what} answered {found!r} where {kind!r} was due; run one version everywhere.")
        return getattr(answer, kind)

    def say(self, **kind: Any) -> None:
        """Send a request of one kind: `say(links=...)`."""
        self._requests.put(pb.AttendRequest(**kind), timeout=self._timeout_s)

    def leave(self, failed: BaseException | None, deadline: float) -> None:
        """Say goodbye, wait until the server has heard it, and close the connection."""
        self._ending = True
        farewell = pb.Leave()
        if failed is not None:
            farewell.error = str(failed) or type(failed).__name__
            if isinstance(failed, PeerLost) and failed.rank is not None:
                farewell.culprit = failed.rank
        try:
            self._requests.put(pb.AttendRequest(leave=farewell), timeout=max(0.01, deadline - time.monotonic()))
            self._ended.wait(max(0.01, deadline - time.monotonic()))
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Cut the connection; the server notices."""
        self._ending = True
        self._call.cancel()
        self._requests.put_nowait(None)
        self._thread.join(self._timeout_s)
        self.stub_channel.close()

    def _say(self) -> Iterator[pb.AttendRequest]:
        number = 0
        while True:
            try:
                request = self._requests.get(timeout=self._beat_s)
            except queue.Empty:
                if self._ended.is_set():
                    return
                number += 1
                if time.monotonic() - self._heard_at > self._timeout_s + self._beat_s:
                    self.watch.server_gone(f"{self._what} has not answered for {self._timeout_s:g} s.")
                    self._call.cancel()
                    return
                request = pb.AttendRequest(heartbeat=pb.Heartbeat(number=number))
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

    def _take(self, event: pb.AttendEvent) -> None:
        kind = event.WhichOneof("kind")
        if kind == "lost":
            reason = event.lost.reason.rstrip(".")
            self.watch.peer_lost(event.lost.rank, f"{reason}.")
            if self._answers.empty():
                self._answers.put(PeerLost(f"{reason}.", event.lost.rank))
        elif kind == "left":
            self.watch.peer_left(event.left.rank)
        elif kind != "heartbeat":
            self._answers.put(event)

    def _finish(self, error: SkyfanError) -> None:
        self._ended.set()
        if not self._ending:
            self.watch.server_gone(str(error))
        self._answers.put(error)
