"""Which engine runs a model, and why."""

from importlib.util import find_spec
from typing import TYPE_CHECKING

from skyfan.engine.base import Engine
from skyfan.errors import BadInput
from skyfan.plan import RunOptions

if TYPE_CHECKING:
    from skyfan.models.loading import LoadedModel

ENGINES = ("auto", "torch", "openvino")


def create_engine(model: "LoadedModel", options: RunOptions, *, threads: int) -> Engine:
    """The engine that `options` asks for; `auto` takes the fastest that is installed and fits the model."""
    if options.engine not in ENGINES:
        raise BadInput(f"engine {options.engine!r} is not known; choose one of {', '.join(ENGINES)}.")
    if options.engine == "openvino" or options.precision in ("bf16", "int8"):
        return _openvino(model, options, threads=threads)
    from skyfan.engine.torch_engine import TorchEngine

    return TorchEngine(model, threads=threads, reason="asked for" if options.engine == "torch" else "the reference")


def _openvino(model: "LoadedModel", options: RunOptions, *, threads: int) -> Engine:
    if options.engine == "torch":
        raise BadInput(f"precision {options.precision!r} is not available with the torch engine; use float32.")
    if find_spec("openvino") is None:
        raise BadInput("the openvino engine is not installed; install skyfan[openvino] or use --engine torch.")
    from skyfan.engine.openvino_engine import OpenVINOEngine, supported_precisions

    precision = "float32" if options.precision == "auto" else options.precision
    if precision != "float32" and precision not in supported_precisions():
        raise BadInput(f"this machine's processor has no {precision} arithmetic; use --precision float32.")
    return OpenVINOEngine(model, threads=threads, precision=precision, reason="asked for")
