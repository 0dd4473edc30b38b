"""The command line. Each command group is a module of its own."""

import io
import os
import secrets
import signal
import sys
import tempfile
import threading
import traceback
from types import FrameType
from typing import NoReturn

import typer

from skyfan import __version__
from skyfan.cli import comm, data, model, runs
from skyfan.cli.aggregate import aggregate
from skyfan.cli.analyse import analyse_command
from skyfan.cli.bench import bench_command
from skyfan.cli.console import err, out
from skyfan.cli.cost import cost_command
from skyfan.cli.demo import demo
from skyfan.cli.doctor import doctor
from skyfan.cli.export import export
from skyfan.cli.fetch import fetch
from skyfan.cli.partition import partition
from skyfan.cli.plan import plan
from skyfan.cli.rank import rank
from skyfan.cli.report import report
from skyfan.cli.run import run
from skyfan.cli.verify import verify
from skyfan.errors import BadInput, Interrupted, SkyfanError
from skyfan.plain_text import printable

app = typer.Typer(
    name="skyfan",
    help="Fans PyTorch inference out over the sky.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(run)
app.command()(demo)
app.command()(doctor)
app.command()(plan)
app.command()(rank)
app.command()(aggregate)
app.command()(partition)
app.command()(report)
app.command()(fetch)
app.command()(export)
app.command()(verify)
app.add_typer(data.app, name="data")
app.add_typer(model.app, name="model")
app.add_typer(runs.app, name="runs")
app.add_typer(comm.app, name="comm")
app.command("bench")(bench_command)
app.command("cost")(cost_command)
app.command("analyse")(analyse_command)


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if version:
        out.print(__version__, highlight=False)
        raise typer.Exit


def main() -> None:
    """Runs a command; an error of Skyfan's becomes one sentence and its exit code.

    SIGTERM ends a command as Ctrl-C does. Any other exception is a fault of Skyfan's own: a sentence, an id, and the
    traceback in a file; exit code 1 does not exist.
    """
    _prepare_process()
    try:
        code = app(standalone_mode=False)
    except SkyfanError as error:
        _fail(str(error), error.exit_code)
    except typer.TyperException as error:
        _fail_usage(error)
    except typer.Abort:
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
    _fail(f"{sentence.rstrip('.')}; see skyfan --help.", BadInput.exit_code)


def _fail(sentence: str, code: int) -> NoReturn:
    err.print(printable(f"skyfan: {sentence}"), markup=False, highlight=False, soft_wrap=True)
    sys.exit(code)
