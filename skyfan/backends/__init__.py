"""Skyfan's own small driver: bounded fan-out with the words and the meaning of a Distributed Map.

It is not a cluster manager: beyond one machine the engine is Step Functions.
"""

from skyfan.backends.driver import run_job
from skyfan.backends.registry import TARGETS, create_target
from skyfan.events import Event, Listener
from skyfan.job import Job

__all__ = ["TARGETS", "Event", "Job", "Listener", "create_target", "run_job"]
