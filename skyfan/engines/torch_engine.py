"""The reference engine: the model as torch runs it, float32."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from skyfan.engines.base import Engine, EngineInfo
from skyfan.errors import ModelError
from skyfan.layout import OutputSpec
from skyfan.models.loading import LoadedModel
from skyfan.models.mixture import head_outputs
from skyfan.plain_text import first_line


class TorchEngine(Engine):
    """Runs a loaded model on the CPU."""

    def __init__(self, model: LoadedModel, *, threads: int, reason: str) -> None:
        torch.set_num_threads(threads)
        self._model, self.call = model, model.call
        # AstroMAE's one output is the redshift; of any other model the user says which column is.
        self.z_column = 0 if model.config is not None else None
        self.info = EngineInfo(
            name="torch",
            version=torch.__version__,
            reason=reason,
            precision="float32",
            device=model.device,
            threads=threads,
            torch_version=torch.__version__,
        )

    def outputs(self, width: int) -> tuple[OutputSpec, ...]:
        """The redshift and what describes its p(z), or under the names that a program gives its outputs."""
        program = self._model.program
        return head_outputs(width) if program is None else program.outputs

    def predict(self, inputs: Sequence[NDArray[np.generic]]) -> NDArray[np.float32]:
        """Outputs [B, width]; a model that returns [B] counts as width 1.

        Raises:
            ModelError: the model fails on these shapes, or does not give one row a sample.
        """
        tensors = [
            as_tensor(values, getattr(torch, taken.dtype))
            for values, taken in zip(inputs, self._model.inputs, strict=True)
        ]
        try:
            output = self._model.predict(*tensors)
        except RuntimeError as error:
            shapes = ", ".join(str(list(values.shape)) for values in inputs)
            raise ModelError(f"the model failed on tensors of shape {shapes}: {first_line(error)}") from error
        if not isinstance(output, torch.Tensor) or output.ndim == 0 or len(output) != len(tensors[0]):
            raise ModelError("the model must return one tensor with a row for every sample of the batch.")
        return output.reshape(len(output), -1).float().cpu().numpy()


def as_tensor(values: NDArray[np.generic], dtype: torch.dtype) -> torch.Tensor:
    """The values in the dtype that the model takes; a dataset may be stored in another one, such as bfloat16."""
    if values.dtype.kind == "V":  # ml_dtypes: torch reads such arrays only as a dtype that NumPy itself has
        values = values.astype(np.float32)
    if np.iscomplexobj(values) and not dtype.is_complex:
        raise ModelError(f"the model takes real numbers and a tensor of the dataset holds {values.dtype}.")
    return torch.from_numpy(np.ascontiguousarray(values)).to(dtype)
