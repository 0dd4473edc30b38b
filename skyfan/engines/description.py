"""What a model gives, calls and costs, and which engine would run it on this machine, for `skyfan model inspect`."""

from collections import Counter
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from skyfan import store
from skyfan.engines.base import Engine
from skyfan.engines.choose import create_engine
from skyfan.engines.conversion import convert_model
from skyfan.engines.paying import SAVED_SHARE, conversion_takes_s
from skyfan.engines.threads import available_threads
from skyfan.errors import ModelError
from skyfan.job import RunOptions
from skyfan.layout import OutputSpec
from skyfan.models.loading import LoadedModel
from skyfan.models.reference_outputs import check_samples

_ROWS = 2


def describe(model: LoadedModel) -> dict[str, Any]:
    """`outputs`, `operators`, `flop_per_sample` and `engine` of a model; programs and ONNX are converted for that."""
    if model.config is not None:
        engine = create_engine(model, RunOptions(), threads=available_threads())
        info, (redshift, *of_p_z) = engine.info, _outputs(model, engine)
        return {
            "outputs": {redshift.name: "float32 [any]"} | {spec.name: _shape(spec) for spec in of_p_z},
            "flop_per_sample": _counted(_astromae_flop(model)),
            "engine": {"name": info.name, "reason": info.reason},
        }
    data = store.read(model.uri)
    conversion = convert_model(model, data, RunOptions(), threads=available_threads(), samples=None, timed=True)
    choice = conversion.choice
    outputs = choice.outputs or _outputs(model, create_engine(model, RunOptions(), threads=1))
    told: dict[str, Any] = {"name": choice.engine, "reason": choice.reason}
    if choice.deviation is not None:
        told["deviation"] = f"{choice.deviation['relative']:.1e} · max(1, |y|)"
    told |= {f"{name}, samples/s": f"{rate:,.0f}" for name, rate in choice.rates.items()}
    if model.program is not None and choice.engine == "openvino" and choice.rates:
        samples = conversion_takes_s(model.program.targets) / SAVED_SHARE * choice.rates["torch"]
        told["for runs"] = f"of more than about {samples:,.0f} samples; torch for shorter ones"
    return {
        "outputs": {spec.name: _shape(spec) for spec in outputs},
        "operators": dict(sorted(_operators(model).items())),
        "flop_per_sample": _counted(_flop(model)),
        "engine": told,
    }


def _shape(spec: OutputSpec) -> str:
    return "float32 [" + ", ".join(["any", *map(str, spec.row_shape)]) + "]"


def _counted(flop: int | None) -> str:
    return "not counted: it has no form of matrix products" if flop is None else f"{flop:,}"


def _examples(model: LoadedModel, rows: int) -> list[Any]:
    return check_samples(model.examples, model.inputs[0].shape[0] or rows)


def _outputs(model: LoadedModel, engine: Engine) -> tuple[OutputSpec, ...]:
    """By a prediction of this engine."""
    out = engine.predict(_examples(model, _ROWS))
    return engine.outputs(out.shape[1])


def _operators(model: LoadedModel) -> Mapping[str, int]:
    if model.onnx is not None:
        return model.onnx.operators
    assert model.program is not None
    return Counter(target.removeprefix("torch.ops.") for target in model.program.targets)


def _flop(model: LoadedModel) -> int | None:
    if model.onnx is not None:
        if find_spec("openvino") is None:
            return None
        from skyfan.engines.openvino_flop import flop_per_sample

        return flop_per_sample(model.onnx.data, [shape[1:] for shape in model.example_shapes])
    import torch

    assert model.program is not None
    rows = _examples(model, 1)
    tensors = [torch.from_numpy(v).to(getattr(torch, t.dtype)) for v, t in zip(rows, model.inputs, strict=True)]
    try:
        return model.program.count_flop(*tensors) // len(rows[0])
    except ModelError:
        return None


def _astromae_flop(model: LoadedModel) -> int:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    rows = [torch.from_numpy(values) for values in check_samples(model.inputs, 1)]
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model.module(*rows)
    return int(counter.get_total_flops())
