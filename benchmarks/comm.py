"""The direct channel against gloo (torch.distributed) and, where it is installed, MPI (mpi4py), on one machine.

    python benchmarks/comm.py [--worlds 2,4,8] [--rounds 3] [--mpi-python PYTHON] [--output FILE]

All run as separate processes over loopback or shared memory (MPI), one after another and in several rounds, so
that what else the machine does falls on all alike; medians over all rounds. Only ratios mean anything on a
machine that is shared. There, wall time is mostly waiting for a processor, so processor time (user and system,
all ranks together) is given beside it: what the wall time tends to where processors are free. `--mpi-python`
names an interpreter that has mpi4py, with `mpiexec` beside it.
"""

import argparse
import importlib.util
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import time
import uuid
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np

SIZES = {8: 300, 1024: 200, 64 * 2**10: 100, 2**20: 40, 16 * 2**20: 8, 64 * 2**20: 4}
FMI = {"direct": {"latency_s": 0.34e-3, "bandwidth_bytes_per_s": 400e6}, "source": "Copik et al., ICS'23 (on AWS)"}
TOKEN = "the benchmark's token"
Times = dict[str, list[float]]


def measure(barrier: Callable[[], object], calls: dict[str, Callable[[np.ndarray], object]]) -> Times:
    """Times of this rank for every operation and size."""
    times: Times = {}
    calls = {"barrier": lambda _: barrier(), **calls}
    for size, repetitions in SIZES.items():
        array = np.full(size // 8, 0.0)  # sums of it never overflow
        for name, call in calls.items():
            if name == "barrier" and size != min(SIZES):
                continue
            call(array)
            found = times.setdefault(f"{name}:{size}", [])
            for _ in range(repetitions):
                barrier()
                began = time.perf_counter()
                call(array)
                found.append(time.perf_counter() - began)
            barrier()
            began = time.process_time()
            for _ in range(repetitions):
                call(array)
            times[f"{name}:{size}:cpu"] = [(time.process_time() - began) / repetitions]
    return times


def work_skyfan(rank: int, world_size: int, address: str, run: str) -> Times:
    from skyfan import comm

    with comm.connect(
        rank, world_size, run=run, channel="direct", rendezvous=address, token=TOKEN, timeout_s=120
    ) as ranks:

        def ping(array: np.ndarray) -> None:
            if rank == 0:
                ranks.send(array, 1)
                ranks.recv(1)
            elif rank == 1:
                ranks.send(ranks.recv(0), 0)

        return measure(
            ranks.barrier,
            {"allreduce": lambda array: ranks.allreduce(array, out=array), "bcast": ranks.bcast, "ping": ping},
        )


def work_gloo(rank: int, world_size: int, address: str, _: str) -> Times:
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", init_method=f"tcp://{address}", rank=rank, world_size=world_size)

    def ping(array: np.ndarray) -> None:
        if rank == 0:
            dist.send(torch.from_numpy(array), 1)
            dist.recv(torch.from_numpy(array), 1)
        elif rank == 1:
            dist.recv(torch.from_numpy(array), 0)
            dist.send(torch.from_numpy(array), 0)

    times = measure(
        dist.barrier,
        {
            "allreduce": lambda array: dist.all_reduce(torch.from_numpy(array)),
            "bcast": lambda array: dist.broadcast(torch.from_numpy(array), 0),
            "ping": ping,
        },
    )
    dist.barrier()
    dist.destroy_process_group()
    return times


def work_mpi(*_: object) -> Times:
    from mpi4py import MPI

    world = MPI.COMM_WORLD

    def ping(array: np.ndarray) -> None:
        if world.rank == 0:
            world.Send(array, 1)
            world.Recv(array, 1)
        elif world.rank == 1:
            world.Recv(array, 0)
            world.Send(array, 0)

    times = measure(
        world.Barrier,
        {"allreduce": lambda array: world.Allreduce(MPI.IN_PLACE, array), "bcast": world.Bcast, "ping": ping},
    )
    return times if world.rank == 0 else {}  # MPI waits by spinning: its processor time measures nothing else


WORKERS = {"skyfan": work_skyfan, "gloo": work_gloo, "mpi": work_mpi}


def free_address() -> str:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{sock.getsockname()[1]}"


def run_world(kind: str, world_size: int, address: str, mpi_python: str | None) -> Times:
    """Rank 0's times of one world of separate processes."""
    worker = [str(Path(__file__).resolve()), "--worker", kind, "--world", str(world_size), "--address", address]
    worker += ["--run", uuid.uuid4().hex]
    if kind == "mpi":
        assert mpi_python is not None
        mpiexec = str(Path(mpi_python).parent / "mpiexec")
        options = ["--allow-run-as-root", "--oversubscribe"]
        command = [mpiexec, *options, "-n", str(world_size), mpi_python, *worker, "--rank", "0"]
        output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout
        return json.loads(next(line for line in output.splitlines() if len(line) > 2))
    ranks = [
        subprocess.Popen([sys.executable, *worker, "--rank", str(rank)], stdout=subprocess.PIPE, text=True)
        for rank in range(world_size)
    ]
    try:
        outputs = [process.communicate(timeout=300)[0] for process in ranks]
    finally:
        for process in ranks:
            process.kill()
    every = [json.loads(output) for output in outputs]
    return {
        key: [sum(times[key][0] for times in every)] if key.endswith(":cpu") else found
        for key, found in every[0].items()
    }


def kinds_for(world_size: int, mpi_python: str | None) -> list[str]:
    """MPI waits by spinning: with many more ranks than processors it would measure only that."""
    with_mpi = mpi_python is not None and world_size <= 2 * (os.cpu_count() or 1)
    return [kind for kind in WORKERS if kind != "mpi" or with_mpi]


def compare(worlds: list[int], rounds: int, mpi_python: str | None) -> dict:
    from skyfan.serving.embedded_rendezvous import EmbeddedServer

    pooled: dict[tuple[int, str], Times] = defaultdict(lambda: defaultdict(list))
    with EmbeddedServer() as server:
        for world_size in worlds:
            for number in range(rounds):
                for kind in kinds_for(world_size, mpi_python):
                    address = server.address if kind == "skyfan" else free_address()
                    for key, times in run_world(kind, world_size, address, mpi_python).items():
                        pooled[world_size, kind][key] += times
                sys.stderr.write(f"world size {world_size}: round {number + 1} of {rounds}\n")
    rows = [rows_of(world_size, kinds_for(world_size, mpi_python), pooled) for world_size in worlds]
    return {"rows": [row for each in rows for row in each]}


def rows_of(world_size: int, kinds: list[str], pooled: dict[tuple[int, str], Times]) -> list[dict]:
    rows = []
    for key in pooled[world_size, "skyfan"]:
        if key.endswith(":cpu"):
            continue
        operation, _, size = key.partition(":")
        cpu = {kind: statistics.median(pooled[world_size, kind][f"{key}:cpu"]) for kind in ("skyfan", "gloo")}
        medians = {kind: statistics.median(pooled[world_size, kind][key]) for kind in kinds}
        best = {kind: min(pooled[world_size, kind][key]) for kind in kinds}
        row = {"operation": operation, "world_size": world_size, "size_bytes": int(size)}
        row |= {f"{kind}_s": medians[kind] for kind in kinds}
        row |= {f"skyfan_over_{kind}": medians["skyfan"] / medians[kind] for kind in kinds if kind != "skyfan"}
        row |= {f"best_skyfan_over_{kind}": best["skyfan"] / best[kind] for kind in kinds if kind != "skyfan"}
        row |= {f"{kind}_cpu_s": cpu[kind] for kind in cpu} | {"cpu_skyfan_over_gloo": cpu["skyfan"] / cpu["gloo"]}
        rows.append(row | {"repetitions": len(pooled[world_size, "skyfan"][key])})
    return rows


def against_fmi(rows: list[dict]) -> dict:
    """Ping-pong of two ranks beside what FMI published for its direct channel; other machines, no ratio."""
    pings = {
        row["size_bytes"]: row["skyfan_s"] / 2 for row in rows if row["operation"] == "ping" and row["world_size"] == 2
    }
    if not pings:
        return FMI
    largest = max(pings)
    measured = {"latency_s": pings[min(pings)], "bandwidth_bytes_per_s": largest / pings[largest]}
    return FMI | {"skyfan_on_loopback": measured}


def machine() -> dict:
    return {
        "processors": os.cpu_count(),
        "load_average": os.getloadavg(),
        "python": platform.python_version(),
        "system": platform.platform(terse=True),
        "shared": True,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--worlds", default="2,4,8")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mpi-python", default=sys.executable if importlib.util.find_spec("mpi4py") else None)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "comm.json")
    for name in ("worker", "address", "run"):
        parser.add_argument(f"--{name}", default="", help=argparse.SUPPRESS)
    for name in ("rank", "world"):
        parser.add_argument(f"--{name}", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        times = WORKERS[arguments.worker](arguments.rank, arguments.world, arguments.address, arguments.run)
        sys.stdout.write(json.dumps(times) + "\n")
        return
    mpi_python = arguments.mpi_python
    if mpi_python and shutil.which(str(Path(mpi_python).parent / "mpiexec")) is None:
        sys.stderr.write("mpi4py is there but mpiexec is not: MPI is left out\n")
        mpi_python = None
    before = machine()
    result = compare([int(each) for each in arguments.worlds.split(",")], arguments.rounds, mpi_python)
    result |= {"machine": before, "fmi": against_fmi(result["rows"]), "date": time.strftime("%Y-%m-%d")}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    for row in result["rows"]:
        sys.stdout.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
