"""channel="auto" chooses by its model, and says why."""

import pytest

from skyfan import comm
from skyfan.comm.channel_choice import MODELS, allreduce_s
from skyfan.errors import BadInput

BOTH = {"has_rendezvous": True, "has_store": True, "direct_max_world_size": 64}


def choose(channel="auto", world_size=8, typical_bytes=1024, prefer="fast", **options):
    return comm.choose(channel, world_size, typical_bytes=typical_bytes, prefer=prefer, **{**BOTH, **options})


def test_the_fastest_is_direct_and_the_reason_lists_what_it_was_compared_with():
    choice = choose()
    assert choice.channel == "direct"
    assert choice.why.startswith("direct is the fastest for an allreduce of 1024 bytes on 8 ranks")
    assert all(name in choice.why for name in MODELS)


def test_beyond_the_direct_limit_the_relay_is_taken_and_the_limit_named():
    choice = choose(world_size=100)
    assert choice.channel == "relay"
    assert "direct connects every pair of ranks, at most 64 ranks" in choice.why


def test_without_a_server_the_store_is_what_is_left():
    choice = choose(has_rendezvous=False)
    assert choice.channel == "store"
    assert "relay needs the address of a rendezvous server" in choice.why


def test_the_cheapest_pays_for_no_request_and_for_the_shortest_wait():
    assert choose(prefer="cheap").channel == "direct"
    assert "$" in choose(prefer="cheap").why


def test_the_model_is_latency_plus_size_over_bandwidth_times_the_rounds():
    assert allreduce_s("store", 8, 50_000_000) == pytest.approx(3 * (0.040 + 1.0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channel": "mpi"}, "'mpi' is unknown"),
        ({"channel": "direct", "has_rendezvous": False}, "needs the address of a rendezvous server"),
        ({"channel": "direct", "world_size": 65}, "at most 64 ranks"),
        ({"channel": "store", "has_store": False}, "needs a URI"),
        ({"has_rendezvous": False, "has_store": False}, "no channel can be used"),
        ({"prefer": "nice"}, "must be fast or cheap"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(BadInput, match=message):
        choose(**options)
