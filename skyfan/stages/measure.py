"""How a rank measures itself: wall seconds by phase, CPU seconds, peak resident memory."""

import os
import platform
import resource
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from skyfan.records import RankRecord
from skyfan.store import ReadStats

_MACHINES = {"x86_64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}
_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")


def request_times(stats: ReadStats) -> dict[str, Any]:
    """Fields of a rank record, under the reference system's names: requests and their times; None without any."""
    return {
        "s3_num_requests": stats.requests,
        "s3_total_time": stats.total_s,
        "s3_avg_time": stats.mean_s if stats.requests else None,
        "s3_min_time": stats.min_s if stats.requests else None,
        "s3_max_time": stats.max_s if stats.requests else None,
    }


def lambda_function() -> dict[str, Any]:
    """The Lambda function that this process runs in, as fields of a rank record; empty elsewhere.

    Source of the variables: https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html.
    """
    memory_mb = os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
    if not memory_mb:
        return {}
    return {
        "memory_mb": int(memory_mb),
        "architecture": _MACHINES.get(platform.machine()),
        "region": os.environ.get("AWS_REGION"),
        "log_stream": os.environ.get("AWS_LAMBDA_LOG_STREAM_NAME"),
    }


def computed_here(record: RankRecord) -> bool:
    """Whether this process computed the rank.

    Lambda's execution environments share host names and process numbers; each has a log stream of its own.
    """
    here = lambda_function().get("log_stream") or socket.gethostname()
    return (record.log_stream or record.host, record.pid) == (here, os.getpid())


def reset_peak_rss() -> None:
    """Starts a new peak, where the kernel can (Linux: writing 5 to clear_refs, proc(5))."""
    try:
        _CLEAR_REFS.write_text("5")
    except OSError:
        return  # no such file or not allowed: the peak is then that of the whole process


def peak_rss_bytes() -> int:
    """Peak resident memory since `reset_peak_rss`, or of the whole process where that is not known."""
    if _STATUS.exists():
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@dataclass
class Stopwatch:
    """Seconds by phase of one rank, and its start and end."""

    phases_s: dict[str, float] = field(default_factory=dict)
    _open: list[str] = field(default_factory=list)
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    _wall: float = field(default_factory=time.perf_counter)
    _cpu: float = field(default_factory=time.process_time)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Adds the time spent inside to phase `name`; that of a phase inside it counts there and not here."""
        self._open.append(name)
        start = time.perf_counter()
        try:
            yield
        finally:
            spent_s = time.perf_counter() - start
            self._open.pop()
            self.phases_s[name] = self.seconds(name) + spent_s
            if self._open:
                outer = self._open[-1]
                self.phases_s[outer] = self.seconds(outer) - spent_s

    def seconds(self, name: str) -> float:
        """Seconds of phase `name` so far."""
        return self.phases_s.get(name, 0.0)

    @property
    def wall_s(self) -> float:
        """Wall seconds since the start."""
        return time.perf_counter() - self._wall

    @property
    def cpu_s(self) -> float:
        """CPU seconds of the whole process, all threads, since the start."""
        return time.process_time() - self._cpu
