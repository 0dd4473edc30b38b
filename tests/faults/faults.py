"""What breaks: each fault acts on the process that runs the job, or on its children."""

import datetime
import os
import random
import resource
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil

import skyfan

FILLER = "filler"
DUPLICATE = "second driver"
_ROOM_BYTES = (0, 4096, 20_000)
# Below it not even a thread can begin, and CPython waits for that thread for ever.
_MEMORY_MB = (24, 48, 96)
_DAY_S = 86_400


def fault_in_process(name: str, job: skyfan.Job, rng: random.Random) -> Callable[[], None]:
    """The fault called `name`, ready to happen."""
    data = Path(job.dataset)
    return {
        "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
        "interrupt": lambda: os.kill(os.getpid(), signal.SIGINT),
        "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
        "zombie": lambda: os.kill(os.getpid(), signal.SIGSTOP),
        "memory": lambda: _limit_memory(rng.choice(_MEMORY_MB)),
        "disk": lambda: fill(Path(job.output).parent, rng.choice(_ROOM_BYTES)),
        "descriptors": _no_more_descriptors,
        "clock-back": lambda: _set_clock(-_DAY_S),
        "clock-forward": lambda: _set_clock(_DAY_S),
        "duplicate": lambda: _second_driver(job),
        "data-gone": lambda: data.unlink(),
        "data-cut": lambda: os.truncate(data, data.stat().st_size // 2),
        "kill-partitioner": lambda: _signal("partitioner", signal.SIGKILL),
        "kill-aggregator": lambda: _signal("aggregator", signal.SIGKILL),
        "kill-executor": lambda: _signal("executor", signal.SIGKILL, rng),
        "kill-executors": lambda: _signal("executor", signal.SIGKILL),
        "stop-executor": lambda: _freeze("executor", rng),
    }[name]


def fill(folder: Path, room_bytes: int) -> None:
    """Leaves `room_bytes` on the file system of `folder`, which is a small one of its own."""
    free_bytes = shutil.disk_usage(folder).free
    with (folder / FILLER).open("wb") as file:
        file.write(bytes(max(0, free_bytes - room_bytes)))


def _limit_memory(more_mb: int) -> None:
    used_bytes = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (used_bytes + more_mb * 2**20, resource.RLIM_INFINITY))


def _no_more_descriptors() -> None:
    used = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir()) + 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (used, used))


def _set_clock(by_s: int) -> None:
    """What this process takes for the time, as its modules ask for it."""
    from skyfan.stages import aggregate, measure

    class Clock(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:  # type: ignore[override]
            return datetime.datetime.now(tz) + datetime.timedelta(seconds=by_s)

    aggregate.datetime = measure.datetime = Clock  # type: ignore[attr-defined]
    real, real_ns = time.time, time.time_ns
    time.time = lambda: real() + by_s
    time.time_ns = lambda: real_ns() + by_s * 10**9


def _second_driver(job: skyfan.Job) -> None:
    settings = {"on": "process", "progress": False}
    threading.Thread(target=skyfan.run, args=(job,), kwargs=settings, name=DUPLICATE).start()


def _services(name: str) -> list[psutil.Process]:
    children = psutil.Process().children(recursive=True)
    return [child for child in children if f"skyfan.serving {name}" in _line(child)]


def _line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _signal(service: str, number: int, one_of: random.Random | None = None) -> None:
    found = _services(service)
    for process in [one_of.choice(found)] if one_of and found else found:
        process.send_signal(number)


def _freeze(service: str, rng: random.Random) -> None:
    process = rng.choice(_services(service))
    process.suspend()
    threading.Timer(rng.uniform(0.2, 1.5), process.resume).start()
