"""What the page of a run says, of good runs and of odd ones."""

import re
from dataclasses import asdict

import numpy as np
import pytest

from skyfan.records import ClassesSummary, ScienceBin
from skyfan.report.galaxies import Observed, Outlier, RedshiftSample, known_galaxies, observe
from skyfan.report.page import draw_pictures, fill_page
from skyfan.report.redshift_figures import redshift_figure, residual_figure
from skyfan.report.shown_rows import ShownRow
from skyfan.science.metrics import science_metrics
from tests.conftest import Sample
from tests.report.runs import make_plan, make_predictions, make_record, make_summary

pytestmark = pytest.mark.slow


def render_run(summary, records, redshifts, observed=None) -> str:
    return fill_page(summary, records, draw_pictures(records, redshifts, observed or Observed()))


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
    assert not re.search(r'src="(?:https?:)?//', page)
    assert set(re.findall(r'href="(https?://[^/"]+)', page)) <= {"https://www.legacysurvey.org"}  # followed by readers
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(ids)
    assert set(re.findall(r"url\(#([^)]+)\)", page)) <= set(ids)
    assert page.count("<svg") == page.count('<svg role="img" aria-label="')


def test_a_whole_run_shows_science_outliers_cost_and_ranks(sample: Sample):
    page = page_of(sample, target="aws")
    assert_well_formed(page)
    for title in (
        "Predicted against spectroscopic redshift",
        "Residuals against redshift",
        "Residuals against magnitude",
        "N(z), predicted over spectroscopic",
        "When each rank ran",
    ):
        assert f"<figcaption>{title}</figcaption>" in page
    assert page.count('<img src="data:image/png;base64,') == 24
    assert "of 101 samples predicted" in page
    assert "What is missing" not in page
    assert "NMAD" in page
    assert "$0.001700" in page
    assert page.count('<tr><td data-label="rank">') == 9
    assert "<title>Photo-z of sky.pt: 101 galaxies, NMAD 0.0" in page
    assert "on AWS Lambda (estimate)" in page
    assert "demo &lt;b&gt;" in page
    assert "on AWS Lambda" not in page_of(sample)  # of the own machine


@pytest.mark.slow
def test_the_same_run_gives_the_same_page(sample: Sample):
    assert page_of(sample) == page_of(sample)


def test_the_command_that_exports_can_be_pasted(sample: Sample):
    records = tuple(make_record(rank, 12) for rank in range(9))
    summary = make_summary(make_plan(sample.path), records, output="my runs/a")
    assert "<code>skyfan export &#39;my runs/a&#39; sky.parquet</code>" in render_run(
        summary, records, RedshiftSample(0)
    )


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
    assert "skyfan export out sky.parquet --allow-missing" in page
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
        assert '<td data-label="rank">996</td>' in page
        assert '<td data-label="rank">0</td>' not in page


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
    assert page.count("<li><figure>") == 24
    assert "Residuals against magnitude" not in page


def test_no_galaxy_is_clipped_without_a_word():
    rng = np.random.default_rng(3)
    z_spec = rng.uniform(0.02, 0.2, 2000)
    z_pred = z_spec + rng.normal(0, 0.01, 2000)
    z_pred[[3, 4]] = 1.7, -0.9
    for figure in (
        redshift_figure(z_pred, z_spec),
        residual_figure(z_spec, (z_pred - z_spec) / (1 + z_spec), "redshift"),
    ):
        axes = figure.axes[0]
        counted = int(re.search(r"([\d,]+) galax", axes.get_xlabel()).group(1))
        marked = sum(len(line.get_xdata()) for line in axes.lines if line.get_marker() in "^v<>")
        drawn = sum(float(np.nansum(mesh.get_array())) for mesh in axes.collections if mesh.get_array() is not None)
        assert marked == counted >= 2
        assert counted + drawn == 2000


def test_p_z_bins_ids_and_the_sky_are_shown_where_they_are_known(sample: Sample):
    plan = make_plan(sample.path)
    curve = (np.linspace(0, 1, 50), np.ones(50))
    row = ShownRow({"objid": 1237648720693755918, "ra": 150.5, "dec": -1.25}, curve)
    seen = Observed((Outlier(7, 17.0, None, z_pred=0.2, z_spec=0.1, residual=0.09),), rows_of={7: row})
    bins = (ScienceBin(by="z_spec", low=0, high=1, metrics={"samples": 50, "nmad": 0.01}, errors={"nmad": 0.002}),)
    science = {"samples": 101, "nmad": 0.0143}
    summary = make_summary(
        plan, (make_record(0),), science=science, science_errors={"nmad": 0.0007}, science_bins=bins,
        pit_counts=(5,) * 20, caveats=("Simulated pixels.",),
        calibration={"uri": "spec.pt", "samples": 60, "half_width": 0.02},
    )  # fmt: skip
    page = render_run(summary, (make_record(0),), RedshiftSample(0), seen)
    assert_well_formed(page)
    assert "<h1>Photo-z of sky.pt: 12 galaxies, NMAD 0.0143 ± 0.0007</h1>" in page
    for text in ("Simulated pixels.", "objid 1237648720693755918", "ra=150.500000&amp;dec=-1.250000", "0.0100 ± 0.0020",
                 'aria-label="p(z) of sample 7"', "PIT: is p(z)", "60 galaxies of spec.pt"):  # fmt: skip
        assert text in page


def test_classes_and_anomalies_have_their_own_sections(sample: Sample):
    plan = make_plan(sample.path)
    classes = ClassesSummary(
        names=("spiral", "<b>"), counts=(9, 3), confidence=(0,) * 19 + (12,), labelled=12, accuracy=0.75,
        calibration_error=0.2, confusion=((8, 2), (1, 1)), calibration=((12, 0.95, 0.75),),
    )  # fmt: skip
    anomalies = {"output": "embedding", "samples": ((7, 12.5),)}
    summary = make_summary(plan, (make_record(0),), classes=classes, anomalies=anomalies)
    page = render_run(summary, (make_record(0),), RedshiftSample(0), observe(plan, None, ((7, 12.5),)))
    assert_well_formed(page)
    assert "Classes of sky.pt: 12 samples, accuracy 75.0%" in page
    assert re.search(r'<th scope="row">&lt;b&gt;</th><td>1</td><td>1</td>', page)
    assert "Most unusual by embedding" in page
    assert page.count('<img src="data:image/png;base64,') == 1
