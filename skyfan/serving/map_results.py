"""Which ranks a Distributed Map gave up, from the files that its ResultWriter left.

"ResultWriter (Map)", https://docs.aws.amazon.com/step-functions/latest/dg/input-output-resultwriter.html, read
2026-11: `<prefix>/<map run>/manifest.json` names `FAILED_<n>.json`, arrays of child executions that failed, timed
out or were aborted, with `Status`, `Input`, `Error` and `Cause`.
"""

import json
from datetime import datetime
from typing import Any

from skyfan import store
from skyfan.errors import LocationError
from skyfan.rpc.lambda_errors import lambda_message

ABORTED = "ABORTED"


def failed_ranks(results_uri: str, since: datetime) -> dict[int, str]:
    """The error by rank of the children that failed in map runs of this execution (stopped at or after `since`).

    Children that were aborted, because others failed, have done nothing wrong; the summary has them as missing.
    """
    failures: dict[int, str] = {}
    for entry in store.list(results_uri):
        name = entry.uri.rsplit("/", 1)[-1]
        if name.startswith("FAILED_") and name.endswith(".json"):
            for child in json.loads(store.read(entry.uri)):
                if _stopped(child, since) and child.get("Status") != ABORTED:
                    cause = lambda_message(str(child.get("Cause", "")))
                    failures[_rank(child, entry.uri)] = f"{child.get('Error') or child['Status']}: {cause}"
    return failures


def _stopped(child: dict[str, Any], since: datetime) -> bool:
    stop = child.get("StopDate")
    return stop is None or datetime.fromisoformat(stop) >= since


def _rank(child: dict[str, Any], uri: str) -> int:
    content = json.loads(child["Input"])
    rank = content.get("item", content).get("rank")
    if not isinstance(rank, int):
        raise LocationError(f"{uri} names a failed child without a rank; was it written by this state machine?")
    return rank
