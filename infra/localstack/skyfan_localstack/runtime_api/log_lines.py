"""The platform's lines in a function's log.

AWS: "How CloudWatch structures logs",
https://docs.aws.amazon.com/lambda/latest/operatorguide/log-structure.html (as of 2026-11). What a worker
prints goes to its own container's log, and the memory that it used is not known here: both are left out.
"""

import math

from skyfan_localstack.runtime_api.dispatch import Outcome


def report(request_id: str, version: str, memory_mb: int, outcome: Outcome) -> str:
    """START, END and REPORT; the billed duration is rounded up to the millisecond."""
    duration_ms = outcome.duration_s * 1000
    fields = [
        f"REPORT RequestId: {request_id}",
        f"Duration: {duration_ms:.2f} ms",
        f"Billed Duration: {math.ceil(duration_ms)} ms",
        f"Memory Size: {memory_mb} MB",
    ]
    if outcome.status != "success":
        fields.append(f"Status: {outcome.status}")
    lines = [f"START RequestId: {request_id} Version: {version}", f"END RequestId: {request_id}", "\t".join(fields)]
    return "\n".join(lines) + "\n"
