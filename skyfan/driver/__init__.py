"""Skyfan's own small driver: bounded fan-out with the words and the meaning of a Distributed Map.

It is not a cluster manager: beyond one machine the engine is Step Functions.
"""

from skyfan.driver.events import Event, Listener
from skyfan.driver.job import Job
from skyfan.driver.run import run_job
from skyfan.driver.targets import TARGETS, create_target

__all__ = ["TARGETS", "Event", "Job", "Listener", "create_target", "run_job"]
