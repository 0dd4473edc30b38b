"""Programs of many architectures: which convert to OpenVINO, how exactly, and how fast against torch.

`python -m benchmarks.models [--limit-s S]` exports each architecture with random weights as a user would, converts it
as a run does (but in this process, so that libraries are imported once), which times both engines in turns, and writes
benchmarks/results/models.json and models.md after every one. `--compiled`: those also timed with torch.compile;
`--cold`: those also started without torch.
"""

import contextlib
import hashlib
import io
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.architectures import OWN, Made, torchvision_models
from benchmarks.measure import machine
from benchmarks.part import Found, heading, options_of, parser
from skyfan.engines import create_engine
from skyfan.engines.conversion import SAMPLES as SAMPLES_FILE
from skyfan.engines.conversion import SOURCE, Asked, micro_batch_of
from skyfan.engines.conversion_child import chosen
from skyfan.errors import SkyfanError
from skyfan.job import RunOptions
from skyfan.models import load_model
from skyfan.models.converted import EngineChoice, write_choice
from skyfan.models.loading import LoadedModel
from skyfan.models.reference_outputs import check_samples

THREADS, ROUNDS, SAMPLES = 1, 3, 128
COMPILED = ("convolutions + attention", "perceptron, 512 wide", "mixture density", "spectrum, 1-d residual")
COLD = ("convolutions + attention", "mixture density")
_COLD = """
import sys, time
start = time.perf_counter()
import numpy as np
from skyfan.engines import create_engine
from skyfan.job import RunOptions
from skyfan.models import load_model
engine = create_engine(load_model(sys.argv[1], planned_digest=sys.argv[2]), RunOptions(), threads=1)
with np.load(sys.argv[3]) as held:
    engine.predict([held[name] for name in held.files])
assert "torch" not in sys.modules
"""


def exported(module: nn.Module, example: tuple[torch.Tensor, ...]) -> bytes:
    """The `.pt2` file of a module with a free batch dimension."""
    batch = torch.export.Dim("batch", min=1, max=65536)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(module.eval(), example, dynamic_shapes=tuple({0: batch} for _ in example))
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


def measure(name: str, make: Callable[[], Made], folder: Path, compiled: bool, cold: bool) -> dict[str, Any]:
    """One line of the table."""
    torch.manual_seed(0)
    module, example = make()
    found: dict[str, Any] = {"name": name, "parameters": sum(p.numel() for p in module.parameters())}
    data = exported(module, example)
    path = folder / "m.pt2"
    path.write_bytes(data)
    model = load_model(str(path), planned_digest=hashlib.sha256(data).hexdigest())
    start = time.perf_counter()
    cpu = time.process_time()
    choice = converted_here(model, data, folder)
    found |= {
        "conversion_s": time.perf_counter() - start,
        "conversion_cpu_s": time.process_time() - cpu,
        "engine": choice.engine,
        "reason": choice.reason,
        "deviation": choice.deviation["relative"] if choice.deviation else None,
        "rates": choice.rates,
    }
    if choice.engine == "openvino" and (compiled or cold):
        write_choice(
            str(folder / "run"), choice, {path.suffix[1:]: path.read_bytes() for path in folder.glob("model.*")}
        )
        uri = folder / "run" / "engine.json"
        digest = hashlib.sha256(uri.read_bytes()).hexdigest()
        rows = check_samples(choice.examples(), SAMPLES)
        if compiled:
            engine = create_engine(load_model(str(uri), planned_digest=digest), RunOptions(), threads=THREADS)
            found["compiled"] = against_compiled(module, engine.predict, rows)
        if cold:
            found["cold"] = cold_start(uri, digest, rows, folder)
    return found


def converted_here(model: LoadedModel, data: bytes, folder: Path) -> EngineChoice:
    """What the child of a conversion does, in this process; the graph and the outputs are left in the folder."""
    (folder / SOURCE).write_bytes(data)
    np.savez(folder / SAMPLES_FILE)
    size = micro_batch_of(model)
    asked = Asked(kind="program", engine="auto", timed=True, threads=THREADS, micro_batch=size)
    with contextlib.chdir(folder):
        found = chosen(asked.model_dump_json().encode())
    given = {"source_uri": model.uri, "source_digest": model.digest, "parameters": model.parameters}
    shapes = {"inputs": model.inputs, "example_shapes": model.example_shapes, "micro_batch": size}
    return EngineChoice.model_validate({**given, **shapes, **found})


def against_compiled(module: nn.Module, predict: Callable[..., Any], rows: list[Any]) -> dict[str, float]:
    """Samples a second of OpenVINO, eager torch and `torch.compile`, in turns: the best of a few rounds."""
    torch.set_num_threads(THREADS)
    tensors = [torch.from_numpy(values) for values in rows]
    made = torch.compile(module.eval())
    runs = {"openvino": lambda: predict(rows), "eager": lambda: module(*tensors), "compiled": lambda: made(*tensors)}
    best = dict.fromkeys(runs, float("inf"))
    with torch.inference_mode():
        for run in runs.values():
            run()
        for _ in range(ROUNDS):
            for name, run in runs.items():
                start = time.perf_counter()
                run()
                best[name] = min(best[name], time.perf_counter() - start)
    return {name: len(rows[0]) / spent for name, spent in best.items()}


def cold_start(uri: Path, digest: str, rows: list[Any], folder: Path) -> dict[str, float]:
    """Seconds from a new process to its first prediction, and CPU seconds, which a busy machine disturbs less."""
    np.savez(folder / "rows.npz", *[values[:1] for values in rows])
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-c", _COLD, str(uri), digest, str(folder / "rows.npz")], check=True, timeout=300)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall_s": time.perf_counter() - start, "cpu_s": cpu_s}


def ratio(line: dict[str, Any]) -> float | None:
    """OpenVINO's rate over torch's."""
    rates = line.get("rates") or {}
    return rates["openvino"] / rates["torch"] if "openvino" in rates else None


def table(result: dict[str, Any]) -> str:
    """The page for `benchmarks/results/models.md`."""
    lines, left_out = result["models"], result["left_out"]
    ratios = [found for found in map(ratio, lines) if found is not None]
    about = "One thread, random weights, eager torch; engines in turns, best of three rounds; CPU s: the conversion's."
    page = "\n".join([*heading(result, "Programs on OpenVINO", about), ""])
    page += (
        "| architecture | parameters | converts | deviation | OpenVINO/s | torch/s | ratio | engine | convert CPU s |\n"
    )
    page += "|---|---|---|---|---|---|---|---|---|\n"
    for line in lines:
        rates, times = line.get("rates") or {}, ratio(line)
        cells = [
            line["name"],
            f"{line['parameters']:,}",
            "yes" if line.get("deviation") is not None else "no",
            f"{line['deviation']:.0e}" if line.get("deviation") is not None else "",
            *(f"{rates[name]:,.0f}" if name in rates else "" for name in ("openvino", "torch")),
            f"{times:.2f}" if times else "",
            line.get("engine", ""),
            f"{line['conversion_cpu_s']:.0f}" if "conversion_cpu_s" in line else "",
        ]
        page += f"| {' | '.join(cells)} |\n"
    converted = sum(line.get("deviation") is not None for line in lines)
    page += f"\n{converted} of {len(lines)} convert"
    page += f"; median ratio {statistics.median(ratios):.2f}, smallest {min(ratios):.2f}.\n" if ratios else ".\n"
    for line in lines:
        if line.get("engine") != "openvino":
            page += f"\n- {line['name']}: {line.get('reason') or line.get('error')}"
    page += "\n"
    for line in lines:
        if "compiled" in line:
            told = ", ".join(f"{name} {rate:,.0f}" for name, rate in line["compiled"].items())
            page += f"\n- {line['name']}, {SAMPLES} samples, samples/s: {told}"
        if "cold" in line:
            page += f"\n- {line['name']}, cold start without torch: {line['cold']['wall_s']:.1f} s"
            page += f" ({line['cold']['cpu_s']:.1f} CPU seconds)"
    page += f"\n\nNot measured in this run: {', '.join(left_out)}.\n" if left_out else "\n"
    return page


def main() -> None:
    """Measures and writes after every architecture, so that an interrupted run keeps what it has."""
    options = parser(__doc__)
    options.add_argument("--limit-s", type=float, default=3600, help="begin no further architecture after this")
    options.add_argument("--names", nargs="*", help="these architectures only")
    options.add_argument("--compiled", nargs="*", default=COMPILED)
    options.add_argument("--cold", nargs="*", default=COLD)
    asked = options.parse_args()
    results, before, began = options_of(asked).results, machine(), time.perf_counter()
    architectures = {**OWN, **torchvision_models()}
    if asked.names:
        architectures = {name: architectures[name] for name in asked.names}
    lines: list[Found] = []
    for name, make in architectures.items():
        if time.perf_counter() - began > asked.limit_s:
            break
        with tempfile.TemporaryDirectory() as folder:
            try:
                lines.append(measure(name, make, Path(folder), name in asked.compiled, name in asked.cold))
            except (SkyfanError, RuntimeError, subprocess.SubprocessError) as error:
                lines.append({"name": name, "parameters": 0, "error": str(error).splitlines()[0]})
        print(json.dumps(lines[-1]), flush=True)
        found = {
            "taken": datetime.now(UTC).isoformat(timespec="seconds"),
            "took_s": round(time.perf_counter() - began, 1),
            "machine": before | {"load_average_after": machine()["load_average"]},
            "models": lines,
            "left_out": [name for name in architectures if name not in {line["name"] for line in lines}],
        }
        (results / "models.json").write_text(json.dumps(found, indent=1) + "\n")
        (results / "models.md").write_text(table(found))


if __name__ == "__main__":
    main()
