"""What the aggregator folds together, rank by rank."""

import numpy as np
import pytest

from skyfan.report import galaxies
from skyfan.report.galaxies import MAX_CUTOUTS
from skyfan.runs.commit import RunLedger
from skyfan.runs.predictions_writer import PredictionsWriter
from skyfan.runs.result_rows import ResultColumns, Rows
from skyfan.science.metrics import science_metrics
from skyfan.stages import merging
from skyfan.stages.merging import merge
from tests.conftest import Sample
from tests.report.runs import make_plan, make_record
from tests.runs.known import COLUMNS, OUTPUTS, SAMPLES, make_run

Z_PRED, Z_SPEC = OUTPUTS[:, 0], np.full(SAMPLES, 0.5, np.float32)


@pytest.fixture
def run(tmp_path, sample: Sample):
    return make_run(tmp_path, sample, COLUMNS)


def merged(run):
    return merge(RunLedger(run.uri), run.plan)


@pytest.mark.slow
@pytest.mark.parametrize("held_rows", [10**7, 40, 1])
def test_metrics_are_those_of_all_rows_whether_they_are_held_or_read_again(run, monkeypatch, held_rows):
    monkeypatch.setattr(merging, "MAX_HELD_ROWS", held_rows)
    expected, found = science_metrics(Z_PRED, Z_SPEC), merged(run).science
    assert found.samples == expected.samples == SAMPLES - 1
    for name in ("bias", "nmad", "mae", "mse", "outlier_fraction_015"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-12)


def test_the_page_of_a_large_run_has_rows_at_equal_distances_and_all_of_the_worst(run, monkeypatch):
    monkeypatch.setattr(galaxies, "MAX_SHOWN", 11)
    residual = np.abs((Z_PRED - Z_SPEC) / (1 + Z_SPEC))
    worst = np.argsort(-np.where(np.isnan(residual), 0, residual), kind="stable")[:MAX_CUTOUTS]
    shown = merged(run).redshifts
    assert shown.galaxies.index.tolist() == sorted({*range(0, SAMPLES, 10), *worst.tolist()} - {7})
    np.testing.assert_array_equal(shown.galaxies.z_pred, Z_PRED[shown.galaxies.index])
    assert len(shown.z_pred) == 11


@pytest.mark.parametrize("held_rows", [10**7, 30])
@pytest.mark.parametrize(
    ("ids", "duplicates", "nulls"),
    [
        (np.arange(SAMPLES, dtype=np.int64) // 2 - 20, 50, 0),
        (np.arange(SAMPLES, dtype=np.uint64) + np.uint64(2**64 - SAMPLES), 0, 0),
        (np.array([None if at == 5 else f"SDSS {at % 100}" for at in range(SAMPLES)], np.object_), 1, 1),
        (np.where(np.arange(SAMPLES) % 2, 0.0, -0.0), 100, 0),
    ],
)
def test_duplicate_ids_are_counted_over_all_ranks(tmp_path, sample, monkeypatch, held_rows, ids, duplicates, nulls):
    monkeypatch.setattr(merging, "MAX_HELD_ROWS", held_rows)
    plan = make_plan(sample.path)
    plan = plan.model_copy(update={"job": plan.job.model_copy(update={"id": "name"})})
    folder = RunLedger(str(tmp_path / "run"))
    for item in plan.items():
        rows = slice(item.spans[0].start, item.spans[-1].stop)
        with PredictionsWriter() as writer:
            found = Rows(
                np.arange(rows.start, rows.stop), OUTPUTS[rows], np.full(item.samples, None), None, {"name": ids[rows]}
            )
            writer.write(found.to_table(ResultColumns((), ("name",))))
            folder.commit(writer, make_record(item.rank))
    counted = merge(folder, plan).ids
    assert (counted.column, counted.duplicates, counted.nulls) == ("name", duplicates, nulls)


def test_a_wide_output_is_read_in_pieces(run):
    """Embeddings of a whole rank, as float64 and several times over, took 20 times what they have on disk."""
    ledger = RunLedger(run.uri)
    ranks = ledger.committed_of(run.plan)
    pieces = [list(ledger.read_pieces(rank, run.plan.run_id, ["sample_index"], 7)) for rank in ranks]
    assert max(len(piece) for of_rank in pieces for piece in of_rank) == 7
    found = [index for of_rank in pieces for piece in of_rank for index in piece["sample_index"].to_pylist()]
    assert found == list(range(SAMPLES))
