"""A run's folder: who may write to it, and when a rank's file counts."""

import resource

import numpy as np
import pyarrow as pa
import pytest
import torch

from skyfan import store
from skyfan.errors import LocationError, RunConflict
from skyfan.job import Job
from skyfan.runs.commit import RunLedger
from skyfan.runs.predictions_writer import PredictionsWriter
from skyfan.stages.plan import draft
from tests.report.runs import make_record

RUN_ID = "0" * 16


@pytest.fixture
def planned(tmp_path):
    torch.save({"image": torch.rand(6, 2)}, tmp_path / "x.pt")

    def plan(batch_size):
        return draft(Job(dataset=str(tmp_path / "x.pt"), model="m", batch_size=batch_size), "d")

    return plan


@pytest.mark.parametrize("content", [b"", b"PAR1", b"\xff" * 100, b"PAR1" + b"\xff\xff\xff\x7f" + b"PAR1"])
def test_a_damaged_commit_is_named_and_its_length_not_believed(tmp_path, content):
    folder = RunLedger(str(tmp_path))
    store.put(folder.predictions_uri(1), content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(RunConflict, match=r"rank-0000001\.parquet is damaged"):
        folder.committed_record(1, RUN_ID)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # KiB; 0x7fffffff bytes are 2 GiB


def test_an_emptied_file_is_no_commit(tmp_path):
    folder = RunLedger(str(tmp_path))
    store.put(folder.predictions_uri(3), b"")
    with pytest.raises(RunConflict, match=r"rank-0000003\.parquet is damaged \(0 bytes\); remove it"):
        list(folder.committed_ranks())


def test_a_rank_is_left_out_if_its_file_was_removed_and_not_if_it_cannot_be_read(tmp_path):
    folder = RunLedger(str(tmp_path))
    with folder.unless_removed(0):
        folder.open_predictions(0, RUN_ID)
    store.put(folder.predictions_uri(1), b"PAR1")
    with pytest.raises(LocationError, match="expired"), folder.unless_removed(1):
        raise LocationError("the credentials have expired")


@pytest.mark.slow
def test_a_store_that_ignores_conditions_is_refused_before_anything_is_written(proxy, planned):
    folder = RunLedger("s3://skyfan-test/run")
    proxy.fault = lambda *_: "unconditional"
    with pytest.raises(LocationError, match="ignores conditions"):
        folder.claim(planned(512), resume=True)
    assert list(store.list(folder.uri)) == []


@pytest.mark.slow
def test_another_runs_plan_stays_as_it_is(proxy, planned):
    folder = RunLedger("s3://skyfan-test/run")
    folder.claim(planned(512), resume=True)
    before = store.read(folder.plan_uri)
    with pytest.raises(RunConflict, match="batch size was 512, is 64"):
        folder.claim(planned(64), resume=True)
    assert store.read(folder.plan_uri) == before


@pytest.mark.slow
def test_a_commit_whose_answer_was_lost_counts_once(proxy):
    folder = RunLedger("s3://skyfan-test/run")
    record = make_record(0)
    proxy.first(1, "lost", "PUT")
    with PredictionsWriter() as writer:
        writer.write(pa.table({"sample_index": np.arange(3)}))
        assert folder.commit(writer, record) == record
    assert list(folder.committed_ranks()) == [0]
