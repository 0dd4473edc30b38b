"""Ranks of a planned run as a scheduler's task: `skyfan rank`, and the containers of Batch, SageMaker and Kubernetes.

A task may run twice, at the same time too, and in any order: a rank counts once, by its commit. The exit code is all
that a scheduler sees; the cause lies in the run's folder (`skyfan.stages.failure_files`).
"""

import argparse
import os
import socket
import sys
import threading
from collections.abc import Sequence

import structlog

from skyfan import logs, store
from skyfan.engines.device import available_device
from skyfan.engines.threads import available_threads
from skyfan.errors import RETRY_EXIT_CODE, BadInput, Interrupted, SkyfanError, Transient
from skyfan.plain_text import printable
from skyfan.runs.folder import RunFolder
from skyfan.serving.array_task import attempt_of, find_task
from skyfan.serving.signals import on_signals
from skyfan.stages.failure_files import RankFailure, write_failure
from skyfan.stages.infer import Control, infer
from skyfan.stages.model_cache import ModelCache
from skyfan.stages.starts import Start, entry, infer_request, position_of, read_start

# Of the five seconds after SIGTERM, what a rank gets to stop and to write why.
_STOP_DEADLINE_S = 4.0
_LOOK_EVERY_S = 0.2
# From the least to the most that a scheduler should know: one rank that is worth another attempt makes the task so.
_SEVERITY = (0, BadInput.exit_code, SkyfanError.exit_code, RETRY_EXIT_CODE)


def run_rank_job(output: str, *, index: int | None = None, start: str | None = None, tasks: int | None = None) -> int:
    """Computes this task's ranks of the planned run in `output`, one after the other; the exit code.

    Args:
        output: the run's folder (path or URI).
        index: this rank; by default those at the position that the scheduler gives this task.
        start: the start whose list of ranks the positions are of; by default the newest.
        tasks: the array's length, where its tasks compute several ranks each: every `tasks`-th.

    Returns:
        0: done, also where it was before. 2: bad input, and 4: failed, trying again changes nothing. 75: worth another
        attempt, as after SIGTERM, which ends this within five seconds.
    """
    stop, ended = threading.Event(), threading.Event()
    codes: list[int] = []

    def work() -> None:
        try:
            codes.append(_compute(RunFolder(output), index, start, tasks, Control(cancelled=stop)))
        except SkyfanError as error:
            sys.stderr.write(f"skyfan: {printable(str(error))}\n")
            codes.append(exit_code_of(error))
        finally:
            ended.set()

    # A thread of its own: a read that hangs must not hold SIGTERM up.
    with on_signals(stop.set):
        threading.Thread(target=work, name="skyfan-rank", daemon=True).start()
        while not ended.wait(_LOOK_EVERY_S):
            if stop.is_set():
                store.abandon_calls()
                ended.wait(_STOP_DEADLINE_S)
                break
    if not codes:
        return RETRY_EXIT_CODE if stop.is_set() else SkyfanError.exit_code
    return codes[0]


def exit_code_of(error: Exception) -> int:
    """What a task ends with after this error."""
    if isinstance(error, Transient | Interrupted):
        return RETRY_EXIT_CODE
    return error.exit_code if isinstance(error, SkyfanError) else SkyfanError.exit_code


def end_process(code: int) -> None:
    """Ends this process, without waiting for a thread that hangs in a read."""
    sys.stdout.flush()
    sys.stderr.flush()
    if threading.active_count() > 1:
        os._exit(code)
    sys.exit(code)


def main(argv: Sequence[str] | None = None) -> None:
    """The entry of containers: OUTPUT [--index N] [--start NAME] [--tasks N], as of `skyfan rank`."""
    parser = argparse.ArgumentParser(description="Compute this task's ranks of a planned run.")
    parser.add_argument("output", help="the run's folder (path or URI)")
    parser.add_argument("--index", type=int, help="this rank, whatever the scheduler says")
    parser.add_argument("--start", help="the start that the array was submitted for; the newest by default")
    parser.add_argument("--tasks", type=int, help="the array's length, where a task computes several ranks")
    given = parser.parse_args(argv)
    end_process(run_rank_job(given.output, index=given.index, start=given.start, tasks=given.tasks))


def _compute(folder: RunFolder, index: int | None, name: str | None, tasks: int | None, control: Control) -> int:
    logs.configure("executor")
    start = read_start(folder, name)
    structlog.contextvars.bind_contextvars(run_id=start.run_id, start=start.name)
    positions = _positions(folder, start, index, tasks)
    models = ModelCache(threads=available_threads(), device=available_device(start.job.device))
    worst = 0
    for position in positions:
        if control.cancelled.is_set():
            return RETRY_EXIT_CODE
        code = _one_rank(folder, start, position, models, control)
        worst = max(worst, code, key=_SEVERITY.index)
    return worst


def _positions(folder: RunFolder, start: Start, index: int | None, tasks: int | None) -> Sequence[int]:
    if index is None:
        return find_task(os.environ, tasks).positions(start.ranks)
    position = position_of(folder, start, index)
    if position is not None:
        return [position]
    plan = folder.read_plan()
    if index not in plan.working_ranks:
        raise BadInput(f"--index is {index}, which is no rank with samples; this run has {len(plan.working_ranks)}.")
    structlog.get_logger("executor").info("rank was committed before this start", rank=index, start=start.name)
    return []


def _one_rank(folder: RunFolder, start: Start, position: int, models: ModelCache, control: Control) -> int:
    """Computes one rank; a failure is left in a file, and the next rank goes on."""
    reference = entry(folder, start, position)
    attempt = attempt_of(os.environ)
    log = structlog.get_logger("executor").bind(rank=reference.rank)
    try:
        infer(infer_request(folder, start, reference, attempt), models, control)
    except Exception as caught:  # noqa: BLE001 (whatever it is, it is this rank's failure)
        error = caught
    else:
        return 0
    code = exit_code_of(error)
    if isinstance(error, SkyfanError):
        known = error
        log.error("rank failed", error=str(error), exit_code=code)
    else:
        known = SkyfanError(f"unexpected {type(error).__name__}: {error}")
        log.error("rank failed", exc_info=error, exit_code=code)
    retry = code == RETRY_EXIT_CODE
    failure = RankFailure.of(reference.rank, attempt, known, retry=retry, host=socket.gethostname())
    try:
        write_failure(folder, start.name, failure)
    except SkyfanError as unwritten:  # the store that failed the rank; the exit code and the log have the cause
        log.warning("the failure could not be written down", error=str(unwritten))
    return code
