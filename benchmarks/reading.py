"""Reading: the executor's read path beside plain clients of the same store, and a rank against a slow store.

`python -m benchmarks.reading` writes reading.json and .md. Two stores, both on loopback: moto's S3 server, and our
own range server (benchmarks/range_server.py), which costs next to nothing and can be slowed down.
"""

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

from benchmarks.growth import sparse_dataset
from benchmarks.part import ROOT, Found, Options, heading, inputs, options_of, parser, save, with_machine
from benchmarks.range_server import BUCKET, range_server

PARALLEL = 8
PART_BYTES = 8 * 2**20
BATCH_SIZE = 512
ROUNDS = 5
RANK_ROUNDS = 3
THROTTLED_MB_S = 80
MOTO = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def environment(endpoint: str) -> Iterator[None]:
    """What points S3 clients to `endpoint`."""
    wanted = {"AWS_ENDPOINT_URL": endpoint, "AWS_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}
    wanted |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ |= wanted
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def moto_server(data: Path) -> Iterator[str]:
    """moto's S3 in a process of its own, holding `data`; gives its address."""
    import boto3

    command = [sys.executable, "-c", MOTO]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdin
        assert process.stdout
        try:
            endpoint = f"http://127.0.0.1:{int(process.stdout.readline())}"
            with environment(endpoint):
                client = boto3.client("s3")
                client.create_bucket(Bucket=BUCKET)
                client.upload_file(str(data), BUCKET, data.name)
            yield endpoint
        finally:
            process.stdin.close()


def ranges(size_bytes: int) -> list[tuple[int, int]]:
    """The whole object as parts."""
    return [(start, min(start + PART_BYTES, size_bytes)) for start in range(0, size_bytes, PART_BYTES)]


def with_obstore(endpoint: str, key: str, size_bytes: int) -> None:
    """Parallel ranged GETs that nobody keeps: what the store gives."""
    import obstore
    from obstore.store import S3Store

    options = {"allow_http": True, "timeout": timedelta(minutes=10)}
    bucket = S3Store(BUCKET, endpoint=endpoint, virtual_hosted_style_request=False, client_options=options)
    with ThreadPoolExecutor(PARALLEL) as pool:
        parts = pool.map(
            lambda part: len(obstore.get(bucket, key, options={"range": part}).bytes()), ranges(size_bytes)
        )
        assert sum(parts) == size_bytes


def with_boto3(endpoint: str, key: str, size_bytes: int) -> None:
    """The same by boto3."""
    import boto3
    from botocore.config import Config

    client = boto3.client("s3", endpoint_url=endpoint, config=Config(max_pool_connections=PARALLEL))

    def get(part: tuple[int, int]) -> int:
        answer = client.get_object(Bucket=BUCKET, Key=key, Range=f"bytes={part[0]}-{part[1] - 1}")
        return len(answer["Body"].read())

    with ThreadPoolExecutor(PARALLEL) as pool:
        assert sum(pool.map(get, ranges(size_bytes))) == size_bytes


def plan_of(dataset: str, digest: str = "0" * 64) -> Any:
    """The dataset as one rank."""
    from skyfan.job import Job
    from skyfan.stages.plan import draft

    return draft(Job(dataset=dataset, partition_size="file", batch_size=BATCH_SIZE), digest)


def with_executor(item: Any) -> None:
    """The executor's own reading, with nothing done to the blocks."""
    from skyfan.stages.read_ahead import ReadAhead

    names = {spec.name for spec in item.files[0].tensors}
    with ReadAhead(item, names, BATCH_SIZE).blocks() as blocks:
        assert sum(block.count for block in blocks) == item.samples


def seconds(call: Callable[[], None]) -> float:
    """Wall time."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def throughput(endpoint: str, key: str, size_bytes: int, rounds: int) -> Found:
    """MB/s of the executor and of the plain clients, in turn; medians, and the ratio to the better client."""
    with environment(endpoint):
        item = plan_of(f"s3://{BUCKET}/{key}").item(0)
        readers: dict[str, Callable[[], None]] = {
            "executor": lambda: with_executor(item),
            "obstore": lambda: with_obstore(endpoint, key, size_bytes),
            "boto3": lambda: with_boto3(endpoint, key, size_bytes),
        }
        times: dict[str, list[float]] = {name: [] for name in readers}
        for _ in range(rounds):
            for name, read in readers.items():
                times[name].append(seconds(read))
    rates = {name: size_bytes / 1e6 / statistics.median(found) for name, found in times.items()}
    best = max(rates[name] for name in readers if name != "executor")
    return {"mb_s": rates, "seconds": times, "of_plain": rates["executor"] / best}


def rank(dataset: str, model: str, models: Any) -> Any:
    """One rank from `dataset`, committed to a folder that is thrown away; its record."""
    from skyfan.stages.infer import infer
    from skyfan.stages.messages import InferRequest, ModelFile

    plan = plan_of(dataset, models.model(model).digest)
    with tempfile.TemporaryDirectory(prefix="skyfan-bench-") as output:
        request = InferRequest(
            run_id=plan.run_id,
            item=plan.item(0),
            job=plan.job.model_copy(update={"output": output}),
            model=ModelFile(uri=model, digest=plan.model_digest, source_digest=plan.model_digest, engine="openvino"),
        )
        return infer(request, models)


def overlap(folder: Path, key: str, rate_mb_s: float, rounds: int, models: Any) -> Found:
    """A rank against a store that gives `rate_mb_s`, beside its reading alone and its computing alone.

    Computing alone is a rank over the same file in the page cache, less what it waited and loaded.
    """
    model = str(folder / "model.safetensors")
    rounds_found = []
    with range_server(folder, rate_mb_s) as endpoint, environment(endpoint):
        remote = f"s3://{BUCKET}/{key}"
        item = plan_of(remote).item(0)
        for _ in range(rounds):
            read_s = seconds(lambda: with_executor(item))
            local = rank(str(folder / key), model, models)
            record = rank(remote, model, models)
            rounds_found.append(
                {
                    "read_s": read_s,
                    "compute_s": local.wall_s - local.wait_s - local.load_s,
                    "start_s": record.load_s,
                    "wall_s": record.wall_s,
                    "wait_s": record.wait_s,
                    # Beside `compute_s` it tells waiting for data from a processor that others used meanwhile.
                    "compute_in_rank_s": record.compute_s,
                }
            )
    middle = {name: statistics.median(one[name] for one in rounds_found) for name in rounds_found[0]}
    ratios = [(one["wall_s"] - one["start_s"]) / max(one["read_s"], one["compute_s"]) for one in rounds_found]
    return {"rate_mb_s": rate_mb_s, **middle, "ratio": statistics.median(ratios), "rounds": rounds_found}


def measure(options: Options) -> Found:
    """Both stores' throughput, then ranks at 80 MB/s and, hardest to overlap, at the rate at which they compute."""
    from skyfan.engines.threads import available_threads
    from skyfan.stages.model_cache import ModelCache

    with inputs(64) as folder:
        data = folder / "sky.pt"
        sparse_dataset(data, options.samples)
        size_bytes, rounds = data.stat().st_size, options.at_most(ROUNDS)
        stores = {}
        with moto_server(data) as endpoint:
            stores["moto"] = throughput(endpoint, data.name, size_bytes, rounds)
        with range_server(folder) as endpoint:
            stores["range server"] = throughput(endpoint, data.name, size_bytes, rounds)
        models = ModelCache(threads=available_threads())
        warm = rank(str(folder / "data.pt"), str(folder / "model.safetensors"), models)
        rank_rounds = options.at_most(RANK_ROUNDS)
        fast = overlap(folder, data.name, THROTTLED_MB_S, rank_rounds, models)
        balanced_mb_s = size_bytes / 1e6 / fast["compute_s"]
        balanced = overlap(folder, data.name, balanced_mb_s, 1, models)
    return {
        "samples": options.samples,
        "size_bytes": size_bytes,
        "engine": warm.engine,
        "stores": stores,
        "overlap": {"throttled": fast, "balanced": balanced},
    }


def markdown(found: Found) -> str:
    """Two tables."""
    about = f"{found['size_bytes'] / 2**20:.0f} MB, engine {found['engine']}; medians."
    lines = [
        *heading(found, "Reading", about),
        "| store | executor MB/s | obstore MB/s | boto3 MB/s | executor / better of the two |",
        "|---|---|---|---|---|",
    ]
    for name, one in found["stores"].items():
        rates = one["mb_s"]
        lines.append(
            f"| {name} | {rates['executor']:.0f} | {rates['obstore']:.0f} | {rates['boto3']:.0f} "
            f"| {one['of_plain']:.0%} |"
        )
    lines += [
        "",
        "A rank against a throttled store (start: loading, the engine is warm):",
        "",
        "| store MB/s | read alone s | compute alone s | start s | wall s | (wall − start) / max(read, compute) |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {one['rate_mb_s']:.0f} | {one['read_s']:.2f} | {one['compute_s']:.2f} | {one['start_s']:.2f} "
        f"| {one['wall_s']:.2f} | {one['ratio']:.3f} |"
        for one in found["overlap"].values()
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measures reading."""
    options = options_of(parser(__doc__).parse_args())
    found = with_machine(lambda: measure(options))
    save(options, "reading", found, markdown(found))


if __name__ == "__main__":
    main()
