"""Floating-point operations of an ONNX model, counted in OpenVINO's form of it: matrix products and convolutions."""

import math
from collections.abc import Sequence

from skyfan.engines.openvino_import import openvino


def flop_per_sample(data: bytes, row_shapes: Sequence[tuple[int, ...]]) -> int | None:
    """Two for each multiplication and addition, as torch counts; None where OpenVINO does not read the model."""
    try:
        model = openvino.Core().read_model(data)
        model.reshape({port: [1, *shape] for port, shape in zip(model.inputs, row_shapes, strict=True)})
    except RuntimeError:
        return None
    return sum(_flop(operation) for operation in model.get_ops())


def _flop(operation: openvino.Node) -> int:
    kind = operation.get_type_name()
    if kind not in ("MatMul", "Convolution", "GroupConvolution", "ConvolutionBackpropData"):
        return 0
    if operation.output(0).partial_shape.is_dynamic or operation.input(1).get_partial_shape().is_dynamic:
        return 0
    out, first, second = ([int(size) for size in shape] for shape in (
        operation.output(0).shape, operation.input(0).get_shape(), operation.input(1).get_shape()))  # fmt: skip
    if kind == "MatMul":
        inner = first[-2] if operation.get_attributes()["transpose_a"] else first[-1]
        return 2 * math.prod(out) * inner
    if kind == "ConvolutionBackpropData":  # weights [in, out, *kernel]: each input value meets the rest of them
        return 2 * math.prod(first) * math.prod(second[1:])
    # weights [out, in, *kernel], or [groups, out, in, *kernel]
    return 2 * math.prod(out) * math.prod(second[1 if kind == "Convolution" else 2 :])
