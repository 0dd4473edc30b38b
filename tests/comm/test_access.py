"""A rendezvous server refuses callers without the token, and members whose messages are malformed or too many."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import uuid

import grpc
import pytest

from skyfan.serving.embedded_rendezvous import EmbeddedServer
from skyfan.serving.rendezvous import DEFAULT_ADDRESS
from skyfan.settings import RendezvousLimits
from skyfan.v1 import rendezvous_pb2 as pb
from skyfan.v1 import rendezvous_pb2_grpc as pb_grpc
from tests.comm.worlds import TOKEN, run_group

pytestmark = pytest.mark.slow

SERVICE_TOKEN = "the services' token"
METHODS = ("JoinGroup", "Relay")


@pytest.fixture
def protected(monkeypatch):
    """A server with a token, which this process's own calls carry through `skyfan` and not through `stranger`."""
    monkeypatch.setenv("SKYFAN_TOKEN", SERVICE_TOKEN)
    with EmbeddedServer() as running:
        yield running


@pytest.fixture
def stranger(protected):
    with grpc.insecure_channel(protected.address) as channel:
        yield channel


def raw(channel, method, messages, metadata=()):
    """The error of a call that sends these bytes as they are."""
    call = channel.stream_stream(f"/skyfan.v1.Rendezvous/{method}")
    with pytest.raises(grpc.RpcError) as caught:
        for _ in call(messages, timeout=60, metadata=metadata):
            pass
    return caught.value


@pytest.mark.parametrize("method", METHODS)
def test_a_call_without_the_token_is_refused_before_it_has_sent_anything(stranger, method):
    def never_ends():
        threading.Event().wait(120)
        yield b""

    refused = raw(stranger, method, never_ends())
    assert refused.code() == grpc.StatusCode.UNAUTHENTICATED
    assert "no valid token; set SKYFAN_TOKEN" in refused.details()


@pytest.mark.parametrize("method", METHODS)
def test_calls_without_the_token_leave_nothing_behind(protected, stranger, method):
    for _ in range(100):
        raw(stranger, method, iter([b"\x0a"]), (("skyfan-token", "a guess"),))
    assert protected.server.registry.member_count == 0
    run_group(2, lambda ranks: ranks.barrier(), channel="relay", rendezvous=protected.address)


@contextlib.contextmanager
def member(server):
    """The key of a rank that has joined a group."""
    ending = threading.Event()
    terms = pb.GroupTerms(run=uuid.uuid4().hex, name="main", world_size=2, channel="relay", token=TOKEN)
    terms.join_deadline_s = terms.heartbeat_timeout_s = 60.0

    def requests():
        yield pb.MemberRequest(join=pb.Join(terms=terms, rank=0))
        ending.wait(60)

    with grpc.insecure_channel(server.address) as channel:
        events = pb_grpc.RendezvousStub(channel).JoinGroup(requests(), timeout=60)
        yield next(events).joined.member_key
        ending.set()
        events.cancel()


@pytest.mark.parametrize("method", METHODS)
def test_a_message_that_cannot_be_read_is_answered_with_a_sentence(server, method):
    with member(server) as key, grpc.insecure_channel(server.address) as channel:
        failed = raw(channel, method, iter([b"\xff\xff\xff"]), (("skyfan-member", key),))
    assert failed.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "the request cannot be read" in failed.details()


def test_connections_beyond_the_limit_are_closed():
    with EmbeddedServer(limits=RendezvousLimits(members=4)) as small, contextlib.ExitStack() as stack:
        host, _, port = small.address.rpartition(":")
        idle = [stack.enter_context(socket.create_connection((host, int(port)), 60)) for _ in range(4 + 256 + 40)]
        for refused in idle[-40:]:
            with contextlib.suppress(ConnectionResetError):
                while refused.recv(4096):
                    pass


def test_a_member_has_one_relay_stream(server):
    ending = threading.Event()

    def waiting():
        ending.wait(60)
        yield from ()

    with member(server) as key, grpc.insecure_channel(server.address) as channel:
        metadata = (("skyfan-member", key),)
        first = pb_grpc.RendezvousStub(channel).Relay(waiting(), timeout=60, metadata=metadata)
        first.initial_metadata()  # it has begun
        second = raw(channel, "Relay", iter([]), metadata)
        ending.set()
        first.cancel()
    assert second.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "has a relay stream already" in second.details()


@pytest.mark.parametrize("token", ["", SERVICE_TOKEN])
def test_a_server_without_a_token_warns(token):
    command = [sys.executable, "-m", "services.rendezvous", "--address", "0.0.0.0:0", "--observer-port", "0"]
    done = subprocess.run(  # with `--announce` it ends with its standard input
        [*command, "--announce"],
        input="",
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"SKYFAN_TOKEN": token},
        check=True,
    )
    assert ("set SKYFAN_TOKEN" in done.stderr) == (not token)


def test_a_server_listens_on_loopback_unless_told_otherwise():
    assert DEFAULT_ADDRESS.startswith("127.0.0.1:")
