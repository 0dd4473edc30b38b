"""A process that runs one job after the other, as a notebook does, holds no more after each."""

import collections
import gc
import threading

import psutil
import pytest

import skyfan
from skyfan.job import Job

pytestmark = pytest.mark.slow

RUNS = 4


def held():
    """Python objects by type, threads, descriptors and children of this process."""
    gc.collect()
    me = psutil.Process()
    found = collections.Counter(f"{type(one).__module__}.{type(one).__qualname__}" for one in gc.get_objects())
    return found | {"thread": threading.active_count(), "descriptor": me.num_fds(), "child": len(me.children())}


def test_runs_leave_no_objects_behind(sample, small_model, tmp_path):
    def run(number):
        job = Job(dataset=str(sample.path), model=str(small_model), output=str(tmp_path / str(number)))
        assert skyfan.run(job, on="process", progress=False).summary.state == "complete"

    for number in range(2):  # what is imported, kept once or started once
        run(number)
    before = held()
    for number in range(2, 2 + RUNS):
        run(number)
    after = held()
    # As many as there were runs: one of each run. Classes' caches of what is an instance of them hold weak references.
    grown = {name: count - before[name] for name, count in after.items() if count - before[name] >= RUNS}
    assert grown.keys() <= {"weakref.ReferenceType", "builtins.builtin_function_or_method"}, grown
