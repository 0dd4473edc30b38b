"""Every `SKYFAN_*` environment variable: name, type, default, meaning and who reads it, in one typed table.

A group of variables is a class; `read` gives its values as the environment has them at that moment. An empty variable
counts as one that is not set. `docs/reference/settings.md` is generated from this module (`make docs`).
"""

import types
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from skyfan.aws_limits import LAMBDA_CONCURRENCY, LAMBDA_TIMEOUT_S
from skyfan.errors import BadInput

_Port = Annotated[int, Field(ge=0, le=65535)]


def _counts(value: object) -> object:
    """`a=1,b=2` as a dictionary."""
    if not isinstance(value, str):
        return value
    return dict(part.strip().partition("=")[::2] for part in value.split(",") if part.strip())


_LowerCase = BeforeValidator(lambda text: text.lower() if isinstance(text, str) else text)


class Settings(BaseSettings):
    """Base of all groups; the docstring of a group says who reads it."""

    model_config = SettingsConfigDict(env_prefix="SKYFAN_", env_ignore_empty=True, extra="ignore", frozen=True)


class LogSettings(Settings):
    """Every process that logs: services, containers, functions, `skyfan run`."""

    model_config = SettingsConfigDict(env_prefix="SKYFAN_LOG_")

    format: Literal["json", "text"] | None = Field(
        None, description="how log lines look; unset: text on a terminal, JSON elsewhere"
    )
    level: Annotated[Literal["debug", "info", "warning", "error"], _LowerCase] = Field(
        "info", description="the least important lines that are written"
    )


class CallSettings(Settings):
    """Servers and those that call them."""

    token: SecretStr = Field(
        SecretStr(""), description="a shared secret that every call carries and every server checks; unset: no check"
    )
    token_secret: str = Field(
        "", description="ARN of the AWS secret that holds the token, for functions, whose environment holds no secret"
    )
    tls_cert: Path | None = Field(None, description="this end's certificate chain, PEM; TLS needs all three files")
    tls_key: Path | None = Field(None, description="its private key, PEM")
    tls_ca: Path | None = Field(None, description="the authority that the other end's certificate must come from, PEM")


class ServerSettings(Settings):
    """A server that is started by hand or in a container."""

    address: str | None = Field(
        None, description="HOST:PORT to listen on; unset: the default of the server's option --address"
    )
    observer_port: _Port = Field(
        50055, description="TCP port on which the rendezvous server sends ranks their public address; 0: any free port"
    )


class ComputeSettings(Settings):
    """Executors, and `skyfan run --on process`."""

    threads: PositiveInt | None = Field(
        None, description="threads to compute with; unset: the processors that the process may use"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="where to compute; auto: the GPU if there is one that torch can use"
    )


class NetworkSettings(Settings):
    """`--on compose`, ranks that talk to each other, and `skyfan comm`."""

    partitioner: str = Field("partitioner:50051", description="HOST:PORT of the partitioner")
    aggregator: str = Field("aggregator:50051", description="HOST:PORT of the aggregator")
    executors: str = Field("executor:50051", description="HOST:PORT of the executors: every address behind this name")
    rendezvous: str | None = Field(
        None, description="HOST:PORT of the rendezvous server; unset: rendezvous:50054 on compose, none elsewhere"
    )
    group_token: SecretStr = Field(
        SecretStr(""), description="the secret of a group that `skyfan.comm.connect` joins, 16 characters or more"
    )
    comm_store: str | None = Field(
        None, description="URI for the objects of `skyfan comm check --channel store`; unset: a temporary folder"
    )


class RendezvousLimits(Settings):
    """The rendezvous server: what one server allows."""

    model_config = SettingsConfigDict(env_prefix="SKYFAN_RENDEZVOUS_")

    groups: PositiveInt = Field(64, description="groups at one time")
    world_size: PositiveInt = Field(1024, description="ranks of one group")
    members: PositiveInt = Field(4096, description="ranks of all groups together")
    queued_bytes: PositiveInt = Field(256 * 2**20, description="relayed bytes in flight, all groups together")
    lifetime_s: PositiveInt = Field(7200, description="age at which a group expires")
    join_deadline_s: PositiveInt = Field(LAMBDA_TIMEOUT_S, description="longest wait for a group to be full")


class FunctionSettings(Settings):
    """The functions on AWS Lambda and LocalStack."""

    target: str = Field(
        "aws", description="what the summary names as target; LocalStack's times must not be taken for Lambda's"
    )
    rank_limit_s: PositiveFloat = Field(
        LAMBDA_TIMEOUT_S, description="time limit of a rank, by which the partitioner refuses ranks that are too large"
    )
    map_concurrency: PositiveInt = Field(
        LAMBDA_CONCURRENCY, description="ranks at once that the deployment allows, whatever a job's `workers` asks for"
    )
    computes: Annotated[dict[str, PositiveInt], NoDecode, BeforeValidator(_counts)] = Field(
        {}, description="what is deployed beside Lambda, and its tasks at once: batch=64,batch-gpu=4,sagemaker=4"
    )


class SlurmSettings(Settings):
    """`--on slurm`."""

    model_config = SettingsConfigDict(env_prefix="SKYFAN_SLURM_")

    config: Path | None = Field(None, description="a TOML file with the cluster's partition, account and so on")


class CostSettings(Settings):
    """`skyfan cost`, and every run that reports its cost."""

    prices: Path | None = Field(None, description="a price file to use instead of the packaged one")


class ComposeSettings(Settings):
    """The driver's container."""

    buckets: str = Field("", description="names of buckets, separated by spaces, that are made before a job starts")


_Group = TypeVar("_Group", bound=Settings)


def read(group: type[_Group]) -> _Group:
    """The variables of `group` as the environment has them now.

    Raises:
        BadInput: a variable has a value that cannot be used.
    """
    try:
        return group()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = str(first["loc"][0])
        raise BadInput(
            f"{variable(group, field)} is {first['input']!r}; give {accepted(group.model_fields[field])}."
        ) from None


def variable(group: type[Settings], field: str) -> str:
    """The name of the environment variable of a group's field, such as `SKYFAN_LOG_LEVEL`."""
    if field not in group.model_fields:
        raise KeyError(field)
    return f"{group.model_config['env_prefix']}{field}".upper()


def groups() -> list[type[Settings]]:
    """All groups, in the order of this module."""
    return Settings.__subclasses__()


def accepted(field: FieldInfo) -> str:
    """What a field accepts, in words: "a whole number of at least 1", "one of auto, cpu, cuda"."""
    kind, limits = _without_none(field.annotation), list(field.metadata)
    if get_origin(kind) is Annotated:
        kind, *more = get_args(kind)
        limits += [limit for part in more for limit in (part.metadata if isinstance(part, FieldInfo) else [part])]
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    if kind in (int, float):
        number = "a whole number" if kind is int else "a number"
        return " ".join([number, *_bounds(limits, whole=kind is int)])
    return {Path: "the path of a file", SecretStr: "a secret"}.get(kind, "text")


def _without_none(kind: Any) -> Any:
    if get_origin(kind) in (Union, types.UnionType):
        return next(part for part in get_args(kind) if part is not types.NoneType)
    return kind


def _bounds(limits: list[Any], *, whole: bool) -> list[str]:
    words = []
    for limit in limits:
        if isinstance(limit, Gt):
            words.append(f"of at least {int(str(limit.gt)) + 1}" if whole else f"above {limit.gt}")
        elif isinstance(limit, Ge):
            words.append(f"of at least {limit.ge}")
        elif isinstance(limit, Le):
            words.append(f"and at most {limit.le}")
    return words
