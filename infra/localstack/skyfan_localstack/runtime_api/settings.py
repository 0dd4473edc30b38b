"""What the environment sets; docs in infra/localstack/README.md."""

from collections.abc import Mapping
from dataclasses import dataclass


class SettingsError(Exception):
    """An environment variable has a value that cannot be used."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Ports by function name, and how far invocations may queue for a free worker."""

    ports: Mapping[str, int]
    queue_length: int = 1000
    queue_wait_s: float = 60.0


def from_environment(environment: Mapping[str, str]) -> Settings:
    """Read `LAMBDA_RUNTIME_API_PORTS`, `_QUEUE` and `_QUEUE_WAIT_S`.

    Raises:
        SettingsError: a value is malformed, or two functions share a port.
    """
    ports: dict[str, int] = {}
    for pair in filter(None, environment.get("LAMBDA_RUNTIME_API_PORTS", "").split(",")):
        name, _, port = pair.strip().partition("=")
        if not name or not port.isdecimal() or not 0 <= int(port) < 65536:
            raise SettingsError(f"LAMBDA_RUNTIME_API_PORTS: {pair!r} is not NAME=PORT, such as skyfan-executor=9001.")
        if name in ports or (int(port) and int(port) in ports.values()):
            raise SettingsError(f"LAMBDA_RUNTIME_API_PORTS: {pair!r} repeats a name or a port.")
        ports[name] = int(port)
    return Settings(
        ports,
        queue_length=int(_positive(environment, "LAMBDA_RUNTIME_API_QUEUE", 1000)),
        queue_wait_s=_positive(environment, "LAMBDA_RUNTIME_API_QUEUE_WAIT_S", 60),
    )


def _positive(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(name, "")
    try:
        value = float(text) if text else default
    except ValueError as error:
        raise SettingsError(f"{name} is {text!r}, not a number.") from error
    if value <= 0:
        raise SettingsError(f"{name} is {text!r}; it must be greater than zero.")
    return value
