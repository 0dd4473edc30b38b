"""How ranks are chosen where the job does not say: by what computes them, and as a run in the folder has them."""

from pathlib import Path

import numpy as np
import pytest

from skyfan.errors import RunConflict
from skyfan.formats.torch import write_tensorfile
from skyfan.job import Job
from skyfan.layout import FileLayout, TensorSpec
from skyfan.partitioning import (
    GPU_RANK_BYTES,
    MAX_RESULT_BYTES,
    PARTITION_RESULT_BYTES,
    distribute_ranks,
    gpu_rank_bytes,
)
from skyfan.planning import Plan, Span
from skyfan.progress.state import size_sentence
from skyfan.runs.folder import RunFolder
from skyfan.stages.messages import PlanReply, PlanRequest, PreparedModel
from skyfan.stages.plan import plan

SAMPLES = 2000  # of 16 KiB: two partitions of the default 25 MB
MB = 2**20


@pytest.fixture
def sky(tmp_path: Path) -> str:
    path = tmp_path / "sky.pt"
    write_tensorfile(str(path), [np.zeros((SAMPLES, 4096), np.float32), np.zeros(SAMPLES, np.float32)])
    return str(path)


def model(*, on_gpu: bool, **measured: float) -> PreparedModel:
    return PreparedModel.model_validate(
        {"uri": "m", "digest": "0" * 64, "format": "program", "parameters": 1, "needs_conversion": False}
        | {"on_gpu": on_gpu}
        | measured
    )


def planned(
    dataset: str, output: Path, *, on_gpu: bool, executors: int = 1, **options: object
) -> tuple[Plan, PlanReply]:
    measured = {name: options.pop(name) for name in ("samples_per_s", "result_row_bytes", "digest") if name in options}
    job = Job.model_validate({"dataset": dataset, "output": str(output)} | options)
    request = PlanRequest(job=job, model=model(on_gpu=on_gpu, **measured), executors=executors)  # type: ignore[arg-type]
    reply = plan(request)
    return RunFolder(str(output)).read_plan(), reply


def test_a_processor_has_a_partition_a_rank_and_a_gpu_several(sky: str, tmp_path: Path):
    processor, _ = planned(sky, tmp_path / "cpu", on_gpu=False)
    gpu, _ = planned(sky, tmp_path / "gpu", on_gpu=True)
    assert (len(processor.ranks), processor.rank_bytes) == (2, None)
    assert (len(gpu.ranks), gpu.partitions, gpu.ranks[0][0].samples) == (1, 2, SAMPLES)
    assert "25 MB, the default where no GPU" in size_sentence(processor)
    assert "Ranks of about 31.3 MB, as a GPU computes them" in size_sentence(gpu)


def test_each_executor_with_a_gpu_has_a_share(sky: str, tmp_path: Path):
    gpu, _ = planned(sky, tmp_path / "gpu", on_gpu=True, executors=2)
    assert len(gpu.ranks) == 2


def test_what_takes_a_gpu_long_is_more_ranks(sky: str, tmp_path: Path):
    slow, _ = planned(sky, tmp_path / "slow", on_gpu=True, samples_per_s=20.0)
    assert len(slow.ranks) == 2  # 1,200 samples a minute


@pytest.mark.parametrize(
    ("options", "ranks"),
    [({"partition_size": "25MB"}, 2), ({"partition_size": "8MB"}, 4), ({"world_size": 2}, 2), ({"file_limit": 1}, 1)],
)
def test_what_the_job_says_holds_on_a_gpu_too(sky: str, tmp_path: Path, options: dict[str, object], ranks: int):
    assert len(planned(sky, tmp_path / "gpu", on_gpu=True, **options)[0].ranks) == ranks


@pytest.mark.parametrize("first_on_gpu", [False, True])
def test_a_run_keeps_its_ranks_on_another_device(sky: str, tmp_path: Path, *, first_on_gpu: bool):
    first, begun = planned(sky, tmp_path / "run", on_gpu=first_on_gpu)
    second, resumed = planned(sky, tmp_path / "run", on_gpu=not first_on_gpu)
    assert resumed.run_id == begun.run_id
    assert second == first


def test_ranks_that_are_asked_for_are_another_run(sky: str, tmp_path: Path):
    planned(sky, tmp_path / "run", on_gpu=True)
    with pytest.raises(RunConflict, match="world size was 1, is 2"):
        planned(sky, tmp_path / "run", on_gpu=False, partition_size="25MB")


def test_another_model_with_wide_results_is_told_of_the_run_that_is_there(sky: str, tmp_path: Path):
    planned(sky, tmp_path / "run", on_gpu=True)
    with pytest.raises(RunConflict, match="holds run"):
        planned(sky, tmp_path / "run", on_gpu=True, result_row_bytes=MAX_RESULT_BYTES // 1500, digest="1" * 64)


def test_batch_on_gpus_gets_large_ranks_though_a_processor_plans(sky: str, tmp_path: Path):
    gpu, _ = planned(sky, tmp_path / "gpu", on_gpu=False, compute="batch-gpu")
    assert len(gpu.ranks) == 1


def file_of(samples: int, sample_bytes: int) -> FileLayout:
    spec = TensorSpec(name="x", dtype="uint8", shape=(samples, sample_bytes), offset_bytes=0, order=(0,))
    return FileLayout(uri="a.pt", size_bytes=samples * sample_bytes, etag="1", samples=samples, tensors=(spec,))


def test_ranks_of_gpus_are_bounded_in_bytes_and_in_results_and_equal_for_executors():
    file = file_of(800_000, 20_500)  # 15.3 GB
    parts = [Span(file=0, start=at, stop=at + 1000, first_sample=at) for at in range(0, 800_000, 1000)]
    for executors in (1, 3, 8):
        rank_bytes = gpu_rank_bytes([file], parts, executors, None)
        ranks = distribute_ranks(parts, [file], None, rank_bytes, 0)
        sizes = [sum(span.samples for span in spans) * 20_500 for spans in ranks]
        assert rank_bytes <= GPU_RANK_BYTES
        assert len(ranks) % executors == 0
        assert max(sizes) - min(sizes) <= 2 * 1000 * 20_500
        assert [span.start for spans in ranks for span in spans] == sorted(
            span.start for spans in ranks for span in spans
        )
        assert sum(sizes) == file.size_bytes
    row_bytes = PARTITION_RESULT_BYTES // 2500
    wide = distribute_ranks(parts, [file], None, GPU_RANK_BYTES, row_bytes)
    assert max(sum(span.samples for span in spans) for spans in wide) == 2000
