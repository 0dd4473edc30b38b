"""The channel through a store: every message is one object, so that no server is needed.

`skyfan.comm.store_layout` has the objects' keys. The rank that leaves last deletes what is left.
"""

import contextlib
import json
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from skyfan import store
from skyfan.comm.channel import Channel, Parts, Poisoning, Request, Tag, require_time
from skyfan.comm.errors import (
    CommError,
    GroupIncomplete,
    GroupRefused,
    PeerLost,
    name_ranks,
)
from skyfan.comm.frames import HEADER, pack_header, require_fit, require_same_operation, unpack_header
from skyfan.comm.peer_monitor import left_error, lost_error
from skyfan.comm.store_layout import StoreLayout, delete_folders
from skyfan.comm.waiting import require_running
from skyfan.errors import Interrupted, LocationError, SkyfanError, Transient

_POLL_S, _MAX_POLL_S = 0.002, 0.25
_BEATS_PER_TIMEOUT = 4
_THREADS = 8
_DELETE_AFTER_S = 1.0
_LEAST_CLOSE_S = 5.0  # disks of busy machines need seconds to sync a file


class _Inbox:
    """What one peer has sent."""

    def __init__(self) -> None:
        self.next_number = 0
        self.posted: deque[Request] = deque()
        self.unexpected: deque[tuple[Tag, int, memoryview]] = deque()


class StoreChannel(Channel):
    """Joins on construction, which returns when all ranks have joined; arguments as of `skyfan.comm.connect`.

    Messages lie below the folder `uri`. A rank whose heartbeat does not change for `heartbeat_timeout_s` is lost.

    Raises:
        GroupRefused: a name cannot be used, the rank has joined before, or others have another world size.
        GroupIncomplete: not all ranks joined in time; names those that are missing.
        Interrupted: `cancelled` was set.
    """

    name = "store"

    def __init__(
        self,
        uri: str,
        run: str,
        group: str,
        rank: int,
        world_size: int,
        *,
        join_timeout_s: float,
        heartbeat_timeout_s: float,
        cancelled: threading.Event | None = None,
    ) -> None:
        self.rank, self.world_size = rank, world_size
        self._keys = StoreLayout(uri, run, group, rank, world_size)
        self._heartbeat_timeout_s = heartbeat_timeout_s
        self._cancelled = cancelled
        self._sent_numbers: dict[int, int] = {}
        self._inboxes = {peer: _Inbox() for peer in range(world_size) if peer != rank}
        self._sending: dict[int, tuple[Request, Future[Any]]] = {}
        self._restarted: dict[int, str] = {}  # rank: the ETag whose time was begun again
        self._gone: dict[int, PeerLost | None] = {}
        self._checked_at = time.monotonic()
        self._consumed: deque[tuple[float, str]] = deque()
        self._stopping = threading.Event()
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="skyfan-comm-store")
        self._heartbeats = threading.Thread(target=self._beat, name="skyfan-comm-heart", daemon=True)
        try:
            self._join(group, time.monotonic() + join_timeout_s, join_timeout_s)
        except BaseException:
            self._pool.shutdown(wait=False)
            raise
        # Rank: its heartbeat's ETag, and since when that has not changed: from now on, as it may die before its first.
        self._seen = dict.fromkeys(self._inboxes, ("", time.monotonic()))
        self._heartbeats.start()

    def isend(self, dst: int, tag: Tag, parts: Parts, check: int = 0) -> Request:
        """Start sending `parts` to rank `dst`; see `Channel.isend`."""
        self.check()
        request = Request(dst, tag, check)
        number = self._sent_numbers.get(dst, 0)
        self._sent_numbers[dst] = number + 1
        length = sum(part.nbytes for part in parts)
        data = b"".join((pack_header(tag, check, length), *parts))
        done = self._pool.submit(store.put_new, self._keys.message_uri(self.rank, dst, number), data)
        self._sending[id(request)] = (request, done)
        return request

    def irecv(self, src: int, tag: Tag, into: memoryview | None = None, check: int = 0) -> Request:
        """Post a receive from rank `src`; see `Channel.irecv`."""
        self.check()
        request = Request(src, tag, check, into)
        inbox = self._inboxes[src]
        inbox.posted.append(request)
        for _ in range(len(inbox.unexpected)):
            self._deliver(src, *inbox.unexpected.popleft())
        return request

    def wait(self, requests: Iterable[Request], deadline: float) -> None:
        """Block until `requests` are done; see `Channel.wait`."""
        self._delete_consumed()
        pending = list(requests)
        pause_s = _POLL_S
        with Poisoning(self):
            while True:
                self.check()
                progress = self._poll({each.peer for each in pending if not each.done})
                pending = [each for each in pending if not each.done]
                # Also where messages keep coming: a root that sends only waits for nobody.
                self._raise_if_lost(pending)
                if not pending:
                    return
                if progress:
                    pause_s = _POLL_S
                    continue
                require_running(self._cancelled, str(pending[0].tag))
                now = time.monotonic()
                require_time(pending, now, deadline)
                time.sleep(min(pause_s * random.uniform(0.7, 1.3), deadline - now))  # noqa: S311 (jitter)
                pause_s = min(1.5 * pause_s, _MAX_POLL_S)

    def close(self, failed: BaseException | None, timeout_s: float) -> None:
        """End this rank's part; see `Channel.close`."""
        deadline = time.monotonic() + timeout_s
        self._stopping.set()
        self._heartbeats.join(timeout_s)
        _ended_by(deadline, self._pool.shutdown)
        culprit, error = self.rank, ""
        if isinstance(failed, PeerLost) and failed.rank is not None:
            culprit, error = failed.rank, str(failed)
        elif failed is not None:
            error = f"rank {self.rank} gave up: {str(failed) or type(failed).__name__}"
        uri, told = self._keys.status_uri(self.rank, "gone"), json.dumps({"error": error, "culprit": culprit}).encode()
        if not _ended_by(deadline, lambda: store.put(uri, told)):
            if failed is None:
                raise CommError(f"the end of rank {self.rank} could not be told: {self._keys.prefix} does not answer.")
            return  # the others miss its heartbeat
        # Not finding what was there a moment ago means that another rank was the last and has deleted it.
        with contextlib.suppress(LocationError):
            self._delete_if_last(failed)

    def _delete_if_last(self, failed: BaseException | None) -> None:
        self._read_status()
        blamed = {lost.rank for lost in (*self._gone.values(), failed) if isinstance(lost, PeerLost)}
        if len(set(self._gone) | blamed | {self.rank}) == self.world_size:
            for info in store.list(self._keys.prefix):
                store.delete(info.uri)
            delete_folders(self._keys.prefix)

    def _join(self, group: str, deadline: float, join_timeout_s: float) -> None:
        try:
            store.put_new(self._keys.member_uri, b"joined")
        except store.AlreadyExists as error:
            raise GroupRefused(
                f"rank {self.rank} has already joined group {group!r} in {self._keys.prefix}; give every process its "
                "own rank and every run its own name."
            ) from error
        try:
            self._wait_for_members(group, deadline, join_timeout_s)
        except (GroupIncomplete, Interrupted):
            store.delete(self._keys.member_uri)
            raise

    def _wait_for_members(self, group: str, deadline: float, join_timeout_s: float) -> None:
        pause_s = _POLL_S
        seen: set[int] = set()
        while True:
            joined, sizes = self._members()
            seen |= joined
            if sizes != {self.world_size}:
                others = ", ".join(str(size) for size in sorted(sizes - {self.world_size}))
                raise GroupRefused(
                    f"rank {self.rank} asks for world size {self.world_size} but others in group {group!r} have "
                    f"{others}; start all ranks alike."
                )
            if len(joined) == self.world_size:
                return
            require_running(self._cancelled, f"joining group {group!r}")
            if time.monotonic() > deadline:
                missing = set(range(self.world_size)) - seen
                raise GroupIncomplete(
                    f"group {group!r} was not full after {join_timeout_s:g} s: {name_ranks(missing)} did not join."
                )
            time.sleep(pause_s * random.uniform(0.7, 1.3))  # noqa: S311 (jitter)
            pause_s = min(1.5 * pause_s, _MAX_POLL_S)

    def _members(self) -> tuple[set[int], set[int]]:
        joined, sizes = set(), set()
        for info in store.list(store.join(self._keys.prefix, "member")):
            rank, _, size = info.uri.rpartition("/")[2].partition("-of-")
            joined.add(int(rank))
            sizes.add(int(size))
        return joined, sizes

    def _poll(self, peers: set[int]) -> bool:
        """Look for the next message of each peer, and at what was sent; True if anything moved."""
        moved = False
        for key, (request, done) in list(self._sending.items()):
            if done.done():
                done.result()
                request.done = True
                del self._sending[key]
                moved = True
        waiting = [peer for peer in peers if self._inboxes[peer].posted]
        for peer, data in zip(waiting, self._pool.map(self._fetch, waiting), strict=True):
            if data is not None:
                self._consumed.append((time.monotonic(), self._keys.message_uri(peer, self.rank, self._number(peer))))
                self._inboxes[peer].next_number += 1
                view = memoryview(data)
                tag, check, length = unpack_header(view, peer)
                if view.nbytes != HEADER.size + length:
                    raise CommError(f"a message of rank {peer} is not complete; its object was changed.")
                self._deliver(peer, tag, check, view[HEADER.size :])
                moved = True
        return moved

    def _fetch(self, peer: int) -> bytes | None:
        """The peer's next message if it is there."""
        try:
            return store.read(self._keys.message_uri(peer, self.rank, self._number(peer)))
        except (LocationError, Transient):
            return None  # not written yet, or the store failed: tried again until the deadline

    def _number(self, peer: int) -> int:
        return self._inboxes[peer].next_number

    def _delete_consumed(self) -> None:
        """Delete what was read a while ago: its writer may still be looking at what it has just written."""
        before = time.monotonic() - _DELETE_AFTER_S
        while self._consumed and self._consumed[0][0] < before:
            self._pool.submit(store.delete, self._consumed.popleft()[1])

    def _deliver(self, peer: int, tag: Tag, check: int, data: memoryview) -> None:
        inbox = self._inboxes[peer]
        for index, request in enumerate(inbox.posted):
            if request.tag == tag:
                del inbox.posted[index]
                require_fit(request, check, data.nbytes)
                if request.data is None:
                    request.data = np.frombuffer(data, np.uint8).copy().data if data.nbytes else data
                elif data.nbytes:
                    request.data[:] = data
                request.done = True
                return
            require_same_operation(request, tag)
        inbox.unexpected.append((tag, check, data))

    def _raise_if_lost(self, pending: list[Request]) -> None:
        """Four times a heartbeat timeout: raise if a rank was lost, or left while this one waits for it."""
        now = time.monotonic()
        if now - self._checked_at < self._heartbeat_timeout_s / _BEATS_PER_TIMEOUT:
            return
        unwatched = now - self._checked_at > self._heartbeat_timeout_s
        self._checked_at = now
        self._read_status()
        if unwatched:
            self._begin_again(now)
        for lost in self._gone.values():
            if lost is not None:
                raise lost
        for rank, (_, since) in self._seen.items():
            if rank not in self._gone and now - since > self._heartbeat_timeout_s:
                raise lost_error(rank, f"no sign of life for {now - since:.1f} s")
        for request in pending:
            if request.peer in self._gone and not self._poll({request.peer}) and not request.done:
                raise left_error(request.peer)

    def _begin_again(self, now: float) -> None:
        """Nothing was read for a while before `now`: the others may have been stopped with this rank, as machines are.

        The time of a heartbeat begins again once: else a root that sends only, now and then, would never miss a rank.
        """
        for rank, (etag, since) in self._seen.items():
            if since <= now and self._restarted.get(rank) != etag:
                self._restarted[rank], self._seen[rank] = etag, (etag, now)

    def _read_status(self) -> None:
        now = time.monotonic()
        for info in store.list(store.join(self._keys.prefix, "status")):
            rank, _, kind = info.uri.rpartition("/")[2].partition("-")
            if int(rank) == self.rank:
                continue
            if kind == "alive":
                if self._seen[int(rank)][0] != info.etag:
                    self._seen[int(rank)] = (info.etag, now)
            elif int(rank) not in self._gone:
                content = json.loads(store.read(info.uri))
                self._gone[int(rank)] = PeerLost(content["error"], content["culprit"]) if content["error"] else None

    def _beat(self) -> None:
        number = 0
        while True:
            number += 1
            try:
                store.put(self._keys.status_uri(self.rank, "alive"), str(number).encode())
            except Transient:
                pass  # the other ranks tolerate several missing heartbeats
            except Exception as error:  # noqa: BLE001 (nobody hears this thread, and the others take this rank for lost)
                if not isinstance(error, SkyfanError):
                    error = CommError(f"this rank's heartbeats ended: {type(error).__name__} {error}".rstrip() + ".")
                self.failure = self.failure or error
                return
            if self._stopping.wait(self._heartbeat_timeout_s / _BEATS_PER_TIMEOUT):
                return


def _ended_by(deadline: float, work: Callable[[], object]) -> bool:
    """Whether `work` has ended by then, at least `_LEAST_CLOSE_S` from now; raises what it raised.

    On a thread of its own: a store that does not answer must not delay a rank's end.
    """
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 (raised again below)
            errors.append(error)

    thread = threading.Thread(target=run, name="skyfan-comm-close", daemon=True)
    thread.start()
    thread.join(max(_LEAST_CLOSE_S, deadline - time.monotonic()))
    if errors:
        raise errors[0]
    return not thread.is_alive()
