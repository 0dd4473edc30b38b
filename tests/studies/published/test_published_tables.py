"""The published tables, from the published records, to the printed digits."""

from pathlib import Path

import pytest

from skyfan.cost import load_prices
from skyfan.studies.published.analysis import Analysis, analyse
from skyfan.studies.published.published_tables import STATS_KEYS, read_csv, without_outliers
from skyfan.studies.published.table_check import check_table
from skyfan.studies.text_tables import write_csv

PUBLISHED = Path(__file__).parents[2] / "data/published/aws"


@pytest.fixture(scope="module")
def analysis() -> Analysis:
    return analyse(str(PUBLISHED), load_prices())


def test_every_row_whose_runs_are_there_is_reproduced(analysis):
    checks = {check.table: check for check in analysis.checks}
    assert [check.differences for check in analysis.checks] == [(), (), ()]
    assert checks["batch_varying_results.csv"].reproduced_rows == 20
    assert checks["batch_varying_results.csv"].without_run == ()
    # 30 runs less those without records: 25 MB × (1, 2, 4, 10, 12.6 GB), 100 MB × (1, 10, 12.6 GB), one of 1 TB.
    stats = checks["result_stats.csv"]
    assert stats.reproduced_rows == (5 + 3) * 4 + 1 == 33
    assert stats.reproduced_rows + len(stats.without_run) == stats.printed_rows == 76
    assert "100 1000 mean" in stats.without_run
    assert checks["result_stats_adjusted.csv"].reproduced_rows == 0  # none of its runs' records were published


def test_exact_values(analysis):
    rows = {(row["partition (MB)"], row["data (GB)"], row["run"]): row for row in analysis.tables["result_stats.csv"]}
    row = rows[25, 12.6, "mean"]
    assert row["total_cpu_time (seconds)"] == 5.7
    assert row["total_cpu_memory (MB)"] == 9223325.37
    assert row["throughput_bps"] == 18036934171.84
    assert rows[100, 12.6, 1]["s3_total_time"] == 30.53
    assert rows[25, 1.0, 1]["s3_avg_time"] is None


def test_a_wrong_cell_and_an_absent_row_are_found(analysis):
    printed = read_csv(str(PUBLISHED / "results/result_stats.csv"))
    printed[0]["throughput_bps"] = "1506039734.30"
    check = check_table("t", printed, analysis.tables["result_stats.csv"], STATS_KEYS)
    assert [(d.row, d.column) for d in check.differences] == [("25 1 1", "throughput_bps")]
    fewer = [row for row in analysis.tables["result_stats.csv"] if row["run"] != 2]
    check = check_table("t", printed[4:8], fewer, STATS_KEYS)
    assert check.without_run == ("25 2 2", "25 2 mean")  # a mean without one of its runs is not compared


def test_adjusted_throughput_is_bits_by_map_time(analysis):
    row = next(row for row in analysis.tables["result_stats_adjusted.csv"] if row["data (GB)"] == 1000.0)
    assert row["inference_duration (s)"] == 193.24
    assert row["throughput_bps"] == pytest.approx(833750418240 / 193.24, abs=0.01)


def test_outliers_are_those_beyond_one_and_a_half_interquartile_ranges():
    assert list(without_outliers([1, 2, 3, 4, 100])) == [1, 2, 3, 4]
    assert list(without_outliers([5.0])) == [5.0]


def test_tables_can_be_written_as_csv(analysis):
    text = write_csv(analysis.tables["batch_varying_results.csv"])
    assert text.splitlines()[1] == "32,1,8.38,732937.88,1023865553.02,8601655680.0"
    assert text.splitlines()[0] == (PUBLISHED / "results/batch_varying_results.csv").read_text().splitlines()[0]
