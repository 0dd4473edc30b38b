"""The GPU's rate from files to committed predictions: precision × compile × workers × source, in one command.

`python -m benchmarks.gpu` makes its input here (no download), writes results/gpu.json and gpu.md, and takes less than
6 minutes. First `skyfan run` is timed from its start to its exit, each precision twice and in turn, then ranks; beside
every rank's rate stands that of the bare model on the same card in the same run. Without a GPU the same code runs on
the CPU with few samples: that shows that it works, and nothing of a GPU's speed.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.inputs import reference_size_model
from benchmarks.part import ROOT, Found, last_line, options_of, parser, save
from benchmarks.range_server import BUCKET
from skyfan.engines.cuda_engine import PRECISIONS
from skyfan.engines.device import VISIBLE_DEVICES, available_device, visible_gpus
from skyfan.formats.torch import TensorFileWriter
from skyfan.job import Job
from skyfan.models import load_model
from skyfan.models.safetensors_files import model_bytes
from skyfan.runs.folder import RunFolder
from skyfan.stages.messages import InferRequest, ModelFile, PlanRequest, PreparedModel
from skyfan.stages.plan import plan

CHUNK = 4096
GPU_SAMPLES, CPU_SAMPLES = 655_360, 512  # 12.5 GiB
S3_SAMPLES = 16_384  # moto gives some 90 MB/s: a small part shows that the path works
LIMIT_S = 330.0
Case = tuple[str, bool, int, str]


def cases(device: str) -> list[Case]:
    """(precision, compiled, workers, source), the most telling first: what the time limit cuts off is the end."""
    if device == "cpu":
        alone: list[Case] = [(precision, False, 1, "page cache") for precision in PRECISIONS]
        return [*alone, ("float32", False, 2, "page cache"), ("float32", False, 1, "moto S3")]
    found: list[Case] = [(precision, False, 1, "page cache") for precision in ("tf32", "fp16", "float32", "bf16")]
    found += [("fp16", True, 1, "page cache"), ("tf32", False, 1, "moto S3"), ("fp16", False, 2, "page cache")]
    found += [(precision, True, 1, "page cache") for precision in ("tf32", "bf16")]
    return found


def write_dataset(path: Path, samples: int) -> None:
    """Images and magnitudes like those of SDSS; the same few thousand again and again."""
    rng = np.random.default_rng(0)
    chunk = min(CHUNK, samples)
    image = rng.gamma(0.5, 0.2, (chunk, 5, 32, 32)).astype(np.float32)
    magnitude = rng.normal(18, 1.5, (chunk, 5)).astype(np.float32)
    kinds = [("float32", (5, 32, 32)), ("float32", (5,)), ("float32", ())]
    with TensorFileWriter(path, samples, kinds) as writer:
        for start in range(0, samples, chunk):
            rows = slice(0, min(chunk, samples - start))
            writer.write(image[rows], magnitude[rows], magnitude[rows, 0] / 100)


@contextmanager
def utilisation() -> Iterator[list[float]]:
    """Percent of the time in which any kernel ran on the GPUs, sampled five times a second by the driver's tool."""
    found: list[float] = []
    tool = shutil.which("nvidia-smi")
    if tool is None:
        yield found
        return
    command = [tool, "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "200"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield found
        process.terminate()
        assert process.stdout
        found += [float(line) for line in process.stdout.read().split() if line.isdigit()]


def run_case(case: Case, data: Path, model: PreparedModel, folder: Path, device: str) -> Found:
    """The ranks of one case, and beside them the rate of the bare model on the same device."""
    precision, compiled, _, source = case
    size_bytes = data.stat().st_size
    if source == "moto S3":
        with _moto(data):
            found = run_ranks(case, f"s3://{BUCKET}/{data.name}", size_bytes, model, folder, device)
    else:
        found = run_ranks(case, str(data), size_bytes, model, folder, device)
    asked = {"model": model.uri, "precision": precision, "compiled": compiled, "device": device}
    asked["piece"] = found["piece"] if device != "cpu" else 128
    alone = last_line([sys.executable, "-m", "benchmarks.gpu_worker", "bare", json.dumps(asked)])
    return {**found, "bare_samples_per_s": alone["samples_per_s"]}


def run_ranks(case: Case, dataset: str, dataset_bytes: int, model: PreparedModel, folder: Path, device: str) -> Found:
    """All ranks of one case at once, a process each; the clock runs from the moment when all are ready."""
    precision, compiled, workers, _ = case
    asked = {"dataset": dataset, "model": model.uri, "output": str(folder), "partition_size": "file"}
    if workers > 1:  # as many partitions as ranks, so that each has its share
        asked["partition_size"] = str(dataset_bytes // workers)
    job = Job.model_validate(asked | {"precision": precision, "engine": "torch", "world_size": workers})
    reply = plan(PlanRequest(job=job, model=model))
    file = ModelFile(uri=model.uri, digest=model.digest, source_digest=model.digest, engine="torch")
    gpus = visible_gpus()
    processes = []
    for item in RunFolder(str(folder)).read_plan().items():
        request = InferRequest(run_id=reply.run_id, job=job, item=item, model=file).model_dump_json()
        given = json.dumps({"request": request, "device": device, "compiled": compiled})
        environment = ["env", f"{VISIBLE_DEVICES}={gpus[item.rank % len(gpus)]}"] if gpus else []
        command = [*environment, sys.executable, "-m", "benchmarks.gpu_worker", "rank", given]
        processes.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT))
    try:
        for process in processes:
            assert process.stdout
            if process.stdout.readline().strip() != "ready":
                raise SystemExit(f"an executor of {case} did not start")
        began = time.perf_counter()
        with utilisation() as percent:
            for process in processes:
                assert process.stdin
                process.stdin.write("go\n")
                process.stdin.flush()
            outputs = [process.communicate(timeout=LIMIT_S)[0] for process in processes]
            wall_s = time.perf_counter() - began
    finally:
        for process in processes:
            process.kill()
    ranks = [json.loads(output.strip().splitlines()[-1]) for output in outputs]
    # Beyond `wall_s`, processes also come to their end: the slowest rank's own clock is taken.
    rank_s = max(rank["wall_s"] for rank in ranks)
    return {
        "samples_per_s": sum(rank["samples"] for rank in ranks) / rank_s,
        "gb_per_s": sum(rank["bytes"] for rank in ranks) / rank_s / 1e9,
        "until_exit_s": wall_s,
        "start_s": max(rank["start_s"] for rank in ranks),
        "utilisation": float(np.mean(percent)) if percent else None,
        **{key: ranks[0][key] for key in ("deviation", "piece", "device", "wait_s", "compute_s")},
    }


def run_command(precision: str, dataset: Path, model: PreparedModel, folder: Path) -> Found:
    """`skyfan run` of the whole file as a user types it, from its start to its exit."""
    asked = ["--dataset", str(dataset), "--model", model.uri, "--output", str(folder), "--precision", precision]
    command = [sys.executable, "-m", "skyfan", "run", *asked, "--json", "--quiet"]
    began = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True, timeout=LIMIT_S)
    wall_s = time.perf_counter() - began
    summary = json.loads(done.stdout)
    print(f"{precision}, the whole command: {wall_s:.2f} s", flush=True)
    timing = {name: summary["timing"][name] for name in ("map_s", "aggregate_s")}
    return {
        "precision": precision,
        "whole_s": wall_s,
        "samples_per_s": summary["samples"] / wall_s,
        "ranks": summary["world_size"],
    } | timing


@contextmanager
def _moto(data: Path) -> Iterator[None]:
    from benchmarks.reading import environment, moto_server  # with what it imports, it may be missing beside a GPU

    with moto_server(data) as endpoint, environment(endpoint):
        yield


def measure(samples: int, device: str, limit_s: float) -> Found:
    """All cases within the time limit."""
    began = time.perf_counter()
    results: list[Found] = []
    left_out: list[str] = []
    with tempfile.TemporaryDirectory(prefix="skyfan-gpu-") as name:
        folder = Path(name)
        model, data, part = folder / "model.safetensors", folder / "data.pt", folder / "part.pt"
        model.write_bytes(model_bytes(reference_size_model(), {}))
        write_dataset(data, samples)
        write_dataset(part, min(samples, S3_SAMPLES))
        loaded = load_model(str(model))
        prepared = PreparedModel(
            uri=str(model),
            digest=loaded.digest,
            format=loaded.format,
            parameters=loaded.parameters,
            needs_conversion=False,
        )
        whole = ("float32",) if device == "cpu" else ("tf32", "fp16")
        # Modules are compiled and torch's files read once before: what only a machine's first command takes.
        run_command(whole[0], part, prepared, folder / "command-first")
        commands = [
            run_command(precision, data, prepared, folder / f"command-{number}")
            for number, precision in enumerate(whole * 2)
        ]
        sources = {"page cache": data, "moto S3": part}
        slowest_s = 0.0
        for number, case in enumerate(cases(device)):
            title = f"{case[0]}{' compiled' if case[1] else ''}, {case[2]} workers, {case[3]}"
            began_case = time.perf_counter()
            if began_case - began + slowest_s > limit_s:
                left_out.append(f"{title}: no time was left")
                continue
            if case[3] == "moto S3" and not (find_spec("moto") and find_spec("boto3")):
                left_out.append(f"{title}: moto is not installed")
                continue
            try:
                found = run_case(case, sources[case[3]], prepared, folder / f"run-{number}", device)
            except (SystemExit, subprocess.SubprocessError) as error:  # what the other cases have found stays
                left_out.append(f"{title}: {error}")
                continue
            results.append({"case": title, **found})
            print(f"{title}: {found['samples_per_s']:,.0f} samples/s", flush=True)
            slowest_s = max(slowest_s, time.perf_counter() - began_case)
    took_s = time.perf_counter() - began
    return {"samples": samples, "commands": commands, "results": results, "left_out": left_out, "took_s": took_s}


def markdown(found: Found) -> str:
    """One row a case."""
    where = found["results"][0]["device"]
    lines = [
        "# The GPU's engine, files to committed predictions",
        "",
        f"{found['taken']}, {found['took_s']:.0f} s, {found['samples']:,} samples, device {where}, torch "
        f'{torch.__version__}. Times are a rank\'s, after its start; "bare" is the model alone, inputs on the device.',
        "",
    ]
    if where == "cpu":
        lines += [
            "**Not measured on a GPU: there was none. The engine ran on the CPU, which shows that the script and the "
            "engine work and nothing of a GPU's speed.**",
            "",
        ]
    lines += [
        "`skyfan run`, files in the page cache to committed Parquet and report, from the command's start to its exit, "
        "with the import of torch and the start of the device; a small run came before:",
        "",
        "| precision | whole s | samples/s | ranks | of it all ranks s | aggregation s |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {one['precision']} | {one['whole_s']:.1f} | {one['samples_per_s']:,.0f} | {one['ranks']} "
        f"| {one['map_s']:.2f} | {one['aggregate_s']:.2f} |"
        for one in found["commands"]
    ]
    lines += [
        "",
        "Ranks:",
        "",
        "| case | samples/s | GB/s | of bare | bare samples/s | GPU busy | deviation, largest | piece | start s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for one in found["results"]:
        busy = "–" if one["utilisation"] is None else f"{one['utilisation']:.0f}%"
        deviation = "–" if one["deviation"] is None else f"{one['deviation']['max_abs']:.1e}"
        lines.append(
            f"| {one['case']} | {one['samples_per_s']:,.0f} | {one['gb_per_s']:.2f} | "
            f"{one['samples_per_s'] / one['bare_samples_per_s']:.0%} | {one['bare_samples_per_s']:,.0f} | {busy} | "
            f"{deviation} | {one['piece']} | {one['start_s']:.1f} |"
        )
    lines += ["", *(f"Left out: {text}." for text in found["left_out"])]
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    """`python -m benchmarks.gpu [--samples N] [--limit-s S] [--results FOLDER]`."""
    asked = parser(__doc__)
    asked.set_defaults(samples=0)
    asked.add_argument("--limit-s", type=float, default=LIMIT_S, help="no case is started that would end later")
    given = asked.parse_args()
    options = options_of(given)
    device = available_device()
    samples = options.samples or (CPU_SAMPLES if device == "cpu" else GPU_SAMPLES)
    found: dict[str, Any] = measure(samples, device, given.limit_s)
    found["taken"] = datetime.now(UTC).isoformat(timespec="seconds")
    save(options, "gpu", found, markdown(found))


if __name__ == "__main__":
    main()
