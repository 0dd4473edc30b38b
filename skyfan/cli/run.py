"""`skyfan run`: the whole job."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

import skyfan
from skyfan import logs
from skyfan.backends.base import DEFAULT_STATE_MACHINE, BackendSettings
from skyfan.backends.registry import create_backend
from skyfan.backends.slurm.slurm_options import SlurmOptions, read_options
from skyfan.cli import options
from skyfan.cli.console import configure_logs, err, out, print_json, say
from skyfan.cli.fetch import fetch
from skyfan.errors import BadInput, Incomplete, LocationError
from skyfan.events import ExecutionStarted
from skyfan.job import Job
from skyfan.progress.log_lines import LogProgress
from skyfan.progress.summary_rows import summary_rows
from skyfan.progress.terminal import TerminalProgress
from skyfan.progress.warnings import missing_hint, warnings
from skyfan.records import Summary
from skyfan.reference_payload import is_reference, parse_execution_input, reference_warnings
from skyfan.runs.folder import RunFolder
from skyfan.units import counted

Payload = Annotated[Path | None, typer.Option(help="A reference system's execution payload (JSON) instead.")]

# What may stand beside a payload: where the run is made, not what it is.
_BESIDE_PAYLOAD = frozenset({"workers", "device", "collectives"})


@options.takes_job(*options.JOB_FIELDS)
def run(
    fields: dict[str, object],
    payload: Payload = None,
    on: options.On = "auto",
    state_machine: options.StateMachine = DEFAULT_STATE_MACHINE,
    slurm_config: options.SlurmConfig = None,
    slurm: options.Slurm = None,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
    copy_to: options.CopyTo = None,
) -> None:
    """Predict every sample of a dataset: partition, infer in parallel, merge.

    Exit codes: 0 complete, 2 bad input, 3 complete but with samples missing, 4 failed, 130 interrupted.
    """
    if payload is not None:
        job = _job_of_payload(payload, fields)
    elif "dataset" in fields:
        job = options.make_job(fields)
    else:
        raise BadInput("name the data with --dataset FILE_OR_FOLDER, or give a --payload FILE.")
    cluster = _cluster(on, slurm_config, slurm or [], dry_run=dry_run)
    if dry_run and cluster:
        _print_scripts(job, cluster)
        return
    summary = execute(job, on, quiet=quiet or as_json, state_machine=state_machine, slurm=cluster)
    if job.verify_reads and summary.verified_tensors is None:
        say("warning: nothing was compared: these ranks were computed without --verify-reads; add --no-resume.")
    if copy_to:
        fetch(job.output, copy_to, quiet=quiet or as_json)
    show(summary, as_json=as_json, quiet=quiet)


def _cluster(on: str, config: Path | None, given: list[str], *, dry_run: bool) -> SlurmOptions | None:
    """What a Slurm cluster is asked for; None elsewhere."""
    if on == "slurm":
        return read_options(config, given)
    if config or given or dry_run:
        raise BadInput(f"--slurm-config, --slurm and --dry-run are for --on slurm, not for --on {on}.")
    return None


def _print_scripts(job: Job, cluster: SlurmOptions) -> None:
    # Loads engines, which other commands do not need.
    from skyfan.backends.slurm.backend import dry_run

    configure_logs()
    for script in dry_run(job, cluster):
        out.print(script)


def _job_of_payload(path: Path, typed: dict[str, object]) -> Job:
    """The job that an execution's input means: its script is not run."""
    for name in typed.keys() - _BESIDE_PAYLOAD:
        raise BadInput(
            f"{options.option_of(name)} cannot be given beside --payload; write it into that file, or leave --payload "
            "out."
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LocationError(f"--payload {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:  # not JSON, or not even UTF-8
        raise BadInput(f"--payload {path} is not JSON: {error}.") from error
    job = parse_execution_input(content)
    for warning in reference_warnings(content) if is_reference(content) else ():
        say(f"warning: {warning}")
    return options.make_job(job.model_dump(by_alias=True) | typed)


def execute(
    job: Job, on: str, *, quiet: bool, state_machine: str = DEFAULT_STATE_MACHINE, slurm: SlurmOptions | None = None
) -> Summary:
    """Runs the job and shows its progress; Ctrl-C and SIGTERM stop it cleanly.

    Where logs are asked to be JSON (in containers), progress is log lines too.
    """
    configure_logs()
    shown = LogProgress() if logs.as_json() and not quiet else TerminalProgress(err, say, quiet=quiet)

    def stop_execution(execution: ExecutionStarted) -> bool:
        """Asks where there is a terminal; without one there is nobody to ask, and the execution goes on."""
        shown.stop()
        return err.is_terminal and typer.confirm(f"Stop execution {execution.name}, too?", default=False, err=True)

    settings = BackendSettings(state_machine=state_machine, stop_execution=stop_execution, slurm=slurm)
    backend = create_backend(on, settings)
    with shown as listener:
        return skyfan.run(job, on=backend, progress=listener).summary


def show(summary: Summary, *, as_json: bool, quiet: bool) -> None:
    """Prints the summary.

    Raises:
        Incomplete: samples are missing, so that the exit code reports it.
    """
    folder = RunFolder(summary.output)
    if as_json:
        print_json(summary.to_json_dict())
    elif not quiet:
        table = Table(title=f"run {summary.run_id}: {summary.state}", show_header=False, title_justify="left")
        for row in summary_rows(summary):
            table.add_row(*row)
        out.print(table)
        say(f"report: {folder.report_uri}")
    for warning in warnings(summary):
        say(f"warning: {warning}")
    missing = summary.completeness.samples_missing
    if missing:
        reasons = "; ".join(f"{count:,} {reason}" for reason, count in summary.completeness.missing_reasons.items())
        have, them = ("has", "it") if missing == 1 else ("have", "them")
        raise Incomplete(
            f"{counted(missing, 'sample')} {have} no prediction ({reasons}); {folder.summary_uri} lists {them}."
            f"{missing_hint(summary)}"
        )
