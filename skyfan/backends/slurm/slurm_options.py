"""What a site's Slurm asks for: partition, account, modules. One small TOML file, each key also as an option."""

import shlex
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StringConstraints, ValidationError

from skyfan.columns import as_list
from skyfan.errors import BadInput, LocationError
from skyfan.settings import SlurmSettings, read
from skyfan.units import parse_size
from skyfan.validation import Frozen, first_problem


def _size_bytes(value: object) -> object:
    try:
        return parse_size(value) if isinstance(value, str) else value
    except BadInput as error:
        raise ValueError(str(error)) from error


# No quotes and no line ends: a value is one word of one #SBATCH line, and of nothing else in the script.
Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.,:=@+/*&|()\[\]-]*$", max_length=200)]
Option = Annotated[str, StringConstraints(pattern=r"^--[a-z][A-Za-z0-9_.,:=@+/*&|()\[\]-]*$", max_length=200)]
Line = Annotated[str, StringConstraints(pattern=r"^[^\n\r\x00]+$", max_length=1000)]


class SlurmOptions(Frozen):
    """How tasks are asked for; `skyfan run --on slurm --slurm KEY=VALUE`, or the same keys in a TOML file."""

    partition: Word | None = Field(None, description="where tasks run; the cluster's default where it is left out")
    account: Word | None = Field(None, description="whose allocation pays")
    qos: Word | None = Field(None, description="quality of service")
    gres: Word | None = Field(None, description="GPUs of a task, such as gpu:1 or gpu:a100:1")
    cpus_per_task: int = Field(1, ge=1, le=1024, description="processors of a task")
    memory: Annotated[int, BeforeValidator(_size_bytes)] | None = Field(
        None, gt=0, description="memory of a task, such as 4GB; by default what the model and a rank need"
    )
    minutes: int | None = Field(
        None, ge=1, description="time limit of a task; by default three times what its ranks should take"
    )
    ranks_per_task: int | None = Field(
        None, ge=1, description="ranks that one task computes; 1 where the array may be that long"
    )
    layout: Literal["array", "allocation"] = Field(
        "array", description="array: one job a task; allocation: one job of --workers tasks, which start together"
    )
    requeues: int = Field(3, ge=0, le=100, description="how often a task is started again that was lost or is worth it")
    modules: Annotated[tuple[Word, ...], BeforeValidator(as_list)] = Field(
        (), description="environment modules to load"
    )
    setup: Annotated[tuple[Line, ...], BeforeValidator(as_list)] = Field(
        (), description="lines of shell to run before, such as source ~/skyfan/bin/activate"
    )
    sbatch: Annotated[tuple[Option, ...], BeforeValidator(as_list)] = Field(
        (), description="further options of sbatch, such as --constraint=avx512"
    )
    logs: Line | None = Field(None, description="folder for the tasks' output; <output>/slurm by default")
    command: Line = Field(
        shlex.join([sys.executable, "-P", "-m", "skyfan"]),
        description="how a task calls skyfan; this Python by default, which must be there on the nodes too",
    )


def read_options(path: Path | None = None, given: Sequence[str] = ()) -> SlurmOptions:
    """The options in the file (`SKYFAN_SLURM_CONFIG` by default), and those `given` as KEY=VALUE above them.

    Raises:
        BadInput: a key is unknown, or a value cannot be used.
        LocationError: the file cannot be read.
    """
    path = path or read(SlurmSettings).config
    typed = dict(_pair(text) for text in given)
    return _checked((_of_file(path) if path else {}) | typed, f"--slurm-config {path}" if path else "--slurm")


def _of_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LocationError(f"--slurm-config {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise BadInput(f"--slurm-config {path} is not TOML: {error}.") from error


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise BadInput(f"--slurm {text} is not KEY=VALUE; write for example --slurm account=astro.")
    return key.strip().replace("-", "_"), value.strip()


def _checked(content: Mapping[str, Any], where: str) -> SlurmOptions:
    unknown = next((key for key in content if key not in SlurmOptions.model_fields), None)
    if unknown is not None:
        raise BadInput(f"{where}: {unknown} is unknown; known are {', '.join(SlurmOptions.model_fields)}.")
    try:
        return SlurmOptions.model_validate(content)
    except ValidationError as error:
        raise BadInput(f"{where}: {first_problem(error)}") from error
