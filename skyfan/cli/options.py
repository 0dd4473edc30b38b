"""Options that several commands share, with one spelling, one default and one help text each."""

from pathlib import Path, PurePath
from typing import Annotated

import typer

from skyfan.engines.device import checked_device
from skyfan.errors import BadInput
from skyfan.job import Job
from skyfan.planning import RunOptions
from skyfan.reference_payload import WHOLE_FILES
from skyfan.units import parse_size

DEFAULT_PARTITION = "25MB"


Dataset = Annotated[str, typer.Option(help="A .pt file or a folder of them: path, file://, s3:// (URI).")]
Model = Annotated[str, typer.Option(help="Checkpoint (.pt, .safetensors) or exported program (.pt2): path or URI.")]
PartitionSize = Annotated[
    str, typer.Option(help="About how much data a partition holds (MB is 2^20 bytes), or 'file': one a file.")
]
BatchSize = Annotated[int, typer.Option(help="Samples per forward pass.")]
WorldSize = Annotated[int | None, typer.Option(help="Number of ranks; one a partition by default.")]
FileLimit = Annotated[int | None, typer.Option(help="Use at most so many partitions.")]
Workers = Annotated[
    int | None,
    typer.Option("--workers", "--max-concurrency", help="Ranks at once; by default 2 on local, 1,000 on aws."),
]
Output = Annotated[str | None, typer.Option(help="The run's folder (path or URI); runs/<dataset> by default.")]
On = Annotated[str, typer.Option(help="Where to run: process, local, compose, localstack or aws.")]
StateMachine = Annotated[str, typer.Option(help="Name or ARN of the deployed pipeline, on localstack and aws.")]
Resume = Annotated[bool, typer.Option(help="Reuse what an earlier start of this very run committed.")]
Precision = Annotated[str, typer.Option(help="float32, or a reduced precision: bf16, int8, auto.")]
Engine = Annotated[str, typer.Option(help="Inference engine; auto takes the fastest that is installed.")]
ZColumn = Annotated[int | None, typer.Option(help="Which output column is redshift (not needed for AstroMAE).")]
Collectives = Annotated[
    bool,
    typer.Option(help="Ranks start together, and end knowing the whole run's metrics; all must run at once."),
]
Device = Annotated[
    str | None, typer.Option(help="auto, cpu or cuda, on process and local; auto is the GPU if there is one.")
]
Tolerate = Annotated[float, typer.Option(help="Percentage of ranks that may fail before the run is a failure.")]
CopyTo = Annotated[Path | None, typer.Option(help="Copy the run's files to this folder when it is done.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no table.")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable result on standard output.")]


def partition_bytes(text: str) -> int | None:
    """`"25MB"` → bytes; `"file"` → None, one partition a file."""
    return None if text == WHOLE_FILES else parse_size(text, "--partition-size")


def positive(value: int | None, option: str) -> int | None:
    """The value, refused by the option's name when it is below one."""
    if value is not None and value < 1:
        raise BadInput(f"{option} is {value}; it must be at least 1.")
    return value


def run_options(batch_size: int, precision: str, engine: str, z_column: int | None) -> RunOptions:
    """The options that are part of a run's identity."""
    positive(batch_size, "--batch-size")
    if precision not in {"float32", "tf32", "bf16", "int8", "auto"}:
        raise BadInput(f"--precision {precision} is not known; choose float32, bf16, int8, tf32 (on GPUs) or auto.")
    if z_column is not None and z_column < 0:
        raise BadInput(f"--z-column is {z_column}; columns count from 0.")
    return RunOptions.model_validate(
        {"batch_size": batch_size, "precision": precision, "engine": engine, "z_column": z_column}
    )


def default_output(dataset: str) -> str:
    """`runs/<name of the dataset>`."""
    return f"runs/{PurePath(dataset.rstrip('/')).stem or 'run'}"


def make_job(
    *,
    dataset: str,
    model: str,
    output: str | None,
    partition_size: str,
    world_size: int | None,
    file_limit: int | None,
    workers: int | None,
    options: RunOptions,
    resume: bool,
    tolerate: float,
    collectives: bool,
    device: str | None,
) -> Job:
    """A job of what the user typed, every option checked under the name that the user knows."""
    if not 0 <= tolerate <= 100:
        raise BadInput(f"--tolerate-failures is {tolerate}; it is a percentage, 0 to 100.")
    return Job(
        dataset=dataset,
        model=model,
        output=output or default_output(dataset),
        options=options,
        partition_size_bytes=partition_bytes(partition_size),
        world_size=positive(world_size, "--world-size"),
        file_limit=positive(file_limit, "--file-limit"),
        workers=positive(workers, "--workers"),
        tolerated_failure_percentage=tolerate,
        resume=resume,
        collectives=collectives,
        device=device and checked_device(device, "--device"),
    )
