"""The choice of a channel by a model of latency, bandwidth and price.

Time of one message is latency + size / bandwidth. The constants for direct and store are FMI's measurements
on AWS (Copik et al., ICS'23: direct 0.34 ms and 400 MB/s, S3 40 ms and 50 MB/s); for the relay, FMI's
measurement of Redis: 5.2 ms and 100 MB/s. Prices are those of us-east-1 (see `skyfan.cost`): a message
through S3 is one PUT and, with polling, about two GETs; the others pay for the rendezvous server only, an
hour of 0.25 vCPU and 0.5 GB of Fargate, which is charged to the run per second and so is not per message.
"""

import math
from dataclasses import dataclass

from skyfan.errors import BadInput

CHANNELS = ("direct", "relay", "store")
PUT_USD, GET_USD = 0.005 / 1000, 0.0004 / 1000
RANK_SECOND_USD = 1.769 * 0.0000166667  # a Lambda function of one vCPU waits as long as a message takes
SERVER_SECOND_USD = (0.25 * 0.04048 + 0.5 * 0.004445) / 3600


@dataclass(frozen=True)
class ChannelModel:
    """Time and price of a message: latency in s, bandwidth in bytes/s, price in USD a message."""

    latency_s: float
    bandwidth_bytes_per_s: float
    message_usd: float

    def time_s(self, size_bytes: int) -> float:
        """Seconds that one message takes from one rank to another."""
        return self.latency_s + size_bytes / self.bandwidth_bytes_per_s


MODELS = {
    "direct": ChannelModel(0.34e-3, 400e6, 0.0),
    "relay": ChannelModel(5.2e-3, 100e6, 0.0),
    "store": ChannelModel(40e-3, 50e6, PUT_USD + 2 * GET_USD),
}


@dataclass(frozen=True)
class Choice:
    """A channel and, in one sentence, why."""

    channel: str
    why: str


def allreduce_s(channel: str, world_size: int, size_bytes: int) -> float:
    """Seconds of an allreduce by recursive doubling, by which channels are compared."""
    return math.ceil(math.log2(max(2, world_size))) * MODELS[channel].time_s(size_bytes)


def allreduce_usd(channel: str, world_size: int, size_bytes: int) -> float:
    """USD of that allreduce: its messages, the ranks' waiting time, and the server's time where there is one."""
    model, wait_s = MODELS[channel], allreduce_s(channel, world_size, size_bytes)
    messages = world_size * math.ceil(math.log2(max(2, world_size)))
    server = 0.0 if channel == "store" else SERVER_SECOND_USD * wait_s
    return messages * model.message_usd + world_size * wait_s * RANK_SECOND_USD + server


def choose(
    channel: str,
    world_size: int,
    *,
    has_rendezvous: bool,
    has_store: bool,
    typical_bytes: int,
    prefer: str,
    direct_max_world_size: int,
) -> Choice:
    """The channel to use: the user's, or with "auto" the one that is best for an allreduce of `typical_bytes` a rank.

    It depends only on what is the same on all ranks, so that they choose alike. `prefer` is "fast" or "cheap".

    Raises:
        BadInput: the channel is unknown or lacks what it needs, or no channel can be used.
    """
    missing = {
        "direct": None if has_rendezvous else "needs the address of a rendezvous server",
        "relay": None if has_rendezvous else "needs the address of a rendezvous server",
        "store": None if has_store else "needs a URI for its objects",
    }
    if channel not in (*CHANNELS, "auto"):
        raise BadInput(f"channel {channel!r} is unknown; use auto, {', '.join(CHANNELS)}.")
    if world_size > direct_max_world_size:
        missing["direct"] = f"connects every pair of ranks, at most {direct_max_world_size} ranks"
    if channel != "auto":
        if missing[channel]:
            raise BadInput(f"channel {channel} {missing[channel]}; choose another channel or give what it needs.")
        return Choice(channel, f"{channel} was asked for.")
    usable = [each for each in CHANNELS if missing[each] is None]
    if not usable:
        raise BadInput("no channel can be used: give the address of a rendezvous server or a store URI.")
    if prefer not in ("fast", "cheap"):
        raise BadInput(f"prefer={prefer!r} must be fast or cheap.")
    measure = allreduce_s if prefer == "fast" else allreduce_usd
    estimates = {each: measure(each, world_size, typical_bytes) for each in usable}
    best = min(usable, key=lambda each: estimates[each])
    listed = ", ".join(_estimate(each, estimates[each], prefer) for each in usable)
    unusable = "".join(f"; {each} {why}" for each, why in missing.items() if why)
    return Choice(
        best,
        f"{best} is the {'fastest' if prefer == 'fast' else 'cheapest'} for an allreduce of {typical_bytes} bytes on "
        f"{world_size} ranks by the model ({listed}){unusable}.",
    )


def _estimate(channel: str, value: float, prefer: str) -> str:
    return f"{channel} {value * 1e3:.2f} ms" if prefer == "fast" else f"{channel} ${value:.2e}"
