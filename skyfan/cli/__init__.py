"""The command line. Each command or group is a module of its own, imported when it is asked for.

A command that reads one run needs neither the services' clients nor the studies, whose imports cost 0.3 CPU seconds.
"""

import functools
import importlib
import io
import os
import secrets
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterable
from types import FrameType
from typing import NoReturn

import typer

from skyfan import __version__
from skyfan.cli.console import err, out
from skyfan.errors import BadInput, Interrupted, SkyfanError
from skyfan.plain_text import printable

# Name → the module's attribute that is the command, in the order of the help.
_COMMANDS = {
    "run": "run",
    "demo": "demo",
    "doctor": "doctor",
    "plan": "plan",
    "rank": "rank",
    "aggregate": "aggregate",
    "partition": "partition",
    "report": "report",
    "fetch": "fetch",
    "export": "export",
    "verify": "verify",
    "bench": "bench_command",
    "cost": "cost_command",
    "analyse": "analyse_command",
}
_GROUPS = ("data", "model", "runs", "comm")


def _root(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if version:
        out.print(__version__)
        raise typer.Exit


def _app_of(names: Iterable[str]) -> typer.Typer:
    """The application with these commands and groups."""
    made = typer.Typer(
        name="skyfan",
        help="Fans PyTorch inference out over the sky.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    made.callback(invoke_without_command=True)(_root)
    for name in names:
        module = importlib.import_module(f"skyfan.cli.{name}")
        if name in _GROUPS:
            made.add_typer(module.app, name=name)
        else:
            made.command(name)(getattr(module, _COMMANDS[name]))
    return made


@functools.cache
def _whole_app() -> typer.Typer:
    return _app_of((*_COMMANDS, *_GROUPS))


def __getattr__(name: str) -> typer.Typer:
    """`app`: the application with all commands, for tests and the reference."""
    if name == "app":
        return _whole_app()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def main() -> None:
    """Runs a command; an error of Skyfan's becomes one sentence and its exit code.

    SIGTERM ends a command as Ctrl-C does. Any other exception is a fault of Skyfan's own: a sentence, an id, and the
    traceback in a file; exit code 1 does not exist.
    """
    _prepare_process()
    try:
        asked = sys.argv[1] if len(sys.argv) > 1 else ""
        app = _app_of([asked]) if asked in _COMMANDS or asked in _GROUPS else _whole_app()
        code = app(standalone_mode=False)
    except SkyfanError as error:
        _fail(str(error), error.exit_code)
    except typer.TyperException as error:
        _fail_usage(error)
    except (typer.Abort, KeyboardInterrupt):  # the second while modules are imported
        code = Interrupted.exit_code
    except OSError as error:  # no file of the user's that a command knows: a full disk, a closed pipe
        _fail(f"{error}.", SkyfanError.exit_code)
    except Exception as error:  # noqa: BLE001 (the last handler: nothing may end as a bare traceback)
        _fail(_unexpected(error), SkyfanError.exit_code)
    if code == Interrupted.exit_code:  # typer's answer to Ctrl-C
        _fail("interrupted.", Interrupted.exit_code)
    sys.exit(code if isinstance(code, int) else 0)


def _prepare_process() -> None:
    """What every command needs of its process, whatever the environment is."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _interrupt)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name or a sign that the terminal's encoding lacks
            stream.reconfigure(errors="backslashreplace")
    # Figures go to files: a notebook's kernel, from which `!skyfan` is run, names a backend that is not here.
    os.environ["MPLBACKEND"] = "agg"


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _unexpected(error: Exception) -> str:
    """What the user is told of a fault in Skyfan; the traceback is kept where they can send it from."""
    number = secrets.token_hex(4)
    sentence = f"unexpected {type(error).__name__}: {error} (error {number}; "
    try:
        with tempfile.NamedTemporaryFile("w", prefix=f"skyfan-error-{number}-", suffix=".txt", delete=False) as file:
            traceback.print_exception(error, file=file)
    except OSError as unwritable:
        return f"{sentence}its traceback could not be written: {unwritable})."
    return f"{sentence}please report it with {file.name})."


def _fail_usage(error: typer.TyperException) -> NoReturn:
    sentence = error.format_message()
    if not sentence:  # no arguments at all: the help was shown
        sys.exit(BadInput.exit_code)
    _fail(f"{sentence.rstrip('.')}; see {_command_of(error)} --help.", BadInput.exit_code)


def _command_of(error: typer.TyperException) -> str:
    """The command that was meant, such as `skyfan data clean`, whatever the program's file is called."""
    context = getattr(error, "ctx", None)
    if context is None:
        return "skyfan"
    return f"skyfan{context.command_path.removeprefix(context.find_root().command_path)}"


def _fail(sentence: str, code: int) -> NoReturn:
    err.print(printable(f"skyfan: {sentence}"), soft_wrap=True)
    sys.exit(code)
