"""Options that several commands share.

Those of a job are made from the fields of `skyfan.Job`: an option that is not given stays out, so that defaults, limits
and descriptions stand in the job alone.
"""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import typer

from skyfan.job import Job, RunOptions

# Fields whose option is not spelled like them, or has a second name.
_SPELLED = {
    "tolerated_failure_percentage": ("--tolerate-failures",),
    "workers": ("--workers", "--max-concurrency"),
}
JOB_FIELDS = (
    *(name for name in Job.model_fields if name not in RunOptions.model_fields and name != "schema_"),
    *RunOptions.model_fields,
)

On = Annotated[str, typer.Option(help="Where to run: auto, process, local, compose, slurm, localstack or aws.")]
Start = Annotated[
    str | None, typer.Option(metavar="NAME", help="The start that `skyfan plan --write` named; the newest by default.")
]
StateMachine = Annotated[str, typer.Option(help="Name or ARN of the deployed pipeline, on localstack and aws.")]
SlurmConfig = Annotated[Path | None, typer.Option(help="TOML file with what a Slurm cluster asks for.")]
Slurm = Annotated[
    list[str] | None, typer.Option(metavar="KEY=VALUE", help="The same, one by one: partition, account, gres, …")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="On slurm: print the scripts, and write and submit nothing.")]
CopyTo = Annotated[Path | None, typer.Option(help="Copy the run's files to this folder when it is done.")]
Model = Annotated[str, typer.Option(help="Checkpoint (.pt, .safetensors) or exported program (.pt2): path or URI.")]
NoProgress = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no table.")]
Prices = Annotated[Path | None, typer.Option(help="Another price file.")]
Region = Annotated[str, typer.Option(help="AWS region whose prices to use.")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable result on standard output.")]


def option_of(field: str) -> str:
    """The option by which a job's field is given."""
    return _SPELLED.get(field, (f"--{field.replace('_', '-')}",))[0]


def make_job(fields: Mapping[str, object]) -> Job:
    """The job of what the user typed; a field that is refused is named by its option.

    Raises:
        BadInput: an option is missing or out of range.
    """
    return Job.checked(fields, option_of)


def takes_job(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command the options of these fields of a job, and what the user typed of them as its `fields`."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def with_fields(**given: Any) -> None:
            typed = {name: given.pop(name) for name in names}
            command(fields={name: value for name, value in typed.items() if value not in (None, [])}, **given)

        own = [one for one in inspect.signature(command).parameters.values() if one.name != "fields"]
        parameters = [*map(_parameter, names), *(one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own)]
        with_fields.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        with_fields.__annotations__ = {one.name: one.annotation for one in parameters}
        del with_fields.__wrapped__  # typer would look at the command's own signature
        return with_fields

    return decorate


def _parameter(name: str) -> inspect.Parameter:
    field = Job.model_fields[name]
    text = field.description or ""
    option = typer.Option(
        *_SPELLED.get(name, ()), help=f"{text[:1].upper()}{text[1:]}.", show_default=_shown(name, field.default)
    )
    kind = Annotated[_typed(name) | None, option]  # type: ignore[valid-type]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)


def _typed(name: str) -> Any:
    """What the command line reads; words and sizes are text, which the job checks. Lists may be given in parts."""
    field = Job.model_fields[name]
    if isinstance(field.default, tuple) or any(get_origin(part) is tuple for part in get_args(field.annotation)):
        return list[str]
    kinds = set(_kinds(field.annotation)) - {type(None)}
    return kinds.pop() if kinds in ({bool}, {float}, {int}) else str


def _kinds(annotation: Any) -> Iterator[Any]:
    """The plain types of a union of types and of `Annotated` ones."""
    parts = [part for part in get_args(annotation) if isinstance(part, type) or get_args(part)]
    for part in parts:
        yield from _kinds(part)
    if not parts:
        yield annotation


def _shown(name: str, default: object) -> str | bool:
    if default in (None, "", ()) or Job.model_fields[name].is_required():
        return False
    if isinstance(default, bool):
        return option_of(name) if default else f"--no-{name.replace('_', '-')}"
    return f"{default}"
