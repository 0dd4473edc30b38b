"""Structured logs: JSON in containers, readable lines on a terminal; always on standard error.

`SKYFAN_LOG_FORMAT` and `SKYFAN_LOG_LEVEL` choose (`skyfan.settings`). Run id, rank and service are bound with
`structlog.contextvars` where they are known.
"""

import logging
import sys
from contextlib import suppress

import structlog

from skyfan.plain_text import printable
from skyfan.settings import LogSettings, read

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def as_json() -> bool:
    """Whether logs are JSON because `SKYFAN_LOG_FORMAT` is json."""
    return read(LogSettings).format == "json"


def configure(service: str | None = None, level: str | None = None) -> None:
    """Sets up structlog for this process; `service` is then in every line, and `level` stands above the environment's.

    Raises:
        BadInput: a variable of `LogSettings` has a value that cannot be used.
    """
    settings = read(LogSettings)
    chosen = settings.format or ("text" if sys.stderr.isatty() else "json")
    threshold = _LEVELS[level or settings.level]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if chosen == "json":
        shared += [structlog.processors.format_exc_info, _in_reading_order, structlog.processors.JSONRenderer()]
    else:
        shared += [structlog.processors.format_exc_info, _printable]
        shared.append(structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()))
    structlog.configure(
        processors=shared,
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        # Asked for at each line: a stream that was replaced since (a test's, a pager's) is not written to.
        logger_factory=lambda *_: _Lines(sys.stderr),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.clear_contextvars()
    if service:
        structlog.contextvars.bind_contextvars(service=service)


class _Lines(structlog.WriteLogger):
    """A line that cannot be written, on a full disk or to a reader that is gone, is lost, and what it tells of goes on.

    Servers log between losing a rank and telling the others of it.
    """

    def msg(self, message: str) -> None:
        """Writes a line."""
        with suppress(OSError, ValueError):  # ValueError: the stream is closed
            super().msg(message)

    log = debug = info = warn = warning = fatal = failure = err = error = critical = exception = msg


_FIRST = ("timestamp", "level", "service", "run_id", "rank", "event")


def _in_reading_order(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """When, who and what stand before the details, so that lines of several services read as one story."""
    return {
        key: event[key]
        for key in (*(key for key in _FIRST if key in event), *(key for key in event if key not in _FIRST))
    }


def _printable(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Names from files do not reach the terminal raw; JSON escapes them itself."""
    return {
        key: printable(value, keep="\n" if key == "exception" else "") if isinstance(value, str) else value
        for key, value in event.items()
    }
