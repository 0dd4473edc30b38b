"""`skyfan run`: the whole job."""

import asyncio
import json
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from skyfan import logs
from skyfan.backends import Job, create_target, run_job
from skyfan.backends.stepfunctions import DEFAULT_STATE_MACHINE, STEP_FUNCTIONS_TARGETS
from skyfan.cli import options
from skyfan.cli.console import out, print_json, say
from skyfan.cli.fetch import fetch
from skyfan.cli.log_progress import LogProgress
from skyfan.cli.progress import RunProgress
from skyfan.cli.stepfunctions import execute_on_stepfunctions
from skyfan.cli.tables import summary_table
from skyfan.engines.device import checked_device
from skyfan.errors import BadInput, Incomplete, Interrupted, LocationError
from skyfan.models import DEMO_MODEL
from skyfan.records import Summary
from skyfan.reference_payload import parse_request
from skyfan.runs.folder import RunFolder

Payload = Annotated[Path | None, typer.Option(help="A reference system's execution payload (JSON) instead.")]


# What may stand beside a payload: how the run is watched and where it is made, not what it is.
BESIDE_PAYLOAD = frozenset({"payload", "on", "state_machine", "workers", "device", "quiet", "as_json", "copy_to"})


def run(
    context: typer.Context,
    dataset: options.Dataset = "",
    model: options.Model = DEMO_MODEL,
    partition_size: options.PartitionSize = options.DEFAULT_PARTITION,
    batch_size: options.BatchSize = 512,
    world_size: options.WorldSize = None,
    file_limit: options.FileLimit = None,
    workers: options.Workers = None,
    output: options.Output = None,
    on: options.On = "local",
    state_machine: options.StateMachine = DEFAULT_STATE_MACHINE,
    resume: options.Resume = True,
    payload: Payload = None,
    tolerate_failures: options.Tolerate = 0.0,
    precision: options.Precision = "float32",
    engine: options.Engine = "auto",
    z_column: options.ZColumn = None,
    collectives: options.Collectives = False,
    device: options.Device = None,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
    copy_to: options.CopyTo = None,
) -> None:
    """Predict every sample of a dataset: partition, infer in parallel, merge.

    Exit codes: 0 complete, 2 bad input, 3 complete but with samples missing, 4 failed, 130 interrupted.
    """
    if payload is not None:
        _refuse_beside_payload(context)
        job = job_of_payload(payload, workers)
        beside = {
            "collectives": collectives or job.collectives,
            "device": device and checked_device(device, "--device"),
        }
        job = job.model_copy(update=beside)
    elif dataset:
        job = options.make_job(
            dataset=dataset,
            model=model,
            output=output,
            partition_size=partition_size,
            world_size=world_size,
            file_limit=file_limit,
            workers=workers,
            options=options.run_options(batch_size, precision, engine, z_column),
            resume=resume,
            tolerate=tolerate_failures,
            collectives=collectives,
            device=device,
        )
    else:
        raise BadInput("name the data with --dataset FILE_OR_FOLDER, or give a --payload FILE.")
    summary = execute(job, on, quiet=quiet or as_json, state_machine=state_machine)
    if copy_to:
        fetch(job.output, copy_to, quiet=quiet or as_json)
    show(summary, as_json=as_json, quiet=quiet)


def _refuse_beside_payload(context: typer.Context) -> None:
    for name in context.params.keys() - BESIDE_PAYLOAD:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            option = f"--{name.replace('_', '-')}"
            raise BadInput(f"{option} is said by the --payload file; write it there, or leave --payload out.")


def job_of_payload(path: Path, workers: int | None) -> Job:
    """The job that a reference payload means: each file is a partition, its script is not run."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LocationError(f"--payload {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:  # not JSON, or not even UTF-8
        raise BadInput(f"--payload {path} is not JSON: {error}.") from error
    request = parse_request(content)
    for warning in request.warnings:
        say(f"warning: {warning}")
    return Job.of_request(request, workers=workers)


def execute(job: Job, on: str, *, quiet: bool, state_machine: str = DEFAULT_STATE_MACHINE) -> Summary:
    """Runs the job and shows its progress; Ctrl-C and SIGTERM stop it cleanly.

    Where logs are asked to be JSON (in containers), progress is log lines too.
    """
    logs.configure("driver", level=None if logs.as_json() else "warning")
    shown = LogProgress() if logs.as_json() and not quiet else RunProgress(quiet=quiet)
    if on in STEP_FUNCTIONS_TARGETS:
        if job.device is not None:
            raise BadInput(f"--device is for process and local; functions, as of --on {on}, compute on CPUs.")
        return execute_on_stepfunctions(job, on, shown, state_machine)
    return asyncio.run(_execute(job, on, shown))


async def _execute(job: Job, on: str, shown: LogProgress | RunProgress) -> Summary:
    task = asyncio.current_task()
    assert task
    started_at = datetime.now(UTC)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        with shown as progress:
            async with create_target(on, workers=job.workers, collectives=job.collectives, device=job.device) as target:
                return await run_job(job, target, progress, started_at)
    except asyncio.CancelledError:
        raise Interrupted("interrupted; what is committed is kept, and the same command computes the rest.") from None


def show(summary: Summary, *, as_json: bool, quiet: bool) -> None:
    """Prints the summary; raises `Incomplete` when samples are missing, so that the exit code says so."""
    folder = RunFolder(summary.output)
    if as_json:
        print_json(summary.to_json_dict())
    elif not quiet:
        out.print(summary_table(summary))
        say(f"report: {folder.report_uri}")
    met = summary.collectives
    if met and met.errors:
        rank, error = min(met.errors.items())
        say(
            f"warning: {met.ranks - met.complete} of {met.ranks} ranks ended without the others' results, such as rank "
            f"{rank}: {error} Predictions are not touched by that."
        )
    missing = summary.completeness.samples_missing
    if missing:
        reasons = "; ".join(f"{count:,} {reason}" for reason, count in summary.completeness.missing_reasons.items())
        raise Incomplete(f"{missing:,} samples have no prediction ({reasons}); {folder.summary_uri} says which.")
