"""ONNX models on onnxruntime: what OpenVINO does not run, such as trees, and all of them on a GPU."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from skyfan.engines.base import Engine, EngineInfo
from skyfan.layout import OutputSpec
from skyfan.models.inputs import ModelInputs
from skyfan.models.onnx.session import OnnxSession


class OnnxRuntimeEngine(Engine):
    """Runs a checked ONNX model; several outputs lie side by side under their names."""

    z_column = None

    def __init__(self, data: bytes, call: ModelInputs, *, threads: int, reason: str, cuda: bool = False) -> None:
        import onnxruntime

        self.call = call
        self._session = OnnxSession(data, call.tensors, threads=threads, cuda=cuda)
        self.info = EngineInfo(
            name="onnxruntime",
            version=onnxruntime.__version__,
            reason=reason,
            precision="float32",
            device="cuda" if cuda else "cpu",
            threads=threads,
        )

    def outputs(self, width: int) -> tuple[OutputSpec, ...]:  # noqa: ARG002 - they add up to it
        """Under the names that the model gives its outputs."""
        return self._session.outputs

    def predict(self, inputs: Sequence[NDArray[np.generic]]) -> NDArray[np.float32]:
        """Outputs [B, K]."""
        return self._session.predict(self.call.arrays(inputs))
