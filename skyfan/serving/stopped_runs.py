"""Ranks of an execution that was stopped: Lambda would run them to their end, so a mark in the run's folder ends them.

Step Functions abandons the tasks of an execution that is stopped; a Lambda function that it called goes on, up to its
own time-out, and is billed. EventBridge reports the end of every execution: the aggregator then writes the mark, and
every rank looks for it every few seconds.
"""

import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from skyfan import store
from skyfan.errors import BadInput, SkyfanError
from skyfan.reference_payload import parse_execution_input
from skyfan.runs.folder import write_json
from skyfan.serving.lambda_events import ExecutionEnd

# 10,000 ranks then ask 3,300 times a second, of the 5,500 that S3 answers under one prefix.
LOOK_EVERY_S = 3.0


def stop_mark_uri(output: str, execution: str) -> str:
    """Where the mark of one execution lies: another start of the same run is not stopped by it."""
    return store.join(output, f"stopped-{execution}.json")


def mark_stopped(ended: ExecutionEnd) -> str | None:
    """Writes the mark for an execution that EventBridge reports as ended from outside; its URI.

    None where the execution's input names no run, such as one that is too large for an event.
    """
    try:
        output = parse_execution_input(json.loads(ended.input or "null")).output
    except (BadInput, ValueError):
        return None
    if "://" not in output:
        return None  # a folder of the function's own machine, where no rank looks
    uri = stop_mark_uri(output, ended.name)
    write_json(uri, {"execution": ended.execution_arn, "status": ended.status})
    return uri


@contextmanager
def stopped_with(execution: str | None, output: str, look_every_s: float = LOOK_EVERY_S) -> Iterator[threading.Event]:
    """An event that is set as soon as the mark of `execution` is there; nobody looks where there is no execution."""
    stopped, over = threading.Event(), threading.Event()
    if execution is None:
        yield stopped
        return
    arguments = (stop_mark_uri(output, execution), look_every_s, stopped, over)
    looking = threading.Thread(target=_look, args=arguments, name="skyfan-stopped", daemon=True)
    looking.start()
    try:
        yield stopped
    finally:
        over.set()


def _look(uri: str, look_every_s: float, stopped: threading.Event, over: threading.Event) -> None:
    log = structlog.get_logger("executor")
    # Ranks start together; their looks should not stay together.
    while not over.wait(look_every_s * random.uniform(0.5, 1.5)):  # noqa: S311 (not a secret)
        try:
            if store.exists(uri):
                log.info("the execution was stopped", mark=uri)
                stopped.set()
                return
        except SkyfanError as error:
            # The rank itself needs the store too, and fails by its own rules; a look that fails stops nothing.
            log.warning("looking for the stop mark failed", error=str(error))
