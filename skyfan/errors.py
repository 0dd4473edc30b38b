"""Every error that Skyfan raises on purpose.

    SkyfanError                     exit 4   the run failed
    ├── BadInput                    exit 2   the user can fix it: the message names what, where and how
    │   ├── DatasetError                     a file or folder that is not a usable dataset
    │   ├── ModelError                       a checkpoint or program that is not a usable model
    │   ├── LocationError                    a URI, bucket, folder or file that cannot be used
    │   ├── RankTooLarge                     a rank cannot end within its time limit
    │   └── RunConflict                      the output folder belongs to another run
    ├── Incomplete                  exit 3   done, but samples or ranks are missing
    ├── Mismatch                    exit 4   results are not what the run computed
    ├── Transient                   exit 4   worth trying again: lost worker, throttling, time-out
    │   ├── Busy                             the service has other calls in hand; this was not begun
    │   ├── DeviceLost                       the GPU failed under a rank; a new process can use it again
    │   └── DeadlineExceeded
    └── Interrupted                 exit 130 Ctrl-C or SIGTERM

A class's docstring is the cause and `cure` is what to do; `docs/reference/errors.md` is generated from them.
`BadInput` is never retried; `Transient` always is, within a limit. The class names (with the prefix
"Skyfan") are the error names that AWS Step Functions matches on, so renaming one is a change of interface.
"""

from typing import ClassVar

RETRY_EXIT_CODE = 75
"""A rank's task may succeed when its scheduler starts it again: EX_TEMPFAIL of BSD's sysexits.h."""


class SkyfanError(Exception):
    """Base of all: the run failed. The message is one sentence for the user."""

    exit_code: ClassVar[int] = 4
    cure: ClassVar[str] = (
        "Read the sentence and the log lines before it. Running the same command again finishes what is missing."
    )

    @classmethod
    def error_name(cls) -> str:
        """The name under which this error travels between services and in Step Functions."""
        return cls.__name__ if cls.__name__.startswith("Skyfan") else f"Skyfan{cls.__name__}"


class BadInput(SkyfanError):
    """The user's input cannot be used; trying again changes nothing."""

    exit_code = 2
    cure = "Change the input as the message says; nothing was written."


class DatasetError(BadInput):
    """A file or folder is not a dataset that Skyfan can read."""

    cure = "`skyfan data inspect FILE` shows what a file holds."


class ModelError(BadInput):
    """A checkpoint or exported program is not a model that Skyfan can run."""

    cure = "`skyfan model inspect FILE` shows what a model needs and makes."


class LocationError(BadInput):
    """A URI, bucket, folder or file is unknown, unreachable or not allowed."""

    cure = "Check the spelling, the credentials and the permissions of the named location."


class RankTooLarge(BadInput):
    """A rank has more samples than its time limit allows; smaller partitions have to be planned."""

    cure = "Plan smaller partitions with --partition-size or a larger --world-size."


class RunConflict(BadInput):
    """The output holds another run; nothing was written."""

    cure = "Choose another --output, or remove the old run if it is not needed."


class Incomplete(SkyfanError):
    """The job is done but samples or ranks are missing; the summary says which."""

    exit_code = 3
    cure = "Run the same command again: only missing ranks are computed."


class Mismatch(SkyfanError):
    """`skyfan verify` found results that are not those of the run's plan, digests or model."""

    cure = "Remove the files that are named, restore the model if it changed, and run the same command again."


class Transient(SkyfanError):
    """A lost worker, throttling or a broken connection: the same call may succeed later."""

    cure = "Skyfan has tried again several times; run the same command once the named worker or store is back."


class Busy(Transient):
    """A service has other calls in hand, and this one was not begun: waiting for it is not an attempt."""

    cure = "Nothing to do: the call is made again. If a run ends with it, use fewer --workers or more executors."


class DeviceLost(Transient):
    """The GPU failed under a rank, and this process cannot use it any more; a new process may."""

    cure = (
        "On local a new executor takes the rank. On process, run the same command again; if that fails, too, see "
        "`nvidia-smi` and the kernel's log for the card."
    )


class DeadlineExceeded(Transient):
    """A wait reached its deadline."""

    cure = "See whether the named service or rank is up and not overloaded, then run the same command again."


class Interrupted(SkyfanError):
    """The user asked to stop; what was committed stays."""

    exit_code = 130
    cure = "Run the same command again to finish what is missing."


def _tree(root: type[SkyfanError]) -> dict[str, type[SkyfanError]]:
    found = {root.error_name(): root}
    for child in root.__subclasses__():
        found |= _tree(child)
    return found


def by_name(name: str, message: str) -> SkyfanError:
    """The error that travelled as `name`; an unknown name becomes the base class, with the name kept."""
    kind = _tree(SkyfanError).get(name)
    return kind(message) if kind else SkyfanError(f"{name}: {message}")
