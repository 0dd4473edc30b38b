"""Why a rank of an array failed: one file a failed attempt, which the aggregator reads.

The task that failed is gone by then, and its scheduler keeps no more than an exit code.
"""

import re
from collections import defaultdict
from collections.abc import Container
from datetime import UTC, datetime

from pydantic import Field

from skyfan import store
from skyfan.errors import SkyfanError
from skyfan.records import MAX_LISTED_FAILURES
from skyfan.runs.folder import RunFolder, json_bytes, parse_document
from skyfan.validation import Frozen

MAX_FAILURE_FILES = 1000
"""Of one rank and start: far more attempts than a scheduler makes."""
_NAME = re.compile(r"rank-([0-9]{7})-([0-9]+)\.json")


class RankFailure(Frozen):
    """One failed attempt of a rank: `error` is the error's name, `retry` whether it is worth another attempt."""

    rank: int = Field(ge=0)
    attempt: int = Field(ge=1)
    error: str
    message: str
    retry: bool
    host: str
    at: datetime

    @classmethod
    def of(cls, rank: int, attempt: int, error: SkyfanError, *, retry: bool, host: str) -> "RankFailure":
        """The failure of an attempt that ended with `error` just now."""
        name = error.error_name()
        return cls(
            rank=rank, attempt=attempt, error=name, message=str(error), retry=retry, host=host, at=datetime.now(UTC)
        )


def write_failure(folder: RunFolder, start: str, failure: RankFailure) -> str:
    """Writes the failure under the first free number; its URI.

    Raises:
        LocationError: it cannot be written.
    """
    content = json_bytes(failure.model_dump(mode="json"))
    for number in range(1, MAX_FAILURE_FILES + 1):
        uri = store.join(folder.failures_uri(start), f"rank-{failure.rank:07d}-{number}.json")
        try:
            store.put_new(uri, content)
        except store.AlreadyExists:
            continue
        return uri
    raise store.AlreadyExists(f"{folder.failures_uri(start)} has {MAX_FAILURE_FILES} failures of rank {failure.rank}.")


def read_failures(folder: RunFolder, start: str, committed: Container[int]) -> tuple[dict[int, str], int]:
    """The last error by rank of those that failed and are not committed, the first hundred; and the number of files.

    Raises:
        LocationError: a file is damaged.
    """
    last: defaultdict[int, int] = defaultdict(int)
    count = 0
    prefix = store.canonical(folder.failures_uri(start))
    for one in store.list(prefix):
        named = _NAME.fullmatch(one.uri.removeprefix(f"{prefix}/"))
        if named is None:
            continue
        count += 1
        rank, number = int(named[1]), int(named[2])
        if rank not in committed:
            last[rank] = max(last[rank], number)
            if len(last) > 2 * MAX_LISTED_FAILURES:  # memory does not grow with the ranks that failed
                for other in sorted(last)[MAX_LISTED_FAILURES:]:
                    del last[other]
    failures = {}
    for rank, number in sorted(last.items())[:MAX_LISTED_FAILURES]:
        uri = store.join(prefix, f"rank-{rank:07d}-{number}.json")
        found = parse_document(uri, store.read(uri), RankFailure)
        failures[rank] = f"{found.error}: {found.message}"
    return failures, count
