"""Programs of many architectures: which convert to OpenVINO, how exactly, and how fast against torch.

`python -m benchmarks.models [--limit-s S] [--names NAME …]` exports each architecture with random weights as a user
would, converts it as a run does, which times both engines in turns, and writes benchmarks/results/models.json and
models.md after every one. `--compiled`: those also timed with torch.compile; `--cold`: those also started without
torch (all by default).
"""

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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.architectures import OWN, Made, torchvision_models
from benchmarks.measure import machine
from benchmarks.part import Found, bytecode, heading, options_of, parser
from skyfan.engines.conversion import convert_model
from skyfan.errors import SkyfanError
from skyfan.job import RunOptions
from skyfan.models import load_model
from skyfan.models.converted import write_choice
from skyfan.models.reference_outputs import check_samples

THREADS, ROUNDS, SAMPLES = 1, 3, 128
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
    data = exported(module, example)
    path = folder / "m.pt2"
    path.write_bytes(data)
    model = load_model(str(path), planned_digest=hashlib.sha256(data).hexdigest())
    with spent() as conversion:
        made = convert_model(model, data, RunOptions(), threads=THREADS, samples=None, timed=True)
    choice = made.choice
    found: dict[str, Any] = {
        "name": name,
        "parameters": model.parameters,
        "conversion": conversion,
        "engine": choice.engine,
        "reason": choice.reason,
        "deviation": choice.deviation["relative"] if choice.deviation else None,
        "rates": choice.rates,
    }
    rows = check_samples(choice.examples(), SAMPLES)
    if compiled:
        found["compiled"] = against_compiled(module, rows)
    if cold and choice.engine == "openvino":
        write_choice(str(folder / "run"), choice, made.files)
        uri = folder / "run" / "engine.json"
        found["cold"] = cold_start(uri, hashlib.sha256(uri.read_bytes()).hexdigest(), rows, folder)
    return found


@contextmanager
def spent() -> Iterator[dict[str, float]]:
    """Wall-clock seconds, and CPU seconds of child processes, which a busy machine disturbs less."""
    found: dict[str, float] = {}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    yield found
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found |= {"wall_s": time.perf_counter() - start, "cpu_s": cpu_s}


def against_compiled(module: nn.Module, rows: list[Any]) -> dict[str, float]:
    """Samples a second of eager torch and `torch.compile`, in turns: the best of a few rounds; and what it took."""
    torch.set_num_threads(THREADS)
    tensors = [torch.from_numpy(values) for values in rows]
    made = torch.compile(module.eval())
    runs = {"eager": lambda: module(*tensors), "compiled": lambda: made(*tensors)}
    best = dict.fromkeys(runs, float("inf"))
    with torch.inference_mode():
        start = time.perf_counter()
        made(*tensors)
        compile_s = time.perf_counter() - start
        for _ in range(ROUNDS):
            for name, run in runs.items():
                start = time.perf_counter()
                run()
                best[name] = min(best[name], time.perf_counter() - start)
    return {name: len(rows[0]) / took for name, took in best.items()} | {"compile_s": compile_s}


def cold_start(uri: Path, digest: str, rows: list[Any], folder: Path) -> dict[str, float]:
    """From a new process to its first prediction, the best of a few: the libraries are in the page cache then."""
    np.savez(folder / "rows.npz", *[values[:1] for values in rows])
    command = [sys.executable, "-c", _COLD, str(uri), digest, str(folder / "rows.npz")]
    best = {"wall_s": float("inf"), "cpu_s": float("inf")}
    with bytecode() as environment:
        for _ in range(ROUNDS):
            with spent() as took:
                subprocess.run(command, env=environment, check=True, timeout=300)
            best = {name: min(best[name], took[name]) for name in best}
    return best


def ratio(line: Found) -> float | None:
    """OpenVINO's rate over torch's."""
    rates = line.get("rates") or {}
    return rates["openvino"] / rates["torch"] if "openvino" in rates else None


def pays_from_s(line: Found) -> float | None:
    """Seconds of torch's predictions from which converting saves more than it takes."""
    times = ratio(line)
    return line["conversion"]["wall_s"] / (1 - 1 / times) if times is not None and times > 1 else None


COLUMNS: dict[str, Callable[[Found], str]] = {
    "architecture": lambda line: line["name"],
    "parameters": lambda line: f"{line['parameters']:,}",
    "converts": lambda line: "yes" if line["deviation"] is not None else "no",
    "deviation": lambda line: "" if line["deviation"] is None else f"{line['deviation']:.0e}",
    "OpenVINO/s": lambda line: f"{line['rates']['openvino']:,.0f}" if line["rates"] else "",
    "torch/s": lambda line: f"{line['rates']['torch']:,.0f}" if line["rates"] else "",
    "OpenVINO ÷ torch": lambda line: _number(ratio(line), ".2f"),
    "compiled ÷ torch": lambda line: _number(_compiled_ratio(line), ".2f"),
    "compile s": lambda line: _number(line.get("compiled", {}).get("compile_s"), ".0f"),
    "engine": lambda line: line["engine"],
    "conversion s": lambda line: _both(line["conversion"]),
    "pays from s": lambda line: _number(pays_from_s(line), ".0f"),
    "cold start s": lambda line: _both(line["cold"]) if "cold" in line else "",
    "taken": lambda line: f"{line['taken'][11:16]}, load {line['load_average']:.1f}",
}
ABOUT = (
    "One thread, random weights, eager torch; engines in turns, the best of their rounds. *Conversion*: in a child "
    "process as in a run, imports, checks and trial included. *Pays from*: seconds of predicting with torch from which "
    "converting saves more than it takes. *Cold start*: a new process without torch to its first prediction, best of "
    "three. Seconds are wall-clock, in parentheses CPU seconds of all threads."
)


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _both(took: dict[str, float]) -> str:
    return f"{took['wall_s']:.1f} ({took['cpu_s']:.1f})"


def _compiled_ratio(line: Found) -> float | None:
    found = line.get("compiled")
    return found["compiled"] / found["eager"] if found else None


def table(result: Found) -> str:
    """The page for `benchmarks/results/models.md`."""
    lines = [line for line in result["models"] if "error" not in line]
    page = "\n".join([*heading(result, "Programs on OpenVINO", ABOUT), ""])
    page += f"| {' | '.join(COLUMNS)} |\n" + "|---" * len(COLUMNS) + "|\n"
    for line in lines:
        page += f"| {' | '.join(cell(line) for cell in COLUMNS.values())} |\n"
    ratios, costs = _found(ratio, lines), _found(pays_from_s, lines)
    taken = [max(1.0, found) for found in ratios]
    converted = sum(line["deviation"] is not None for line in lines)
    page += (
        f"\n{converted} of {len(lines)} convert; OpenVINO ÷ torch: median {statistics.median(ratios):.2f}, smallest "
    )
    page += f"{min(ratios):.2f}; with the engine that the trial takes: median {statistics.median(taken):.2f}, smallest "
    page += f"{min(taken):.2f}. Converting pays from {statistics.median(costs):.0f} s of torch in the median.\n"
    for line in lines:
        if line["engine"] != "openvino":
            page += f"\n- {line['name']}: {line['reason']}"
    for line in result["models"]:
        if "error" in line:
            page += f"\n- {line['name']}: {line['error']}"
    left_out = result["left_out"]
    return page + (f"\n\nNot measured: {', '.join(left_out)}.\n" if left_out else "\n")


def _found(measure: Callable[[Found], float | None], lines: list[Found]) -> list[float]:
    return [found for found in map(measure, lines) if found is not None]


def main() -> None:
    """Measures and writes after every architecture, so that an interrupted run keeps what it has."""
    options = parser(__doc__)
    options.add_argument("--limit-s", type=float, default=3600, help="begin no further architecture after this")
    options.add_argument("--names", nargs="*", help="these architectures only; the others' rows are kept")
    options.add_argument("--compiled", nargs="*", default=OWN)
    options.add_argument("--cold", nargs="*")
    asked = options.parse_args()
    results, before, began = options_of(asked).results, machine(), time.perf_counter()
    architectures = {**OWN, **torchvision_models()}
    lines = _kept(results / "models.json") if asked.names else {}
    for name in asked.names or architectures:
        if time.perf_counter() - began > asked.limit_s:
            break
        at = {"taken": datetime.now(UTC).isoformat(timespec="seconds"), "load_average": machine()["load_average"]}
        with tempfile.TemporaryDirectory() as folder:
            is_cold = asked.cold is None or name in asked.cold
            try:
                found = measure(name, architectures[name], Path(folder), name in asked.compiled, is_cold)
            except (SkyfanError, RuntimeError, subprocess.SubprocessError) as error:
                found = {"name": name, "error": str(error).splitlines()[0]}
        lines[name] = found | at
        print(json.dumps(lines[name]), flush=True)
        result = {
            "taken": at["taken"],
            "took_s": round(time.perf_counter() - began, 1),
            "machine": before | {"load_average_after": machine()["load_average"]},
            "models": [lines[name] for name in architectures if name in lines],
            "left_out": [name for name in architectures if name not in lines],
        }
        (results / "models.json").write_text(json.dumps(result, indent=1) + "\n")
        (results / "models.md").write_text(table(result))


def _kept(path: Path) -> dict[str, Found]:
    """The rows of earlier runs of this machine, by name."""
    return {line["name"]: line for line in json.loads(path.read_text())["models"]} if path.exists() else {}


if __name__ == "__main__":
    main()
