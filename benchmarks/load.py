"""Many ranks and many clients: `python -m benchmarks.load` writes benchmarks/results/load.json and .md.

Ranks: jobs of tiny ranks on `local`, up to 2,000, each in a process of its own for its memory. Clients: 64 at once,
and twice as many, each with one call to a service that runs alone; too many calls are to be refused early.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path

from pydantic import BaseModel

from benchmarks.growth import sparse_dataset
from benchmarks.measure import peak_rss_bytes
from benchmarks.part import ROOT, Found, heading, last_line, options_of, parser, save, with_machine
from skyfan import api
from skyfan.backends.grpc_services import call_unary
from skyfan.errors import SkyfanError
from skyfan.job import DEMO_MODEL, Job
from skyfan.records import Summary
from skyfan.rpc.credentials import open_channel
from skyfan.stages.messages import AggregateRequest, PlanReply, PlanRequest, PreparedModel, PrepareRequest
from skyfan.v1.aggregator_pb2_grpc import AggregatorStub
from skyfan.v1.executor_pb2_grpc import ExecutorStub
from skyfan.v1.partitioner_pb2_grpc import PartitionerStub

RANKS = (250, 500, 1000, 2000)
CLIENTS = (64, 128)
"""Of one service at once; the aggregator, each of whose calls draws a report, gets the fewer ones only."""
SERVICES = ("partitioner", "executor", "aggregator")
WORKERS = 2
CALL_DEADLINE_S = 120.0


def job_of(dataset: Path, output: Path, ranks: int) -> Job:
    """Two samples a rank."""
    return Job(dataset=str(dataset), output=str(output), world_size=ranks, partition_size=2 * 20_504, workers=WORKERS)


def run_ranks(ranks: int, folder: Path) -> None:
    """Prints what `ranks` tiny ranks take."""
    dataset = folder / f"{ranks}.pt"
    sparse_dataset(dataset, 2 * ranks)
    began = time.perf_counter()
    run = api.run(job_of(dataset, folder / f"run-{ranks}", ranks), on="local", progress=False)
    wall_s = time.perf_counter() - began
    found = sorted(record.wall_s for record in run.records)
    completeness = run.summary.completeness
    print(json.dumps({
        "ranks": completeness.ranks_present,
        "missing": completeness.samples_missing,
        "wall_s": wall_s,
        "rank_p50_s": statistics.median(found),
        "rank_p99_s": found[int(0.99 * len(found))],
        "peak_rss_bytes": peak_rss_bytes(),
    }))  # fmt: skip


async def _client(call: Callable[[], Awaitable[object]]) -> tuple[float, str]:
    """Seconds until the reply or the refusal, and the name of the error, if any."""
    began = time.perf_counter()
    try:
        await call()
    except SkyfanError as error:
        return time.perf_counter() - began, type(error).__name__
    return time.perf_counter() - began, ""


def summed_up(service: str, found: list[tuple[float, str]]) -> Found:
    """Of the replies and of the refusals of one service."""
    row: Found = {"service": service, "clients": len(found)}
    for name, refused in (("answered", False), ("refused", True)):
        times = sorted(seconds for seconds, error in found if bool(error) == refused)
        row[name] = len(times)
        if times:
            row[f"{name}_p50_s"], row[f"{name}_p99_s"] = statistics.median(times), times[int(0.99 * len(times))]
    return row | {"errors": sorted({error for _, error in found if error})}


async def clients(
    service: str, requests: Callable[[int], BaseModel], reply: type[BaseModel], counts: tuple[int, ...] = CLIENTS
) -> list[Found]:
    """A row for each number of clients, each with its own connection, all at one service of its own process."""
    command = [sys.executable, "-P", "-m", "skyfan.serving", service, "--announce", "--address", "127.0.0.1:0"]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=-3, cwd=ROOT)
    assert process.stdout
    address = f"127.0.0.1:{json.loads(await process.stdout.readline())['port']}"
    stubs = {"partitioner": PartitionerStub, "executor": ExecutorStub, "aggregator": AggregatorStub}
    methods = {"partitioner": "Plan", "executor": "Prepare", "aggregator": "Aggregate"}

    async def one(number: int, all_ready: asyncio.Barrier) -> tuple[float, str]:
        async with open_channel(address, plain=True) as channel:
            async with asyncio.timeout(CALL_DEADLINE_S):
                await channel.channel_ready()
                await all_ready.wait()
            send = getattr(stubs[service](channel), methods[service])
            asked = requests(number)
            return await _client(lambda: call_unary(send, asked, reply, service, deadline_s=CALL_DEADLINE_S))

    rows = []
    try:
        for count in counts:
            all_ready = asyncio.Barrier(count)
            found = await asyncio.gather(*(one(number, all_ready) for number in range(count)))
            rows.append(summed_up(service, found))
            print(rows[-1], flush=True)
    finally:
        process.terminate()
        await process.wait()
    return rows


async def all_clients(folder: Path, services: Collection[str] = SERVICES) -> list[Found]:
    """Partitioner: plans of runs of their own. Executor: one takes a model, all others are refused. Aggregator: the
    same run.
    """
    dataset = folder / "clients.pt"
    sparse_dataset(dataset, 100)
    run = api.run(job_of(dataset, folder / "clients", 50), on="process", progress=False)
    digest = run.plan.model_digest
    model = PreparedModel(uri=DEMO_MODEL, digest=digest, format="safetensors", parameters=1, needs_conversion=False)
    merge = AggregateRequest(output=run.uri, run_id=run.plan.run_id, target="load")

    def plan(number: int) -> PlanRequest:
        return PlanRequest(job=job_of(dataset, folder / f"plan-{time.monotonic_ns()}-{number}", 50), model=model)

    prepare = PrepareRequest(job=job_of(dataset, folder / "prepared", 50))
    calls: dict[str, tuple[Callable[[int], BaseModel], type[BaseModel], tuple[int, ...]]] = {
        "partitioner": (plan, PlanReply, CLIENTS),
        "executor": (lambda _: prepare, PreparedModel, CLIENTS),
        "aggregator": (lambda _: merge, Summary, CLIENTS[:1]),
    }
    return [row for service in services for row in await clients(service, *calls[service])]


def markdown(found: Found) -> str:
    """Two tables."""
    lines = [
        *heading(found, "Load", f"Tiny ranks of two samples on local with {WORKERS} workers; clients of one service."),
        "| ranks | wall s | ms a rank | rank p50 ms | rank p99 ms | driver peak RSS MB | samples missing |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['ranks']:,} | {row['wall_s']:.1f} | {1000 * row['wall_s'] / row['ranks']:.1f} "
        f"| {1000 * row['rank_p50_s']:.0f} | {1000 * row['rank_p99_s']:.0f} "
        f"| {row['peak_rss_bytes'] / 2**20:.0f} | {row['missing']} |"
        for row in found["ranks"]
    ]
    lines += [
        "",
        "| service | clients at once | answered | p50 s | p99 s | refused | p50 s | p99 s | with |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in found["clients"]:
        figures = " | ".join(
            f"{row[name]} | {_seconds(row.get(f'{name}_p50_s'))} | {_seconds(row.get(f'{name}_p99_s'))}"
            for name in ("answered", "refused")
        )
        lines.append(f"| {row['service']} | {row['clients']} | {figures} | {', '.join(row['errors']) or '–'} |")
    return "\n".join(lines) + "\n"


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def main() -> None:
    """Measures ranks, then clients."""
    asked = parser(__doc__)
    asked.add_argument("--ranks", nargs=2, help=argparse.SUPPRESS)
    asked.add_argument("--most", type=int, default=RANKS[-1], help="no more ranks than this, for a trial")
    asked.add_argument("--service", choices=SERVICES, help="its clients only, printed and not kept")
    arguments = asked.parse_args()
    if arguments.service:
        with tempfile.TemporaryDirectory(prefix="skyfan-load-") as name:
            asyncio.run(all_clients(Path(name), [arguments.service]))
        return
    if arguments.ranks:
        run_ranks(int(arguments.ranks[0]), Path(arguments.ranks[1]))
        return

    def measure() -> Found:
        with tempfile.TemporaryDirectory(prefix="skyfan-load-") as name:
            command = [sys.executable, "-m", "benchmarks.load", "--ranks"]
            rows = []
            for ranks in RANKS:
                if ranks <= arguments.most:
                    rows.append(last_line([*command, str(ranks), name]))
                    print(rows[-1], flush=True)
            return {"ranks": rows, "clients": asyncio.run(all_clients(Path(name)))}

    options = options_of(arguments)
    found = with_machine(measure)
    save(options, "load", found, markdown(found))


if __name__ == "__main__":
    main()
