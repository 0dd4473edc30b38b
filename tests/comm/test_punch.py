"""Who may become a peer over TCP: only who knows the group's token, and is the rank it says it is."""

import asyncio
import socket
import time

import pytest

from skyfan.comm.punch import LocalPort, Puncher
from tests.comm.worlds import TOKEN

pytestmark = pytest.mark.slow


async def punch(first: Puncher, second: Puncher, ports: list[LocalPort], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    loopback = "::1" if ports[0].family == socket.AF_INET6 else "127.0.0.1"
    await asyncio.gather(
        first.connect({1: [(loopback, ports[1].port)]}, deadline),
        second.connect({0: [(loopback, ports[0].port)]}, deadline),
    )


@pytest.fixture(params=[socket.AF_INET, socket.AF_INET6])
def ports(request):
    pair = [LocalPort(request.param), LocalPort(request.param)]
    yield pair
    for port in pair:
        port.listener.close()


def close_all(*punchers: Puncher) -> None:
    for puncher in punchers:
        for link in puncher.links.values():
            link.close()


def test_two_ranks_with_one_token_share_one_connection(ports):
    first, second = Puncher(0, "s", TOKEN, ports[:1]), Puncher(1, "s", TOKEN, ports[1:])
    asyncio.run(punch(first, second, ports, 60.0))
    first.links[1].sendall(b"to one")
    assert second.links[0].recv(100) == b"to one"
    assert first.links[1].getsockname() == second.links[0].getpeername()
    close_all(first, second)


@pytest.mark.parametrize("change", [{"token": "another token of tests"}, {"session": "another"}, {"rank": 2}])
def test_another_token_session_or_rank_is_no_peer(ports, change):
    given = {"rank": 1, "session": "s", "token": TOKEN} | change
    first, second = (
        Puncher(0, "s", TOKEN, ports[:1]),
        Puncher(given["rank"], given["session"], given["token"], ports[1:]),
    )
    asyncio.run(punch(first, second, ports, 0.7))
    assert first.links == second.links == {}


def test_strangers_do_not_keep_peers_away(ports):
    first, second = Puncher(0, "s", TOKEN, ports[:1]), Puncher(1, "s", TOKEN, ports[1:])
    loopback = "::1" if ports[0].family == socket.AF_INET6 else "127.0.0.1"
    strangers = [socket.create_connection((loopback, ports[number % 2].port)) for number in range(20)]
    strangers[0].sendall(b"GET / HTTP/1.1\r\nHost: skyfan\r\n\r\n" * 10)
    asyncio.run(punch(first, second, ports, 60.0))
    assert set(first.links) == {1}
    assert set(second.links) == {0}
    close_all(first, second)
    for stranger in strangers:
        stranger.close()
