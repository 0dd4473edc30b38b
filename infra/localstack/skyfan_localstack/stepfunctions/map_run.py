"""Distributed maps: failures count, the tolerance ends the map, stopping aborts it, any number of items works.

As shipped, LocalStack loses failed children (the map always succeeds, with nulls), evaluates one child inside the
other (1,500 items at MaxConcurrency 1 exhaust the stack and the map hangs), starts one thread an item when
MaxConcurrency is 0, and waits for ever when the execution is stopped.

AWS, as of 2026-11:
- "Tolerated failure threshold for Distributed Map state",
  https://docs.aws.amazon.com/step-functions/latest/dg/maprun-fail-threshold.html
- "StopExecution", https://docs.aws.amazon.com/step-functions/latest/apireference/API_StopExecution.html
- "UpdateMapRun", https://docs.aws.amazon.com/step-functions/latest/apireference/API_UpdateMapRun.html
"""

import os
import threading
from collections import deque
from datetime import UTC, datetime
from typing import Any

from localstack.aws.api.stepfunctions import (
    HistoryEventType,
    MapRunFailedEventDetails,
    MapRunStartedEventDetails,
    MapRunStatus,
)
from localstack.services.stepfunctions.asl.component.common.error_name.failure_event import FailureEventException
from localstack.services.stepfunctions.asl.component.common.error_name.states_error_name_type import (
    StatesErrorNameType,
)
from localstack.services.stepfunctions.asl.component.state.state_execution.state_map.iteration.distributed_iteration_component import (  # noqa: E501
    DistributedIterationComponent,
    DistributedIterationComponentEvalInput,
)
from localstack.services.stepfunctions.asl.eval.environment import Environment
from localstack.services.stepfunctions.asl.eval.event.event_detail import EventDetails
from localstack.services.stepfunctions.asl.eval.event.event_manager import EventManager
from localstack.services.stepfunctions.asl.eval.program_state import (
    ProgramError,
    ProgramStopped,
    ProgramTimedOut,
)
from localstack.services.stepfunctions.asl.eval.states import ItemData, MapData
from localstack.utils.patch import Patch

from skyfan_localstack.stepfunctions.failures import map_run_failure
from skyfan_localstack.stepfunctions.ledger import Ledger, Status
from skyfan_localstack.stepfunctions.results import RECORD, as_result
from skyfan_localstack.stepfunctions.tolerance import exceeded

MAX_CHILDREN = int(os.environ.get("MAP_RUN_MAX_CHILDREN", "100"))
_LOOK_EVERY_S = 0.1


class MapRun:
    """Runs the children of one distributed map on a bounded number of threads."""

    def __init__(
        self,
        component: DistributedIterationComponent,
        env: Environment,
        evaluation: DistributedIterationComponentEvalInput,
        items: list[Any],
    ) -> None:
        self._env = env
        self._evaluation = evaluation
        self._items = items
        self._program = component._get_iteration_program()
        self._map_input = env.stack[-1] if env.stack else env.states.get_input()
        self._ledger = Ledger(evaluation.map_run_record, items)
        self._queue = deque(range(len(items)))
        self._lock = threading.Lock()
        self._threads = 0
        self._frames: set[Environment] = set()
        self._progress = threading.Event()

    def run(self) -> list[Any]:
        """The children's outputs in the items' order; a failed child's is its result record.

        Raises:
            FailureEventException: more children failed than tolerated.
        """
        while self._env.is_running() and not self._ledger.all_ended() and not self._too_many_failed():
            self._add_threads()
            self._progress.wait(_LOOK_EVERY_S)
            self._progress.clear()
        self._abort_running()
        if not self._env.is_running():
            return []
        if self._too_many_failed():
            raise map_run_failure(
                self._env,
                StatesErrorNameType.StatesExceedToleratedFailureThreshold,
                "The specified tolerated failure threshold was exceeded",
            )
        record = self._evaluation.map_run_record
        return [
            child.output if child.status is Status.SUCCEEDED else as_result(record, index, child)
            for index, child in enumerate(self._ledger.children)
        ]

    def _too_many_failed(self) -> bool:
        record = self._evaluation.map_run_record
        return exceeded(
            self._ledger.failed(),
            len(self._items),
            record.tolerated_failure_count,
            record.tolerated_failure_percentage,
        )

    def _limit(self) -> int:
        """Looked up each time, as UpdateMapRun may change it; 0 means no limit on AWS."""
        return min(self._evaluation.map_run_record.max_concurrency or MAX_CHILDREN, MAX_CHILDREN)

    def _add_threads(self) -> None:
        with self._lock:
            missing = min(self._limit() - self._threads, len(self._queue))
            self._threads += max(missing, 0)
        for _ in range(missing):
            threading.Thread(target=self._work, name="map-run-child", daemon=True).start()

    def _work(self) -> None:
        while (index := self._next()) is not None:
            frame = self._env.open_inner_frame()
            with self._lock:
                self._frames.add(frame)
            try:
                self._run_child(index, frame)
            finally:
                with self._lock:
                    self._frames.discard(frame)
                self._env.delete_frame(frame)
                self._progress.set()

    def _next(self) -> int | None:
        """The next child for this thread, or None: the thread ends."""
        with self._lock:
            if not self._queue or not self._env.is_running() or self._threads > self._limit():
                self._threads -= 1
                return None
            index = self._queue.popleft()
            self._ledger.start(index)
            return index

    def _run_child(self, index: int, frame: Environment) -> None:
        finish = self._ledger.finish
        try:
            self._set_input(index, frame)
            self._ledger.children[index].input = frame.states.get_input()
            self._program.eval(frame)
        except FailureEventException as failure:
            error, cause = failure.extract_error_cause_pair() or (None, None)
            finish(index, Status.FAILED, error=error, cause=cause)
        except Exception as failure:  # noqa: BLE001 - a child's failure is its result, whatever it is
            finish(index, Status.FAILED, error="States.Runtime", cause=f"{type(failure).__name__}: {failure}")
        else:
            match frame.program_state():
                case ProgramError() as state:
                    details = state.error or {}
                    finish(index, Status.FAILED, error=details.get("error"), cause=details.get("cause"))
                case ProgramTimedOut():
                    finish(index, Status.TIMED_OUT, error="States.Timeout")
                case ProgramStopped():
                    finish(index, Status.ABORTED)
                case _:
                    finish(index, Status.SUCCEEDED, output=frame.states.get_input())

    def _set_input(self, index: int, frame: Environment) -> None:
        """What ItemSelector (or the older Parameters) makes of the item; else the item itself."""
        item = self._items[index]
        frame.states.context_object.context_object_data["Map"] = MapData(Item=ItemData(Index=index, Value=item))
        selector = self._evaluation.item_selector or self._evaluation.parameters
        if selector is None:
            frame.states.reset(item)
        else:
            frame.states.reset(self._map_input)
            frame.stack.append(frame.states.get_input())
            selector.eval(frame)
            frame.states.reset(frame.stack.pop())
        frame.stack.append(frame.states.get_input())

    def _abort_running(self) -> None:
        """Nothing more starts; a function that a child called goes on, as on AWS, and its answer is dropped."""
        with self._lock:
            self._queue.clear()
            frames = list(self._frames)
        for frame in frames:
            frame.set_stop(stop_date=datetime.now(UTC), error=None, cause=None)
        self._ledger.abort_running()


def _evaluate(component: DistributedIterationComponent, env: Environment) -> None:
    """In place of `DistributedIterationComponent._eval_body`."""
    evaluation: DistributedIterationComponentEvalInput = env.stack.pop()
    record = evaluation.map_run_record
    env.heap[RECORD] = record
    started = MapRunStartedEventDetails(mapRunArn=record.map_run_arn)
    _add_event(env, HistoryEventType.MapRunStarted, EventDetails(mapRunStartedEventDetails=started))
    outer_events = env.event_manager
    try:
        if evaluation.item_reader:
            evaluation.item_reader.eval(env=env)
        else:
            env.stack.append(evaluation.input_items)
        items: list[Any] = env.stack.pop()
        env.event_manager = EventManager()  # children have histories of their own
        outputs = MapRun(component, env, evaluation, items).run()
    except Exception as failure:
        env.event_manager = outer_events
        _add_event(env, HistoryEventType.MapRunFailed, _failure_details(failure))
        record.set_stop(MapRunStatus.FAILED)
        raise
    env.event_manager = outer_events
    held = env.is_running()
    _add_event(env, HistoryEventType.MapRunSucceeded if held else HistoryEventType.MapRunAborted)
    record.set_stop(MapRunStatus.SUCCEEDED if held else MapRunStatus.ABORTED)
    env.stack.append(outputs)


def _failure_details(failure: Exception) -> EventDetails:
    error, cause = None, None
    if isinstance(failure, FailureEventException):
        error, cause = failure.extract_error_cause_pair() or (None, None)
    return EventDetails(mapRunFailedEventDetails=MapRunFailedEventDetails(error=error, cause=cause))


def _add_event(env: Environment, kind: HistoryEventType, details: EventDetails | None = None) -> None:
    env.event_manager.add_event(context=env.event_history_context, event_type=kind, event_details=details)


def apply_patch() -> None:
    """Put `MapRun` in the place of LocalStack's evaluation."""
    Patch(DistributedIterationComponent, "_eval_body", _evaluate).apply()
