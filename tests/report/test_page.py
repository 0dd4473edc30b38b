"""What the page of a run says, of good runs and of odd ones."""

import re
from dataclasses import asdict

import numpy as np
import pytest

from skyfan.report import RedshiftSample, known_galaxies, observe, render_run
from skyfan.science.metrics import science_metrics
from tests.conftest import Sample
from tests.report.runs import make_plan, make_predictions, make_record, make_summary

pytestmark = pytest.mark.slow


def page_of(sample: Sample, **change) -> str:
    plan = make_plan(sample.path)
    records = tuple(make_record(rank, item.samples) for rank, item in enumerate(plan.items()))
    z_pred = sample.redshift + np.random.default_rng(1).normal(0, 0.02, len(sample.redshift)).astype(np.float32)
    predictions = make_predictions(z_pred, sample.redshift)
    science = asdict(science_metrics(z_pred, sample.redshift))
    summary = make_summary(plan, records, science=science, **change)
    return render_run(summary, records, RedshiftSample.of(predictions), observe(plan, known_galaxies(predictions)))


def assert_well_formed(page: str) -> None:
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids)), "two elements of one id"
    assert not re.search(r'(?:src|href)="(?:https?:)?//', page)
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(ids)
    assert set(re.findall(r"url\(#([^)]+)\)", page)) <= set(ids)
    assert page.count("<svg") == page.count('<svg role="img" aria-label="')


def test_a_whole_run_shows_science_outliers_cost_and_ranks(sample: Sample):
    page = page_of(sample)
    assert_well_formed(page)
    for title in (
        "Predicted against spectroscopic redshift",
        "Residuals against redshift",
        "Residuals against magnitude",
        "When each rank ran",
    ):
        assert f"<figcaption>{title}</figcaption>" in page
    assert page.count('<img src="data:image/png;base64,') == 24
    assert "of 101 samples predicted" in page
    assert "What is missing" not in page
    assert "NMAD" in page
    assert "$0.001700" in page
    assert page.count("<tr><td>") == 9 + 1  # ranks, and the cost's total
    assert "demo &lt;b&gt;" in page


@pytest.mark.slow
def test_the_same_run_gives_the_same_page(sample: Sample):
    assert page_of(sample) == page_of(sample)


def test_missing_samples_and_ranks_are_named(sample: Sample):
    plan = make_plan(sample.path)
    nan = {"samples_missing": 3, "missing_reasons": {"NaN or infinite input": 3}}
    records = tuple(make_record(rank, 12, **(nan if rank == 2 else {})) for rank in range(7))
    page = render_run(make_summary(plan, records, failures={8: "worker lost"}), records, RedshiftSample(0))
    assert_well_formed(page)
    assert ">incomplete<" in page
    assert "20 of 101 samples have no prediction" in page
    assert re.search(r"NaN or infinite input</td><td>3<", page)
    assert "Missing ranks: 7, 8" in page
    assert "Rank 8: worker lost" in page


def test_without_any_redshift_the_predictions_are_a_histogram(sample: Sample):
    plan = make_plan(sample.path)
    records = tuple(make_record(rank) for rank in range(9))
    unknown = np.full(101, np.nan, np.float32)
    for z_spec in (None, unknown):
        page = render_run(
            make_summary(plan, records), records, RedshiftSample.of(make_predictions(sample.redshift, z_spec))
        )
        assert "no spectroscopic ones are known" in page
        assert "Largest |Δz|" not in page
        assert_well_formed(page)
    page = render_run(make_summary(plan, records), records, RedshiftSample.of(make_predictions(unknown, unknown)))
    assert "Redshifts</h2>" not in page


def test_a_run_without_ranks_has_a_page(sample: Sample):
    plan = make_plan(sample.path)
    page = render_run(make_summary(plan, (), cost=None), (), RedshiftSample(0))
    assert_well_formed(page)
    assert "No rank has committed anything." in page
    assert ">failed<" in page


@pytest.mark.parametrize("ranks", [1, 5000])
def test_few_and_many_ranks(sample: Sample, ranks: int):
    plan = make_plan(sample.path)
    records = tuple(make_record(rank, wall_s=1 + (rank % 997) / 100) for rank in range(ranks))
    page = render_run(make_summary(plan, records), records, RedshiftSample(0))
    assert len(page) < 1_000_000
    assert f"Timeline of {ranks:,} ranks" in page
    if ranks > 1000:
        assert "The 1,000 slowest of 5,000 ranks" in page
        assert "<td>996</td>" in page
        assert "<td>0</td><td>12</td>" not in page


def test_one_galaxy_and_equal_redshifts_can_be_drawn(sample: Sample):
    plan = make_plan(sample.path)
    records = (make_record(0),)
    for count in (1, 60):
        z = np.full(count, 0.1, np.float32)
        predictions = make_predictions(z, z)
        page = render_run(
            make_summary(plan, records),
            records,
            RedshiftSample.of(predictions),
            observe(plan, known_galaxies(predictions)),
        )
        assert "Residuals against magnitude" in page


def test_an_unreachable_dataset_leaves_numbers_without_pictures(sample: Sample):
    plan = make_plan(sample.path)
    sample.path.unlink()
    predictions = make_predictions(sample.redshift + 0.01, sample.redshift)
    records = (make_record(0),)
    page = render_run(
        make_summary(plan, records), records, RedshiftSample.of(predictions), observe(plan, known_galaxies(predictions))
    )
    assert "The dataset could not be read for this page" in page
    assert "<img" not in page
    assert page.count("<li>") == 24
    assert "Residuals against magnitude" not in page
