"""Which engine runs a model, and why."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skyfan.engines.base import Engine
from skyfan.engines.check import DeviatesFromTorch
from skyfan.errors import BadInput, ModelError
from skyfan.job import RunOptions
from skyfan.models.loading import CPU, LoadedModel
from skyfan.models.onnx import NEEDED

ENGINES = ("auto", "torch", "openvino", "onnxruntime")
# Building an OpenVINO graph of this size and checking it with torch takes about a second, which the first thousand
# samples of a model this large earn back (benchmarks/NOTES.md); a smaller one may be done before it is built.
# With reference outputs in the model's file the second is saved instead: torch need not be imported.
OPENVINO_PAYS_FROM_PARAMETERS = 4_000_000
# `--precision auto` takes a reduced precision if 99.9% of the samples that it is tried on stay within this.
AUTO_MAX_DEVIATION = 0.002
UNBOUND = (
    "{} holds reference outputs that openvino does not give, and no digest that binds them to its weights: they may be "
    "those of others; run `skyfan model convert` on it, or use --engine torch."
)

Samples = Callable[[], Sequence[NDArray[np.generic]] | None]


def create_engine(model: LoadedModel, options: RunOptions, *, threads: int, samples: Samples | None = None) -> Engine:
    """The engine that `options` asks for; `auto` takes the fastest that is installed and fits the model.

    `samples` gives some of the dataset's samples, in the model's order of inputs: a reduced precision is
    calibrated on them and its deviation from float32 measured. Noise stands in for them on a CPU where it is None.
    Raises `BadInput` for options that do not go together, and what the engines raise.
    """
    if model.converted is None:
        _require_engine(model, options)
    if model.onnx is not None or model.format == "converted":
        return _without_torch(model, threads=threads)
    if model.device != CPU:
        return _cuda(model, options, samples)
    if options.compile:
        raise BadInput("--compile is for GPUs and the model would run on the CPU; leave it out, or use --device cuda.")
    if options.precision in ("tf32", "fp16"):
        raise BadInput(f"precision {options.precision!r} is arithmetic of GPUs; use float32, bf16 or int8 on a CPU.")
    if options.engine == "torch" and options.precision in ("bf16", "int8"):
        raise BadInput(f"precision {options.precision!r} is not available with the torch engine; use float32.")
    reduced = options.precision in ("bf16", "int8")
    stays = model.config is not None and (options.engine == "openvino" or reduced)
    why_torch = None if stays else _why_torch(model, options)
    if why_torch is None:
        try:
            return _openvino(model, options, threads=threads, samples=samples)
        except DeviatesFromTorch as error:
            if model.reference_outputs is not None and not model.bound_outputs:
                raise ModelError(UNBOUND.format(model.uri)) from error
            if options.engine == "openvino" or reduced:
                raise  # float32 in its place would not be what the run's identity says
            why_torch = f"auto: {error}"
    from skyfan.engines.torch_engine import TorchEngine

    return TorchEngine(model, threads=threads, reason=why_torch)


def _require_engine(model: LoadedModel, options: RunOptions) -> None:
    """Raises `BadInput` for an engine or a precision that cannot run this kind of model."""
    if options.engine not in ENGINES:
        raise BadInput(f"engine {options.engine!r} is not known; choose one of {', '.join(ENGINES)}.")
    other = "torch" if model.onnx else "onnxruntime"
    if options.engine == other:
        raise BadInput(f"the {other} engine does not run an {model.architecture}; use --engine auto.")
    if model.config is not None:
        return
    if options.compile and model.onnx is not None:
        raise BadInput("--compile is for models that torch runs; leave it out for an ONNX model.")
    if model.device == CPU and options.precision not in ("float32", "auto"):
        raise BadInput(f"precision {options.precision!r} is for AstroMAE; an {model.architecture} runs in float32.")
    if options.engine == "openvino" and find_spec("openvino") is None:
        raise BadInput("the openvino engine is not installed: pip install 'skyfan[openvino]', or use --engine auto.")


def _without_torch(model: LoadedModel, *, threads: int) -> Engine:
    """An ONNX model, or what a run's ranks load of a model, by the engine that was chosen for the run."""
    if model.converted is not None and model.converted.choice.engine == "openvino":
        if find_spec("openvino") is None:
            raise BadInput(
                "this run's engine is openvino, which is not installed here: pip install 'skyfan[openvino]'."
            )
        from skyfan.engines.openvino_ir import OpenVINOIREngine

        return OpenVINOIREngine(model.converted, model.call, threads=threads)
    if find_spec("onnxruntime") is None:
        raise BadInput(NEEDED)
    from skyfan.engines.onnx_engine import OnnxRuntimeEngine
    from skyfan.models.onnx.session import has_cuda

    data = model.onnx.data if model.onnx else model.converted.files["onnx"] if model.converted else b""
    reason = model.converted.choice.reason if model.converted else "it is not converted here"
    cuda = model.device != CPU and has_cuda()
    if model.device != CPU:
        reason += "" if cuda else "; onnxruntime has no CUDA here: install onnxruntime-gpu"
    return OnnxRuntimeEngine(data, model.call, threads=threads, reason=reason, cuda=cuda)


def _why_torch(model: LoadedModel, options: RunOptions) -> str | None:
    """Why `auto` stays with torch; None where OpenVINO is faster."""
    if options.engine == "torch":
        return "asked for"
    if find_spec("openvino") is None:
        return "auto: openvino is not installed"
    if model.converted is not None:
        return model.converted.choice.reason
    if model.config is None:
        return "it is not converted here"
    if model.reference_outputs is None and model.parameters < OPENVINO_PAYS_FROM_PARAMETERS:
        return "auto: a model this small is not worth converting"
    return None


def _cuda(model: LoadedModel, options: RunOptions, samples: Samples | None) -> Engine:
    from skyfan.engines.cuda_engine import AUTO_PRECISIONS, PRECISIONS, CudaEngine

    if options.engine == "openvino":
        raise BadInput(f"the openvino engine runs on CPUs, not on {model.device}; use --engine torch or --device cpu.")
    is_auto = options.precision == "auto"
    if not is_auto and options.precision not in PRECISIONS:
        offered = ", ".join(PRECISIONS)
        raise BadInput(f"precision {options.precision!r} is not available on {model.device}; use {offered}.")
    return CudaEngine(
        model,
        precisions=AUTO_PRECISIONS if is_auto else (options.precision,),
        max_deviation=AUTO_MAX_DEVIATION if is_auto else None,
        reason="asked for" if options.engine == "torch" else f"auto: a model on {model.device} is torch's",
        samples=samples() if samples is not None and options.precision != "float32" else None,
        compiled=options.compile,
    )


def _openvino(model: LoadedModel, options: RunOptions, *, threads: int, samples: Samples | None) -> Engine:
    if find_spec("openvino") is None:
        raise BadInput("the openvino engine is not installed: pip install 'skyfan[openvino]', or use --engine torch.")
    from skyfan.engines.openvino_engine import OpenVINOEngine, supported_precisions, supports

    settings: dict[str, Any] = {"threads": threads}
    reason = "asked for" if options.engine == "openvino" else "auto: the fastest for a model of this size on a CPU"
    if options.precision == "float32":
        return OpenVINOEngine(model, reason=reason, **settings)
    settings["samples"] = samples() if samples is not None else None
    if options.precision != "auto":
        if not supports(options.precision):
            raise BadInput(f"this machine's processor has no {options.precision} arithmetic; use --precision float32.")
        return OpenVINOEngine(model, precision=options.precision, reason=reason, **settings)
    for precision in supported_precisions():
        engine = OpenVINOEngine(
            model, precision=precision, reason=f"{reason}; {precision} is accurate enough", **settings
        )
        if engine.deviation.p999_abs <= AUTO_MAX_DEVIATION:
            return engine
    return OpenVINOEngine(model, reason=f"{reason}; no reduced precision is accurate enough", **settings)
