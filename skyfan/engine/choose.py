"""Which engine runs a model, and why."""

from typing import TYPE_CHECKING

from skyfan.engine.base import Engine
from skyfan.errors import BadInput
from skyfan.plan import RunOptions

if TYPE_CHECKING:
    from skyfan.models.loading import LoadedModel

ENGINES = ("auto", "torch")


def create_engine(model: "LoadedModel", options: RunOptions, *, threads: int) -> Engine:
    """The engine that `options` asks for; `auto` takes the fastest that is installed and fits the model."""
    if options.engine not in ENGINES:
        raise BadInput(f"engine {options.engine!r} is not known; choose one of {', '.join(ENGINES)}.")
    if options.precision not in {"float32", "auto"}:
        raise BadInput(f"precision {options.precision!r} is not available with the torch engine; use float32.")
    from skyfan.engine.torch_engine import TorchEngine

    reason = "asked for" if options.engine == "torch" else "the only engine installed"
    return TorchEngine(model, threads=threads, reason=reason)
