"""Every error that Skyfan raises on purpose.

    SkyfanError                     exit 4   the run failed
    ├── BadInput                    exit 2   the user can mend it: says what, where and how
    │   ├── DatasetError                     a .pt file or folder that is not a usable dataset
    │   ├── ModelError                       a checkpoint or program that is not a usable model
    │   ├── LocationError                    a URI, bucket, folder or file that cannot be used
    │   ├── RankTooLarge                     a rank cannot end within its time limit
    │   └── RunConflict                      the output folder belongs to another run
    ├── Incomplete                  exit 3   done, but samples or ranks are missing
    ├── Transient                   exit 4   worth trying again: lost worker, throttling, time-out
    │   ├── Busy                             the worker has another rank in hand; this one was not begun
    │   └── DeadlineExceeded
    └── Interrupted                 exit 130 Ctrl-C or SIGTERM

`BadInput` is never retried; `Transient` always is, within a limit. The class names (with the prefix
"Skyfan") are the error names that AWS Step Functions matches on, so renaming one is a change of interface.
"""

from typing import ClassVar


class SkyfanError(Exception):
    """Base of all. The message is one sentence for the user."""

    exit_code: ClassVar[int] = 4

    @classmethod
    def error_name(cls) -> str:
        """The name under which this error travels between services and in Step Functions."""
        return cls.__name__ if cls.__name__.startswith("Skyfan") else f"Skyfan{cls.__name__}"


class BadInput(SkyfanError):
    """The user's input cannot be used; trying again changes nothing."""

    exit_code = 2


class DatasetError(BadInput):
    """A file or folder is not a dataset that Skyfan can read."""


class ModelError(BadInput):
    """A checkpoint or exported program is not a model that Skyfan can run."""


class LocationError(BadInput):
    """A URI, bucket, folder or file is unknown, unreachable or not allowed."""


class RankTooLarge(BadInput):
    """A rank has more samples than its time limit allows; smaller partitions have to be planned."""


class RunConflict(BadInput):
    """The output place holds another run; nothing was written."""


class Incomplete(SkyfanError):
    """The job is done but samples or ranks are missing; the summary says which."""

    exit_code = 3


class Transient(SkyfanError):
    """A lost worker, throttling or a broken connection: the same call may succeed later."""


class Busy(Transient):
    """A worker has another rank in hand, and this one was not begun: waiting for it is not an attempt."""


class DeadlineExceeded(Transient):
    """A wait reached its deadline."""


class Interrupted(SkyfanError):
    """The user asked to stop; what was committed stays."""

    exit_code = 130


def _tree(root: type[SkyfanError]) -> dict[str, type[SkyfanError]]:
    found = {root.error_name(): root}
    for child in root.__subclasses__():
        found |= _tree(child)
    return found


def by_name(name: str, message: str) -> SkyfanError:
    """The error that travelled as `name`; an unknown name becomes the base class, with the name kept."""
    kind = _tree(SkyfanError).get(name)
    return kind(message) if kind else SkyfanError(f"{name}: {message}")
