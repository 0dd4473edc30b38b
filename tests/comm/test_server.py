"""The rendezvous server: who may join, what is refused and why, what expires, what callers without the token can do."""

import asyncio
import socket
import threading

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from skyfan import comm
from skyfan.comm.rendezvous.group_registry import GroupRegistry
from skyfan.comm.rendezvous.groups import EndEvent, Terms, digest
from skyfan.comm.rendezvous.limits import ENDED_S
from skyfan.comm.rendezvous.relay_queue import ByteBudget, RelayQueue
from skyfan.serving.embedded_rendezvous import EmbeddedServer
from skyfan.serving.rendezvous_server import RendezvousServer
from skyfan.settings import RendezvousLimits
from skyfan.v1 import rendezvous_pb2 as pb
from skyfan.v1 import rendezvous_pb2_grpc as pb_grpc
from tests.comm.worlds import TOKEN, run_group

pytestmark = pytest.mark.slow


def terms(**changes) -> Terms:
    given = {
        "run": "r1",
        "name": "main",
        "world_size": 3,
        "channel": "relay",
        "token_digest": digest(TOKEN),
        "capacity_bytes": 1000,
        "join_deadline_s": 10.0,
        "heartbeat_timeout_s": 5.0,
    }
    return Terms(**(given | changes))


def endpoints(address, port, count=1):
    return pb.Endpoints(candidates=[pb.Endpoint(address=address, port=port)] * count)


def full_group(core, **changes):
    wanted = terms(**changes)
    return [core.join(wanted, rank, 0.0) for rank in range(wanted.world_size)]


@pytest.fixture
def events():
    """What a member has been told so far."""

    async def drain(member):
        found = []
        while True:
            try:
                found.append(await asyncio.wait_for(member.next_event(), 0.01))
            except TimeoutError:
                return found

    with asyncio.Runner() as runner:
        yield lambda member: runner.run(drain(member))


@pytest.fixture
def core():
    return GroupRegistry(RendezvousLimits(groups=2, world_size=8, members=9, lifetime_s=100))


def test_a_group_is_full_when_the_last_rank_joins(core, events):
    first, second = core.join(terms(), 0, 0.0), core.join(terms(), 2, 1.0)
    assert events(first) == []
    core.join(terms(), 1, 4.5)
    full = pb.Full(endpoints=[pb.Endpoints()] * 3, formation_s=4.5)
    assert events(first) == events(second) == [pb.MemberEvent(full=full)]


def test_a_rank_that_joins_twice_is_refused(core):
    core.join(terms(), 1, 0.0)
    with pytest.raises(comm.GroupRefused, match="rank 1 has already joined group 'main' of run 'r1'"):
        core.join(terms(), 1, 0.0)


def test_a_surplus_rank_is_refused(core):
    with pytest.raises(comm.GroupRefused, match=r"rank 3 is one too many .* ranks 0 to 2"):
        core.join(terms(), 3, 0.0)


def test_a_late_rank_is_refused_with_why_it_is_gone(core):
    members = full_group(core)
    core.leave(members[1], "", None, 1.0)
    with pytest.raises(comm.GroupRefused, match=r"rank 1 is too late: .* rank 1 is gone \(it left\)"):
        core.join(terms(), 1, 2.0)


def test_a_rank_of_a_group_that_is_over_is_refused(core):
    for member in full_group(core):
        core.leave(member, "", None, 1.0)
    with pytest.raises(comm.GroupRefused, match="group 'main' of run 'r1' is over"):
        core.join(terms(), 1, 2.0)
    core.sweep(2.0 + ENDED_S)
    core.join(terms(), 1, 3.0 + ENDED_S)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"world_size": 4}, "rank 1 asks for world size 4 but group 'main' of run 'r1' has world size 3"),
        ({"channel": "direct"}, "asks for channel direct but"),
        ({"token_digest": digest("another token of tests")}, "has another token"),
    ],
)
def test_ranks_must_agree(core, changes, message):
    core.join(terms(), 0, 0.0)
    with pytest.raises(comm.GroupRefused, match=message):
        core.join(terms(**changes), 1, 0.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"world_size": 9}, "not within 1 to 8"),
        ({"world_size": 0}, "not within 1 to 8"),
        ({"capacity_bytes": 2**40}, "beyond the limit"),
        ({"join_deadline_s": 1e6}, "join deadline"),
        ({"join_deadline_s": float("nan")}, "join deadline"),
        ({"heartbeat_timeout_s": 0.0}, "heartbeat timeout"),
        ({"name": ""}, "1 to 200 characters"),
        ({"channel": "pigeon"}, "'pigeon' is unknown"),
    ],
)
def test_terms_beyond_the_limits_are_refused(core, changes, message):
    with pytest.raises((comm.GroupLimit, comm.GroupRefused), match=message):
        core.join(terms(**changes), 0, 0.0)
    assert core.group_count == 0


def test_groups_and_ranks_are_limited(core):
    core.join(terms(), 0, 0.0)
    core.join(terms(run="r2"), 0, 0.0)
    with pytest.raises(comm.GroupLimit, match="holds 2 groups"):
        core.join(terms(run="r3"), 0, 0.0)
    crowded = GroupRegistry(RendezvousLimits(members=2))
    crowded.join(terms(), 0, 0.0)
    crowded.join(terms(), 1, 0.0)
    with pytest.raises(comm.GroupLimit, match="holds 2 ranks"):
        crowded.join(terms(), 2, 0.0)


def test_the_same_name_in_another_run_is_another_group(core):
    core.join(terms(), 1, 0.0)
    core.join(terms(run="r2", world_size=2), 1, 0.0)
    assert core.group_count == 2


def test_a_group_that_is_not_full_in_time_ends_and_names_who_is_missing(core, events):
    waiting = core.join(terms(), 1, 0.0)
    core.heartbeat(waiting, 9.9)
    core.sweep(9.9)
    assert events(waiting) == []
    core.sweep(10.1)
    (end,) = events(waiting)
    assert isinstance(end.error, comm.GroupIncomplete)
    assert str(end.error).endswith("was not full after 10 s: ranks 0, 2 did not join.")
    assert core.group_count == core.member_count == 0


def test_a_rank_that_dies_while_the_group_forms_may_join_again(core):
    core.join(terms(), 0, 0.0)
    first = core.join(terms(), 1, 0.0)
    core.disconnect(first, 1.0)
    core.join(terms(), 1, 2.0)
    core.join(terms(), 2, 2.0)


def test_a_silent_rank_is_lost_and_the_others_are_told(core, events):
    members = full_group(core)
    for member in members[1:]:
        core.heartbeat(member, 5.0)
    core.sweep(5.5)
    assert isinstance(events(members[0])[-1], EndEvent)
    for member in members[1:]:
        assert events(member)[-1].lost == pb.RankLost(rank=0, reason="rank 0 was lost: no sign of life for 5.5 s.")


def test_leaving_losing_and_giving_up_are_told_apart(core, events):
    members = full_group(core, world_size=4)
    core.leave(members[0], "", None, 1.0)
    core.disconnect(members[1], 1.0)
    core.leave(members[2], "rank 1 was lost: its connection ended.", 1, 1.0)
    core.disconnect(members[2], 1.0)
    told = events(members[3])[1:]
    assert told[0].left == pb.RankLeft(rank=0)
    assert (told[1].lost.rank, told[2].lost.rank) == (1, 1)
    assert len(told) == 3


def test_an_old_group_expires(core, events):
    members = full_group(core)
    for member in members:
        core.heartbeat(member, 101.0)
    core.sweep(101.0)
    assert "has expired" in str(events(members[0])[-1].error)
    with pytest.raises(comm.GroupRefused, match="unknown"):
        core.begin_relay(members[0].key)


def test_a_pair_is_direct_only_if_both_ends_say_so(core, events):
    members = full_group(core, channel="direct")
    for member in members:
        core.endpoints(member, endpoints("192.0.2.1", 7), 0.5)
    core.links(members[0], frozenset({1, 2}))
    core.links(members[1], frozenset({0, 2}))
    core.links(members[2], frozenset({1}))
    paths = [next(each.paths for each in events(member) if each.HasField("paths")) for member in members]
    assert [list(path.relayed) for path in paths] == [[2], [], [0]]


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda core, member: core.endpoints(member, endpoints("a name", 7), 0.0), "'a name' is not an IP address"),
        (lambda core, member: core.endpoints(member, endpoints("::1", 70_000), 0.0), "70000 is not a TCP port"),
        (lambda core, member: core.endpoints(member, endpoints("::1", 7, 9), 0.0), "at most 8 of them"),
        (lambda core, member: core.links(member, frozenset({3})), "reported once, by their ranks"),
        (lambda core, member: core.links(member, frozenset({member.rank})), "reported once, by their ranks"),
        (lambda core, member: core.leave(member, "", 3, 0.0), "names rank 3, which is none of group 'main'"),
    ],
)
def test_what_a_member_may_not_send_is_refused_with_a_sentence(core, call, sentence):
    member = core.join(terms(channel="direct"), 0, 0.0)
    with pytest.raises(comm.GroupRefused, match=sentence):
        call(core, member)


def test_a_member_reports_its_connections_once(core):
    members = full_group(core, channel="direct")
    core.links(members[0], frozenset())
    with pytest.raises(comm.GroupRefused, match="reported once"):
        core.links(members[0], frozenset())


def test_only_ranks_of_direct_groups_send_addresses_and_connections(core):
    member = core.join(terms(), 0, 0.0)
    for call in (lambda: core.endpoints(member, (), 0.0), lambda: core.links(member, frozenset())):
        with pytest.raises(comm.GroupRefused, match="only ranks of direct groups"):
            call()


def test_a_token_beyond_a_kilobyte_is_refused():
    with pytest.raises(comm.GroupRefused, match="at most 1,024 characters"):
        digest("x" * 1025)


def test_the_relay_waits_while_a_rank_or_the_server_is_full():
    async def scenario():
        server, relay_queue = ByteBudget(1000), RelayQueue(100)
        await relay_queue.put(pb.RelayFrame(data=b"x" * 90), server)
        blocked = asyncio.create_task(relay_queue.put(pb.RelayFrame(data=b"y" * 20), server))
        await asyncio.sleep(0.01)
        assert not blocked.done()
        relay_queue.sent(await relay_queue.get())
        await asyncio.wait_for(blocked, 60)
        assert server.used_bytes == 20
        over = asyncio.create_task(RelayQueue(10_000).put(pb.RelayFrame(peer=1, data=b"z" * 990), server))
        await asyncio.sleep(0.01)
        assert not over.done()
        over.cancel()
        relay_queue.close()
        return server.used_bytes

    assert asyncio.run(scenario()) == 0


def test_a_sender_that_goes_while_the_server_is_full_takes_no_room_of_its_peer():
    async def scenario():
        server, relay_queue = ByteBudget(100), RelayQueue(100)
        await server.take(100)
        sending = asyncio.create_task(relay_queue.put(pb.RelayFrame(data=b"x" * 60), server))
        await asyncio.sleep(0)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        server.give(100)
        await asyncio.wait_for(relay_queue.put(pb.RelayFrame(data=b"y" * 60), server), 20)
        return (await relay_queue.get()).data

    assert asyncio.run(scenario()) == b"y" * 60


def test_frames_for_strangers_are_refused(core):
    members = full_group(core)
    with pytest.raises(comm.GroupRefused, match="not one of its peers"):
        asyncio.run(core.relay(members[0], pb.RelayFrame(peer=7, data=b"x")))


def test_the_observer_tells_the_address_and_port_it_sees(server):
    with socket.create_connection(("127.0.0.1", server.server.observer.port), 60) as sock:
        own = sock.getsockname()
        assert sock.makefile().readline() == f"SKYFAN1 127.0.0.1 {own[1]}\n"
        assert sock.recv(1) == b""


def test_health_and_reflection(server):
    with grpc.insecure_channel(server.address) as channel:
        name = "skyfan.v1.Rendezvous"
        health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=name), timeout=60)
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        listed = next(reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(asked, timeout=60))
        assert name in [each.name for each in listed.list_services_response.service]


def test_the_shared_token_is_required_on_every_call(monkeypatch):
    monkeypatch.setenv("SKYFAN_TOKEN", "the server's token")
    with EmbeddedServer() as server:
        run_group(2, lambda ranks: ranks.barrier(), channel="relay", rendezvous=server.address)
        with grpc.insecure_channel(server.address) as channel:
            requests = iter([pb.MemberRequest(heartbeat=pb.Heartbeat())])
            joined = pb_grpc.RendezvousStub(channel).JoinGroup(requests, timeout=60)
            with pytest.raises(grpc.RpcError) as caught:
                next(joined)
    assert "no valid token" in caught.value.details()


def test_the_server_looks_for_lost_ranks_after_a_look_that_failed(monkeypatch):
    looks, again = [], threading.Event()

    def sweep(registry, now):
        looks.append(now)
        if len(looks) == 1:
            raise LookupError("unforeseen")
        again.set()

    monkeypatch.setattr(GroupRegistry, "sweep", sweep)
    with EmbeddedServer():
        assert again.wait(60)


def test_an_embedded_server_says_why_it_did_not_start(monkeypatch):
    async def start(server, host, port, observer_port):
        raise LookupError("unforeseen")

    monkeypatch.setattr(RendezvousServer, "start", start)
    with pytest.raises(LookupError, match="unforeseen"), EmbeddedServer():
        pytest.fail("it did not start")
