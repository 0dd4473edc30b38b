"""Runs one variant once, in a process of its own, and prints what it measured as one JSON line.

Every variant does the same job: files in a folder → predictions (the reference throws its away). The clock
starts after the imports and the warm-up of the page cache, so that no side pays for Python's start.
"""

import importlib
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.measure import peak_rss_bytes, rss_bytes


def reference(name: str, folder: Path) -> dict[str, Any]:
    """One of the reference's scripts, or the plain loop."""
    from benchmarks import reference_scripts

    baseline = rss_bytes()
    outcome = getattr(reference_scripts, name)(folder / "data.pt", folder / "model.pickle")
    return vars(outcome) | {"baseline_rss_bytes": baseline}


def skyfan(options: str, folder: Path) -> dict[str, Any]:
    """One rank's job in this process: load and check the model, plan, infer, commit predictions and record.

    `options` is engine/precision, and `:unchecked` where the folder holds no reference outputs.
    """
    import numpy as np
    import pyarrow.parquet as pq

    from skyfan.engines.threads import available_threads
    from skyfan.job import Job
    from skyfan.runs.folder import RunFolder
    from skyfan.stages.infer import infer
    from skyfan.stages.messages import InferRequest, ModelFile, PlanRequest, PrepareRequest
    from skyfan.stages.model_cache import ModelCache
    from skyfan.stages.plan import plan
    from skyfan.stages.prepare import prepare

    chosen, _, unchecked = options.partition(":")
    engine, precision = chosen.split("/")
    _import_engine(engine)
    baseline = rss_bytes()
    data, model = str(folder / "data.pt"), str(folder / "model.safetensors")
    with tempfile.TemporaryDirectory(dir=folder) as name:
        output = RunFolder(f"{name}/run")
        start, cpu = time.perf_counter(), time.process_time()
        models = ModelCache(threads=available_threads())
        asked = {"dataset": data, "model": model, "output": output.uri, "partition_size": "file"}
        job = Job.model_validate(asked | {"engine": engine, "precision": precision})
        prepared = prepare(PrepareRequest(job=job), models)
        reply = plan(PlanRequest(job=job, model=prepared))
        item = output.read_plan().item(0)
        file = ModelFile(uri=model, digest=prepared.digest, source_digest=prepared.digest, engine="openvino")
        record = infer(InferRequest(run_id=reply.run_id, job=job, item=item, model=file), models)
        wall_s, cpu_s = time.perf_counter() - start, time.process_time() - cpu
        z = pq.read_table(output.predictions_uri(0))["z_pred"].to_numpy()
    expected = z if unchecked else np.load(folder / "expected.npy")
    difference = np.abs(z - expected)
    wanted = {"engine", "engine_version", "engine_reason", "precision", "deviation", "load_s", "wait_s", "compute_s"}
    return {
        "samples": record.samples,
        "wall_s": wall_s,
        "cpu_s": cpu_s,
        "baseline_rss_bytes": baseline,
        "max_deviation": float((difference / np.maximum(1, np.abs(expected))).max()),
        "p999_deviation": float(np.quantile(difference, 0.999)),
        "record": record.model_dump(include=wanted),
    }


def _import_engine(engine: str) -> None:
    """Before the clock starts, as the reference's side has its libraries then."""
    modules = ["skyfan.engines.openvino_engine"]
    if engine == "torch":
        modules = ["skyfan.engines.torch_engine", "skyfan.models.astromae"]
    for module in modules:
        importlib.import_module(module)


def compute(options: str, folder: Path) -> dict[str, Any]:
    """The engine alone on samples in memory, beside a float32 matrix product in the same process."""
    import numpy as np

    from benchmarks.measure import flops_per_sample, gemm_flops_per_s
    from skyfan.engines import create_engine
    from skyfan.job import RunOptions
    from skyfan.models import load_model

    engine_name, precision, threads = options.split("/")
    model = load_model(str(folder / "model.safetensors"))
    rng = np.random.default_rng(0)
    count = 1024
    values = [rng.random((count, 5, 32, 32), dtype=np.float32), 18 + rng.random((count, 5), dtype=np.float32)]
    chosen = RunOptions.model_validate({"engine": engine_name, "precision": precision})
    engine = create_engine(model, chosen, threads=int(threads), samples=lambda: [part[:256] for part in values])
    batches = [[part[start : start + 512] for part in values] for start in range(0, count, 512)]
    engine.predict(batches[0])
    gemm = [gemm_flops_per_s(int(threads))]
    start, cpu = time.perf_counter(), time.process_time()
    for batch in batches:
        engine.predict(batch)
    wall_s, cpu_s = time.perf_counter() - start, time.process_time() - cpu
    gemm.append(gemm_flops_per_s(int(threads)))
    per_s = {kind: sum(part[kind] for part in gemm) / 2 for kind in gemm[0]}
    return {"samples": count, "wall_s": wall_s, "cpu_s": cpu_s, "gemm": per_s, "flops": flops_per_sample(model)}


KINDS = {"reference": reference, "skyfan": skyfan, "compute": compute}


def main() -> None:
    """`python -m benchmarks.variant KIND:OPTIONS FOLDER`."""
    kind, _, options = sys.argv[1].partition(":")
    result = KINDS[kind](options, Path(sys.argv[2]))
    print(json.dumps(result | {"peak_rss_bytes": peak_rss_bytes()}))


if __name__ == "__main__":
    main()
