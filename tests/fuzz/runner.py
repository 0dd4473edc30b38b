"""Runs many executions of one target and tells what went wrong: another error, a long time, much memory, a crash."""

import argparse
import faulthandler
import resource
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random

from skyfan.errors import BadInput

# Only against hangs: an execution takes about a millisecond, the longest some seconds.
HANG_S = 60
Target = Callable[[Random], None]


class Hang(Exception):
    """An execution that did not end."""


def run(target: Target, allowed: type[BadInput], executions: int, seed: int, first: int = 0) -> Counter[str]:
    """How often the target ended with success and with the error `allowed`.

    Raises:
        AssertionError: an execution ended in any other way; the message is the command that repeats it.
    """
    outcomes: Counter[str] = Counter()
    for number in range(first, first + executions):
        try:
            with _guarded():
                target(Random(f"{seed}:{number}"))
        except allowed as error:
            sentence = str(error)
            assert sentence.isprintable(), f"--seed {seed} --first {number} --executions 1: {sentence!r}"
            outcomes["refused"] += 1
        except (Exception, MemoryError, Hang) as error:
            raise AssertionError(f"--seed {seed} --first {number} --executions 1: {error!r}") from error
        else:
            outcomes["read"] += 1
    return outcomes


@contextmanager
def _guarded() -> Iterator[None]:
    def hang(_number: int, _frame: object) -> None:
        raise Hang(f"no end after {HANG_S} s")

    before = signal.signal(signal.SIGALRM, hang)
    signal.alarm(HANG_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def main(target: Target, allowed: type[BadInput]) -> None:
    """The command line of a target."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--executions", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--memory-gb", type=int, default=4, help="address space, beyond which it is a MemoryError")
    options = parser.parse_args()
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_AS, (options.memory_gb * 2**30,) * 2)
    started = time.monotonic()
    outcomes = run(target, allowed, options.executions, options.seed, options.first)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{options.executions} executions in {time.monotonic() - started:.0f} s: {dict(outcomes)}, peak {peak_mb} MB")
