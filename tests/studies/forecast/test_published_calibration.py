"""The forecast against published runs it was not fitted on, and against runs it made itself."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.forecast_validation import validate
from benchmarks.published_calibration import (
    Observation,
    expected_largest,
    fit,
    observations,
    published_spread,
    read_timings,
)
from skyfan.errors import BadInput
from skyfan.runs.finding import RecordedRun
from skyfan.studies.forecast.forecast_calibration import Spread, load_calibration
from skyfan.studies.forecast.measured_calibration import calibrate, predict_run_s
from skyfan.studies.published.published_runs import find_all_runs, reference_runs

pytestmark = pytest.mark.slow

PUBLISHED = str(Path(__file__).parents[2] / "data/published/aws")


def test_published_runs_that_were_not_fitted_are_predicted_within_15_percent():
    found = {one.name: one for one in validate(PUBLISHED, repetitions=3)}
    assert {name: len(one.errors) for name, one in found.items()} == {
        "data sizes": 27,
        "partition size": 21,
        "scale": 17,
    }
    for one in found.values():
        assert one.median_error <= 0.15, (one.name, one.median_error)
    covered = sum(prediction.covered for one in found.values() for prediction in one.predictions)
    assert covered >= 0.8 * 65  # what a 10th to 90th percentile promises
    fitted = found["data sizes"]
    assert fitted.fitted_runs == 18
    assert {p.data_gb for p in fitted.predictions} == {2.0, 6.0, 8.0, 12.6}


def share_beyond(spread: Spread, factor: float) -> float:
    """Share of ranks slower than `factor` × the median."""
    return 1 - float(np.interp(factor, spread.factor, spread.probability))


def test_stragglers_are_read_from_the_records():
    spread = published_spread(reference_runs(find_all_runs(PUBLISHED)))
    assert share_beyond(spread, 2.0) == pytest.approx(0.042, abs=0.01)
    assert expected_largest(spread, 41) == pytest.approx(3.2, abs=0.1)


def test_every_timed_run_is_observed():
    found = observations(read_timings(PUBLISHED))
    assert len(found) == 42 + 23  # the log's run "test" has no known data size
    assert next(one for one in found if one.data_gb == 512.0).ranks == 5243


def test_the_packaged_calibration_is_the_fit_to_all_published_runs():
    packaged = load_calibration("published")
    again = fit(observations(read_timings(PUBLISHED)), published_spread(reference_runs(find_all_runs(PUBLISHED))))
    for name in ("rank_fixed_s", "compute_s_per_sample", "start_interval_s", "aggregate_s_per_rank"):
        assert getattr(packaged, name) == pytest.approx(getattr(again, name), rel=1e-4)
    assert packaged.fit == again.fit


def test_fit_finds_the_parameters_of_simulated_runs():
    spread = Spread.none()
    truth = {"fixed": 8.0, "a_mb": 0.3, "interval": 0.02, "merge": 0.05, "start": 4.0}
    seen = []
    for mb in (25, 100):
        for ranks in (20, 100, 700, 3000):
            map_s = truth["fixed"] + truth["a_mb"] * mb + truth["interval"] * ranks
            wall_s = map_s + truth["start"] + truth["merge"] * min(1000, ranks)
            seen.append(Observation(mb, ranks * mb / 1024, ranks, wall_s, map_s, 2025))
    found = fit(seen, spread)
    assert found.rank_fixed_s == pytest.approx(truth["fixed"], rel=1e-3)
    assert found.start_interval_s == pytest.approx(truth["interval"], rel=1e-3)
    assert found.aggregate_s_per_rank == pytest.approx(truth["merge"], rel=1e-3)
    assert found.plan_s == pytest.approx(truth["start"], rel=1e-3)
    assert found.compute_s_per_sample * 5113 == pytest.approx(truth["a_mb"] * 100, rel=1e-3)
    assert found.residual_sigma < 0.01


def test_one_partition_size_alone_cannot_be_fitted():
    seen = [Observation(25, 1.0, 41, 25.0, None, 2024), Observation(25, 2.0, 82, 30.0, None, 2024)]
    with pytest.raises(BadInput, match="25"):
        fit(seen, Spread.none())


def our_run(ranks: int, *, workers: int, name: str = "run", wall_s: float | None = None) -> RecordedRun:
    """A run of ranks that took exactly 1 s + 0.01 s a sample, 100 samples each, on 2 threads."""

    def record(rank: int) -> dict[str, Any]:
        start = rank // workers * 2.0
        return {
            "schema": "skyfan.rank-record/1",
            "samples": 100,
            "threads": 2,
            "compute_s": 1.0,
            "wait_s": 0.0,
            "wall_s": 2.0,
            "bytes_read": 2_050_000,
            "cold_start": False,
            "started_at": f"2026-01-01T00:00:{start:09.6f}+00:00",
        }

    waves = -(-ranks // workers)
    timing = {"plan_s": 0.5, "aggregate_s": 0.25, "wall_s": wall_s or 2.0 * waves + 0.75}
    summary = {"workers": workers, "attempts": ranks, "timing": timing}
    return RecordedRun(name, [record(rank) for rank in range(ranks)], summary)


def test_our_runs_calibrate_directly():
    found = calibrate([our_run(8, workers=2), our_run(4, workers=4, name="b")])
    assert found.compute_s_per_sample == pytest.approx(0.01)
    assert found.rank_fixed_s == pytest.approx(1.0)
    assert (found.plan_s, found.measured_vcpus) == (0.5, 2)
    assert found.aggregate_s == pytest.approx(0.25)
    assert found.read_bytes_per_s is None
    assert found.residual_sigma == pytest.approx(0.0, abs=1e-3)
    assert found.fit.startswith("2 runs")


def test_a_calibration_says_how_badly_it_fits():
    found = calibrate([our_run(8, workers=2, wall_s=17.5)])  # predicted: 8.75 s
    assert "50.0%" in found.fit
    assert found.residual_sigma == pytest.approx(0.693, abs=0.01)


def test_reference_records_do_not_calibrate_ours():
    runs = [run for run in reference_runs(find_all_runs(PUBLISHED)) if run.partition_mb == 25]
    with pytest.raises(BadInput, match="no Skyfan rank records"):
        calibrate(runs)


def test_a_calibration_predicts_another_concurrency():
    found = calibrate([our_run(8, workers=2)])
    assert predict_run_s(our_run(8, workers=8), found) == pytest.approx(2.0 + 0.75, rel=1e-3)
