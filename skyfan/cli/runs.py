"""`skyfan runs`: executions on Step Functions, started earlier or by somebody else."""

import json
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.table import Table

from skyfan.backends.base import DEFAULT_STATE_MACHINE
from skyfan.backends.stepfunctions.access import AWS, Access, open_access
from skyfan.backends.stepfunctions.backend import console_url, stop
from skyfan.backends.stepfunctions.executions import (
    RunListed,
    RunShown,
    execution_arn,
    find_run,
    list_runs,
    redrive,
    show_run,
)
from skyfan.backends.stepfunctions.run_logs import LogLine, RunLogs
from skyfan.backends.stepfunctions.state_machine import find_machine
from skyfan.cli import options
from skyfan.cli.console import out, print_json, say
from skyfan.units import format_duration

app = typer.Typer(
    no_args_is_help=True, help="List, show, stop and redrive runs on Step Functions, and read their logs."
)

# Of a log line, what every line of a run has, or stands at its front.
_LOG_CONTEXT = {"timestamp", "service", "level", "event", "request_id", "execution", "start", "run_id", "rank"}

On = Annotated[str, typer.Option(help="aws or localstack.")]
Name = Annotated[str, typer.Argument(metavar="RUN", help="Name or ARN of an execution.")]


@app.command("list")
def list_command(
    on: On = AWS,
    state_machine: options.StateMachine = DEFAULT_STATE_MACHINE,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, newest first.")] = 20,
    as_json: options.Json = False,
) -> None:
    """The latest runs."""
    access = open_access(on)
    found = list_runs(access, find_machine(access, state_machine), limit)
    if as_json:
        print_json(found)
        return
    table = Table("run", "status", "started (UTC)", "took")
    for run in found:
        table.add_row(run.name, run.status, f"{run.started_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}", _took(run))
    out.print(table)


@app.command("show")
def show_command(
    run: Name,
    on: On = AWS,
    state_machine: options.StateMachine = DEFAULT_STATE_MACHINE,
    as_json: options.Json = False,
) -> None:
    """What one run was asked, how far its ranks are, and what came of it."""
    access = open_access(on)
    found = show_run(access, _arn(access, state_machine, run))
    if as_json:
        print_json(found)
        return
    out.print(_details(access, found))


@app.command("stop")
def stop_command(run: Name, on: On = AWS, state_machine: options.StateMachine = DEFAULT_STATE_MACHINE) -> None:
    """Stop a run and the ranks at work; what is committed stays, and running the same again resumes it."""
    access = open_access(on)
    arn = _arn(access, state_machine, run)
    if find_run(access, arn).status != "RUNNING":
        say(f"{run} has ended already.")
        return
    stop(access, arn, "stopped by skyfan runs stop")
    say(f"stopped {run}; what was committed is kept, and the same skyfan run command resumes.")


@app.command("redrive")
def redrive_command(run: Name, on: On = AWS, state_machine: options.StateMachine = DEFAULT_STATE_MACHINE) -> None:
    """Take a run up again that failed, was stopped or timed out; what is committed is kept."""
    access = open_access(on)
    machine = find_machine(access, state_machine)
    arn = execution_arn(machine, run)
    going_on = redrive(access, machine, arn)
    if going_on.arn == arn:
        say(f"{run} goes on; `skyfan runs show {arn}` shows how far it is.")
    else:
        say(f"{run} itself cannot go on: execution {going_on.name} does, with the same input.")
        out.print(going_on.name)


@app.command("logs")
def logs_command(
    run: Name,
    on: On = AWS,
    state_machine: options.StateMachine = DEFAULT_STATE_MACHINE,
    rank: Annotated[int | None, typer.Option(min=0, help="Of this rank alone.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")] = False,
    as_json: options.Json = False,
) -> None:
    """What the functions of one run, and its tasks on Batch or SageMaker, logged (CloudWatch)."""
    access = open_access(on)
    machine = find_machine(access, state_machine)
    logs = RunLogs(access, machine, execution_arn(machine, run), rank)
    for line in logs.follow() if follow else logs.lines():
        if as_json:
            out.print(json.dumps(line.fields))
        else:
            out.print(_log_text(line))


def _log_text(line: LogLine) -> str:
    """Time, function, rank, level and event; then what else the line tells."""
    fields = {name: value for name, value in line.fields.items() if name not in _LOG_CONTEXT and value is not None}
    rank = "" if line.fields.get("rank") is None else f" rank {line.fields['rank']}"
    told = " ".join(f"{name}={value}" for name, value in fields.items())
    level, event = line.fields.get("level", ""), line.fields.get("event", "")
    return f"{line.at:%H:%M:%S.%f} {line.function}{rank} {level} {event} {told}".rstrip()


def _arn(access: Access, state_machine: str, run: str) -> str:
    return run if run.startswith("arn:") else execution_arn(find_machine(access, state_machine), run)


def _took(run: RunListed) -> str:
    return format_duration(((run.ended_at or datetime.now(UTC)) - run.started_at).total_seconds())


def _details(access: Access, found: RunShown) -> Table:
    run = found.listed
    table = Table(title=run.name, show_header=False, title_justify="left")
    table.add_column()
    table.add_column(overflow="fold")
    table.add_row("execution", run.status)
    table.add_row("started (UTC)", f"{run.started_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}")
    table.add_row("took", _took(run))
    for key, otherwise in (("dataset", "–"), ("model", "the packaged one"), ("output", "–")):
        table.add_row(key, str(found.request.get(key) or otherwise))
    if found.ranks:
        table.add_row("ranks", ", ".join(f"{count:,} {state}" for state, count in found.ranks.items()))
    for key, value in (found.output or {}).items():
        table.add_row(key.replace("_", " "), str(value))
    if found.error:
        table.add_row(found.error, found.cause or "")
    table.add_row("ARN", run.arn)
    if access.on == AWS:
        table.add_row("console", console_url(run.arn))
    return table
