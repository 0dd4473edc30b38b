"""One executor of `benchmarks.gpu`: makes its engine, says "ready", waits for a line, computes its rank, prints JSON.

`python -m benchmarks.gpu_worker bare JSON` measures the model alone instead, on samples that lie on the device.
"""

import json
import sys
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from skyfan.engines.base import Engine
from skyfan.engines.compile_cache import use_inductor_cache
from skyfan.engines.cuda_engine import HALF, CudaEngine
from skyfan.engines.torch_graph import MatrixAstroMAE
from skyfan.job import RunOptions
from skyfan.layout import FileLayout
from skyfan.models import load_model
from skyfan.models.astromae_matrix import matrix_form
from skyfan.planning import PlanItem
from skyfan.stages.calibration import first_samples
from skyfan.stages.infer import infer
from skyfan.stages.messages import InferRequest
from skyfan.stages.model_cache import ModelCache

BARE_SECONDS = 1.5


@dataclass
class GpuCache(ModelCache):
    """The GPU's engine, on whatever device there is."""

    compiled: bool = False

    def engine(self, uri: str, digest: str, options: RunOptions, file: FileLayout, *_parts: object) -> Engine:
        """Made once."""
        if self._engine is None:
            model = load_model(uri, device=self.device)
            samples, reduced = first_samples(file, model, options), (options.precision,)
            made = CudaEngine(model, precisions=reduced, reason="bench", samples=samples, compiled=self.compiled)
            self._engine = ((digest, options, ""), made)
        return self._engine[1]


def rank(case: dict[str, Any]) -> dict[str, Any]:
    """One rank from its files to committed predictions; the clock runs from the line that lets it go."""
    began = time.perf_counter()
    request = InferRequest.model_validate_json(case["request"])
    item: PlanItem = request.item
    models = GpuCache(threads=1, device=case["device"], compiled=case["compiled"])
    engine = models.engine(request.model.uri, request.model.digest, request.job.options, item.files[0])
    blank = [np.zeros((1, *spec.row_shape), np.float32) for spec in item.files[0].tensors[:2]]
    engine.predict(blank)
    start_s = time.perf_counter() - began
    print("ready", flush=True)
    sys.stdin.readline()
    went = time.perf_counter()
    record = infer(request, models)
    return {
        "start_s": start_s,
        "wall_s": time.perf_counter() - went,
        "samples": record.samples,
        "bytes": record.bytes_read,
        "wait_s": record.wait_s,
        "compute_s": record.compute_s,
        "deviation": engine.info.deviation,
        "piece": engine.info.piece_samples,
        "device": engine.info.device,
    }


def bare(case: dict[str, Any]) -> dict[str, Any]:
    """Samples a second of the module alone, in the engine's pieces, with inputs that are on the device already."""
    device, precision, piece = torch.device(case["device"]), case["precision"], case["piece"]
    model = load_model(case["model"])
    assert model.config is not None
    torch.set_float32_matmul_precision("highest" if precision == "float32" else "high")
    torch.backends.cudnn.allow_tf32 = precision != "float32"
    module: Any = MatrixAstroMAE(matrix_form(model.weights, model.config), HALF.get(precision)).to(device)
    if case["compiled"]:
        use_inductor_cache(model.digest)  # the engine's, of the same model
        module = torch.compile(module, dynamic=False)
    shapes = [tuple(size for size in wanted.shape if size) for wanted in model.inputs]
    values = [torch.rand((piece, *shape), device=device) for shape in shapes]

    def finished() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    with torch.inference_mode():
        module(*values)
        start, done = finished(), 0
        while finished() - start < BARE_SECONDS:
            for _ in range(4 if device.type == "cuda" else 1):
                module(*values)
                done += piece
        return {"samples_per_s": done / (finished() - start)}


def main() -> None:
    """The last line is JSON."""
    kind, case = sys.argv[1], json.loads(sys.argv[2])
    print(json.dumps(bare(case) if kind == "bare" else rank(case)), flush=True)


if __name__ == "__main__":
    main()
