"""A checkpoint is converted once, after the run was claimed and before the fan-out; its ranks run what was tried."""

import hashlib

import pytest

from skyfan import store
from skyfan.errors import ModelError, RunConflict
from skyfan.job import Job
from skyfan.runs.folder import RunFolder
from skyfan.stages.infer import infer
from skyfan.stages.messages import ConvertRequest, InferRequest, PlanRequest, PrepareRequest
from skyfan.stages.model_cache import ModelCache
from skyfan.stages.plan import plan
from skyfan.stages.prepare import convert, prepare
from tests.e2e.support import run


@pytest.fixture
def warm():
    return ModelCache(threads=1)


@pytest.fixture
def job(sample, small_model, tmp_path):
    output = str(tmp_path / "run")
    return Job(dataset=str(sample.path), model=str(small_model), output=output, partition_size="file")


@pytest.fixture
def prepared(job, warm):
    return prepare(PrepareRequest(job=job, measure_rate=True), warm)


@pytest.fixture
def rank(job, prepared, warm):
    """The only rank of the run, as the driver and the state machine ask for it."""
    reply = plan(PlanRequest(job=job, model=prepared))
    model = convert(ConvertRequest(job=job, model=prepared), warm)
    return InferRequest(run_id=reply.run_id, job=job, item=RunFolder(job.output).read_plan().item(0), model=model)


def test_preparing_writes_nothing(job, prepared, tmp_path):
    assert prepared.needs_conversion
    assert prepared.samples_per_s > 0
    assert not (tmp_path / "run").exists()


def test_the_record_names_the_checkpoint_and_the_file_is_checked(rank, prepared, small_model):
    assert rank.model.uri != prepared.uri
    assert rank.model.digest == hashlib.sha256(store.read(rank.model.uri)).hexdigest()
    record = infer(rank, ModelCache(threads=1))
    assert record.model_digest == prepared.digest == hashlib.sha256(small_model.read_bytes()).hexdigest()


def test_warm_and_cold_ranks_run_the_same_engine(rank, warm):
    warmly, cold = infer(rank, warm), ModelCache(threads=1)
    store.delete(RunFolder(rank.job.output).predictions_uri(0))
    record = infer(rank, cold)
    assert (record.engine, record.engine_reason) == (warmly.engine, warmly.engine_reason)
    assert (warmly.cold_start, record.cold_start) == (False, True)


def test_a_converted_model_that_was_replaced_is_refused(rank):
    uri = rank.model.uri
    store.put(uri, store.read(uri)[:-4] + b"\0\0\0\0")
    with pytest.raises(ModelError, match="changed since the run was planned"):
        infer(rank, ModelCache(threads=1))


def test_what_an_earlier_start_left_is_used_only_if_it_is_whole(job, prepared, rank):
    whole = store.read(rank.model.uri)
    store.put(rank.model.uri, whole[:1000])
    assert convert(ConvertRequest(job=job, model=prepared), ModelCache(threads=1)) == rank.model
    assert store.read(rank.model.uri) == whole


def test_the_folder_of_another_run_is_not_written_to(job, prepared, rank, tmp_path):
    store.delete(rank.model.uri)
    other = job.model_copy(update={"batch_size": 3})
    with pytest.raises(RunConflict):
        run(other)
    assert not (tmp_path / "run" / "model").exists() or not list((tmp_path / "run" / "model").iterdir())
