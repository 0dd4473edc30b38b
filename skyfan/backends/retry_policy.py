"""When a lost attempt is tried again, and what failed ranks end with: pure functions with Step Functions' words.

The waits are shorter than the state machine's, since no account is throttled here, and as there, a rank that
ran into its deadline is tried less often than one that was lost.

The fields are those of a state's `Retry` (Amazon States Language, "Retrying after an error",
https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html, read 2026-11).
"""

import random
from dataclasses import dataclass

from skyfan.errors import DeadlineExceeded, SkyfanError, Transient, by_name
from skyfan.records import Summary

MAX_DEADLINE_RETRIES = 3


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential backoff with full jitter. `max_attempts` counts retries, as in Step Functions."""

    interval_s: float = 0.5
    max_attempts: int = 6
    backoff_rate: float = 2.0
    max_delay_s: float = 15.0

    def delay_s(self, retry: int, rng: random.Random) -> float:
        """How long to wait before retry number `retry` (1, 2, …): uniform below the backed-off interval."""
        return rng.uniform(0, min(self.max_delay_s, self.interval_s * self.backoff_rate ** (retry - 1)))

    def should_retry(self, error: Exception, retry: int) -> bool:
        """Whether retry number `retry` should follow `error`."""
        limit = (
            min(self.max_attempts, MAX_DEADLINE_RETRIES) if isinstance(error, DeadlineExceeded) else self.max_attempts
        )
        return isinstance(error, Transient) and retry <= limit


def exceeds_tolerance(failed: int, total: int, tolerated_percentage: float) -> bool:
    """Whether a map with `failed` of `total` items failed is itself a failure."""
    return failed * 100 > tolerated_percentage * total


def first_failure(summary: Summary, account: str) -> SkyfanError:
    """The first failed rank's own error, as its class, with the account of all."""
    rank, error = min(summary.failures.items())
    name, _, sentence = error.partition(": ")
    return by_name(name, f"rank {rank} failed: {sentence} ({account})")
