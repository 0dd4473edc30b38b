"""`skyfan comm`: do the ranks reach each other, and how fast?"""

import contextlib
import secrets
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Annotated

import typer
from rich.table import Table

from skyfan import logs
from skyfan.backends.base import DEFAULT_STATE_MACHINE
from skyfan.backends.comm_check import check_in_containers, check_in_functions
from skyfan.backends.stepfunctions.access import STEP_FUNCTIONS_TARGETS
from skyfan.cli import options
from skyfan.cli.console import err, out, print_json, say
from skyfan.comm.channel_choice import CHANNELS
from skyfan.comm.check_messages import RankCheck, RankReport
from skyfan.comm.check_rank import check_rank
from skyfan.comm.connection import RENDEZVOUS_VARIABLE, TOKEN_VARIABLE
from skyfan.comm.errors import CommError
from skyfan.errors import BadInput
from skyfan.settings import NetworkSettings, variable
from skyfan.units import format_size

app = typer.Typer(help="Communication between ranks.", no_args_is_help=True)

_MAX_LOCAL_RANKS = 64
STORE_VARIABLE = variable(NetworkSettings, "comm_store")


@app.callback()
def _group() -> None:
    """Communication between ranks."""


@app.command()
def check(
    world_size: Annotated[int, typer.Option(help="Number of ranks.", min=1)] = 8,
    channel: Annotated[str, typer.Option(help="relay, direct, store or auto.")] = "auto",
    rendezvous: Annotated[
        str | None,
        typer.Option(
            help="HOST:PORT of a rendezvous server; one is started if none is given.", envvar=RENDEZVOUS_VARIABLE
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(help="URI for the store channel's objects; default: a temporary folder.", envvar=STORE_VARIABLE),
    ] = None,
    on: Annotated[
        str,
        typer.Option(help="Where the ranks run: local (processes), compose, localstack or aws (executors)."),
    ] = "local",
    state_machine: options.StateMachine = DEFAULT_STATE_MACHINE,
    rank: Annotated[
        int | None,
        typer.Option(help="Be this one rank only (others run elsewhere); needs --rendezvous or --store, and --run."),
    ] = None,
    run: Annotated[
        str | None, typer.Option(help="Name of the run that the group belongs to; default: a new one.")
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            help="The group's secret; default: a new one, on aws and localstack one derived from the services' token.",
            envvar=TOKEN_VARIABLE,
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option(help="Seconds until the group must be full, and again for measuring.")
    ] = 60.0,
    as_json: options.Json = False,
    quiet: options.NoProgress = False,
) -> None:
    """Connects all ranks and reports deployment latency, ping-pong and the time of each collective."""
    work = RankCheck(
        rank=rank or 0,
        world_size=world_size,
        run=run or f"check-{uuid.uuid4().hex}",
        channel=channel,
        rendezvous=rendezvous,
        token=token or (None if on in STEP_FUNCTIONS_TARGETS else secrets.token_hex(16)),
        store=store,
        join_timeout_s=timeout,
    )
    started = time.time()
    if rank is not None:
        reports = [_check_one(work, run, token)]
    else:
        with contextlib.nullcontext() if quiet else err.status(f"checking {world_size} ranks over {channel} …"):
            reports = _check_all(work, on, state_machine, timeout)
    latency_s = max(report.joined_at for report in reports) - started
    if as_json:
        print_json({"deployment_latency_s": latency_s, "world_size": world_size} | _content(reports))
    else:
        _print(reports, latency_s)


def _check_one(work: RankCheck, run: str | None, token: str | None) -> RankReport:
    if run is None or (work.rendezvous is None and work.store is None) or (work.rendezvous and token is None):
        raise BadInput("--rank needs --run, and --rendezvous with --token, or --store: the same for all ranks.")
    return check_rank(work)


def _check_all(work: RankCheck, on: str, state_machine: str, timeout_s: float) -> list[RankReport]:
    """The reports of all ranks, from the backend that `on` names."""
    if work.channel not in (*CHANNELS, "auto"):
        raise BadInput(f"--channel {work.channel!r} is unknown; use auto, {', '.join(CHANNELS)}.")
    if on == "local":
        return _check_here(work, timeout_s)
    if on == "compose":
        return check_in_containers(work, 2 * timeout_s)
    if on in STEP_FUNCTIONS_TARGETS:
        return check_in_functions(work, on, state_machine, 2 * timeout_s)
    raise BadInput(f"--on {on} does not run ranks of a check; choose local, compose, localstack or aws.")


def _check_here(work: RankCheck, timeout_s: float) -> list[RankReport]:
    """All ranks as processes of this machine, with a rendezvous server or a folder for messages."""
    if work.world_size > _MAX_LOCAL_RANKS:
        raise BadInput(f"--world-size {work.world_size} is more than one machine is asked to run: {_MAX_LOCAL_RANKS}.")
    with ExitStack() as stack:
        if work.channel != "store" and work.rendezvous is None:
            from skyfan.serving.embedded_rendezvous import EmbeddedServer

            logs.configure("rendezvous", "warning")
            work = work.model_copy(update={"rendezvous": stack.enter_context(EmbeddedServer()).address})
        if work.channel == "store" and work.store is None:
            work = work.model_copy(update={"store": stack.enter_context(tempfile.TemporaryDirectory())})
        return _collect(stack.enter_context(_processes(work)), time.monotonic() + 2 * timeout_s)


@contextlib.contextmanager
def _processes(work: RankCheck) -> Iterator[list[subprocess.Popen[str]]]:
    """One process a rank; none is left behind."""
    with ExitStack() as stack:
        started = []
        for rank in range(work.world_size):
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "skyfan.comm.check_rank"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            started.append(stack.enter_context(process))
            stack.callback(process.kill)  # before the process's own exit, which waits
            assert process.stdin is not None
            process.stdin.write(work.model_copy(update={"rank": rank}).model_dump_json())
            process.stdin.close()
            process.stdin = None
        yield started


def _collect(processes: list[subprocess.Popen[str]], deadline: float) -> list[RankReport]:
    reports, failures = [], []
    for rank, process in enumerate(processes):
        try:
            output, complaint = process.communicate(timeout=max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired as error:
            raise CommError(f"rank {rank} did not finish in time; allow more with --timeout.") from error
        if process.returncode == 0:
            reports.append(RankReport.model_validate_json(output))
        else:
            last = complaint.strip().splitlines()[-1:] or [f"exit code {process.returncode}"]
            failures.append(f"rank {rank}: {last[0]}")
    if failures:
        raise CommError(f"{len(failures)} of {len(processes)} ranks failed; {failures[0]}")
    return reports


def _content(reports: list[RankReport]) -> dict[str, object]:
    first = reports[0]
    return {
        "channel": first.channel,
        "why": first.why,
        "paths": {report.rank: report.paths for report in reports},
        "formation_s": first.formation_s,
        "connect_s": {report.rank: report.connect_s for report in reports},
        "ping_pong": first.ping_pong,
        "collectives": first.collectives,
    }


def _print(reports: list[RankReport], latency_s: float) -> None:
    first = reports[0]
    say(first.why)
    relayed = sum(path == "relay" for report in reports for path in report.paths.values()) // 2
    if first.channel == "direct" and relayed:
        say(f"{relayed} pairs could not connect directly and are relayed.")
    if first.ping_pong:
        out.print(_ping_table(first))
    if first.collectives:
        out.print(_collective_table(first))
    out.print(f"deployment latency: {latency_s:.3f} s")


def _ping_table(report: RankReport) -> Table:
    table = Table(title=f"ping-pong between ranks 0 and 1 ({report.channel})")
    for heading in ("message", "latency, ms", "bandwidth, MB/s", "repetitions"):
        table.add_column(heading, justify="right")
    for each in report.ping_pong:
        table.add_row(
            format_size(each.size_bytes),
            f"{each.latency_s * 1e3:.3f}",
            f"{each.bandwidth_bytes_per_s / 2**20:.2f}",
            str(each.repetitions),
        )
    return table


def _collective_table(report: RankReport) -> Table:
    table = Table(title="collectives (slowest rank, median)")
    table.add_column("operation")
    for heading in ("array", "time, ms", "repetitions"):
        table.add_column(heading, justify="right")
    for each in report.collectives:
        size = format_size(each.size_bytes) if each.size_bytes else "–"
        table.add_row(each.name, size, f"{each.time_s * 1e3:.3f}", str(each.repetitions))
    return table
