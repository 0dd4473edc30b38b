"""A checked ONNX model on onnxruntime."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skyfan.errors import ModelError
from skyfan.layout import OutputSpec
from skyfan.models.inputs import ModelInput
from skyfan.plain_text import first_line
from skyfan.sandbox import ConfinedThread

CPU_PROVIDER, CUDA_PROVIDER = "CPUExecutionProvider", "CUDAExecutionProvider"
_ERRORS_ONLY, _MAX_SHOWN = 3, 300


class OnnxSession:
    """Inputs [B, …] in, outputs [B, K] side by side out, on a thread that can write no file.

    A model of one batch size is given batches of that size, the last one filled up with its last sample.
    """

    def __init__(self, data: bytes, inputs: Sequence[ModelInput], *, threads: int, cuda: bool = False) -> None:
        import onnxruntime

        self._inputs, self._thread = inputs, ConfinedThread()
        self.outputs: tuple[OutputSpec, ...] = ()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = _ERRORS_ONLY + 1
        providers = [CUDA_PROVIDER, CPU_PROVIDER] if cuda else [CPU_PROVIDER]
        try:
            self._session = self._thread.run(lambda: onnxruntime.InferenceSession(data, options, providers=providers))
        # onnxruntime has an exception class for each of its codes, with no common one but Exception
        except Exception as error:
            raise ModelError(f"onnxruntime cannot load the model: {first_line(error)[:_MAX_SHOWN]}") from error
        self.names = [output.name for output in self._session.get_outputs()]

    def predict(self, rows: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Outputs [B, K]; raises `ModelError` where the model fails."""
        pairs = zip(rows, self._inputs, strict=True)
        values = [np.ascontiguousarray(held, dtype=taken.dtype) for held, taken in pairs]
        return self._thread.run(lambda: self._predict(values))

    def _predict(self, values: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        fixed, count = self._inputs[0].shape[0], len(values[0])
        if fixed is None or fixed == count:
            return self._columns(values)
        pieces = []
        for start in range(0, count, fixed):
            held = [array[start : start + fixed] for array in values]
            filled = [np.concatenate([a, np.repeat(a[-1:], fixed - len(a), axis=0)]) for a in held]
            pieces.append(self._columns(filled)[: len(held[0])])
        return np.concatenate(pieces)

    def _columns(self, values: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        given = {taken.name: held for taken, held in zip(self._inputs, values, strict=True)}
        count = len(values[0])
        try:
            outputs = [np.asarray(output) for output in self._session.run(None, given)]
        except Exception as error:
            shapes = ", ".join(str(list(array.shape)) for array in values)
            raise ModelError(
                f"the model failed on tensors of shape {shapes}: {first_line(error)[:_MAX_SHOWN]}"
            ) from error
        if any(output.ndim == 0 or len(output) != count for output in outputs):
            shapes = ", ".join(str(list(output.shape)) for output in outputs)
            raise ModelError(f"the model gives shapes {shapes} for {count} samples; each must be [samples, …].")
        self.outputs = tuple(OutputSpec(n, o.shape[1:]) for n, o in zip(self.names, outputs, strict=True))
        return np.concatenate([output.reshape(count, -1).astype(np.float32) for output in outputs], axis=1)


def has_cuda() -> bool:
    """Whether the onnxruntime that is installed can use a GPU."""
    import onnxruntime

    return CUDA_PROVIDER in onnxruntime.get_available_providers()
