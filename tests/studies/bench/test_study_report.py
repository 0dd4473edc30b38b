"""Tables, figures and the page of a study, from measurements whose numbers are known."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from skyfan import store
from skyfan.cost import load_prices
from skyfan.errors import BadInput
from skyfan.studies.bench import Setting, Study, run_study
from skyfan.studies.bench.measurements import CellResult, Measurement
from skyfan.studies.bench.study_figures import against_partitions, scaling_efficiency
from skyfan.studies.bench.study_report import study_figures, write_report
from skyfan.studies.bench.study_tables import (
    batch_sizes,
    concurrent_ranks,
    costs,
    data_access,
    experiments,
    input_partitions,
    launch_skew_s,
    local_against_distributed,
    scaling,
)

pytestmark = pytest.mark.slow

ZERO = datetime(2026, 1, 1, tzinfo=UTC)
PRICES = load_prices()


def record(start_s: float, wall_s: float, **change: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "schema": "skyfan.rank-record/1",
        "total_cpu_time (seconds)": 2 * wall_s,
        "execution_time (seconds/batch)": wall_s / 2,
        "samples": 1000,
        "bytes_read": 2**20,
        "wall_s": wall_s,
        "load_s": 0.1,
        "wait_s": 0.2,
        "compute_s": wall_s - 0.4,
        "write_s": 0.1,
        "peak_rss_bytes": 2**29,
        "s3_num_requests": 3,
        "threads": 2,
        "started_at": (ZERO + timedelta(seconds=start_s)).isoformat(),
        "ended_at": (ZERO + timedelta(seconds=start_s + wall_s)).isoformat(),
    }
    return base | change


def measured(run_wall_s: float, *records: dict[str, Any], **setting: Any) -> Measurement:
    summary = {"timing": {"wall_s": run_wall_s}, "attempts": len(records)}
    return Measurement(
        setting=Setting(**setting),
        repetition=1,
        order=0,
        measured_at=ZERO.isoformat(),
        summary=summary,
        records=records,
    )


TWO = (record(0, 4.0), record(1, 6.0))


def test_experiment_table_by_hand():
    (row,) = experiments([measured(8.0, *TWO, file_limit=2), measured(16.0, *TWO, file_limit=2)])
    assert row["Data Prefix"] == "25MB"
    assert row["File Limit"] == 2
    assert row["Avg CPU Time (s)"] == 10.0
    assert row["Avg Peak Memory (MB)"] == 512.0
    assert row["Avg Exec Time per Batch (s)"] == 2.5
    assert row["Throughput by wall (MB/s)"] == pytest.approx((2 / 8 + 2 / 16) / 2)
    assert row["Samples/s by wall"] == pytest.approx((250 + 125) / 2)
    assert (row["Wall (s)"], row["Runs"]) == (12.0, 2)


def test_a_row_says_in_which_option_it_differs_from_the_others():
    """Also where the reports' table has no column for it."""
    rows = experiments([measured(8.0, *TWO, place="local"), measured(9.0, *TWO, place="s3")])
    assert [row["Place"] for row in rows] == ["local", "s3"]
    assert "Place" not in experiments([measured(8.0, *TWO)])[0]


def test_data_access_by_hand():
    slow = record(0, 4.0, read_s=0.5, wait_s=0.25), record(1, 6.0, read_s=1.5, wait_s=0.75)
    fast = record(0, 4.0, read_s=0.1, wait_s=0.0)
    first, last = data_access([measured(8.0, *slow, place="s3", layout="one"), measured(4.0, fast, layout="many")])
    assert (first["Place"], first["Files"], first["Requests"]) == ("local", "many", 3)
    assert (last["Place"], last["Files"], last["Requests"]) == ("s3", "one", 6)
    assert (last["Reading (s)"], last["Compute waited (s)"]) == (1.0, 0.5)
    assert last["Read rate of a rank (MB/s)"] == pytest.approx(1.0)  # 2 MB in 2 s


def test_batch_size_analysis_by_hand():
    rows = batch_sizes([measured(8.0, *TWO, batch_size=512), measured(8.0, record(0, 4.0), batch_size=32)])
    assert [row["batch_size"] for row in rows] == [32, 512]
    last = rows[-1]
    assert [last[f"{name}_execution_time"] for name in ("mean", "min", "max")] == [2.5, 2.0, 3.0]
    assert last["throughput (Mbit/s)"] == pytest.approx(2 * 8 * 2**20 / 8.0 / 1e6)


def test_input_partitions_are_in_order_of_size_and_count_ranks_at_once():
    rows = input_partitions([measured(8.0, *TWO, partition_size="100MB"), measured(9.0, *TWO, partition_size="25MB")])
    assert [row["Partition Size"] for row in rows] == ["25MB", "100MB"]
    assert rows[0]["Num Concurrent Jobs"] == 2
    assert rows[0]["Throughput (Gbit/s)"] == pytest.approx(2 * 8 * 2**20 / 9.0 / 1e9)


def test_ranks_at_once_and_launch_skew():
    one_after_another = [record(0, 2.0), record(2, 2.0), record(4, 2.0)]
    assert concurrent_ranks(one_after_another) == 1
    assert concurrent_ranks([record(0, 5.0), record(1, 1.0), record(3, 9.0)]) == 2
    assert launch_skew_s(one_after_another) == 4.0


def test_costs_by_hand():
    (row,) = costs([measured(8.0, *TWO)], PRICES)
    assert row["Total Duration (s)"] == 10.0
    by_hand = 10.0 * 10 * 0.0000166667 + 2 * 2e-7 + (11 + 2 * 2) * 25e-6 + 9 * 5e-6 + 10 * 4e-7
    logs = 2 * 2048 / 2**30 * (0.50 + 0.03)
    assert row["Cost ($)"] == pytest.approx(by_hand + logs)


def test_scaling_efficiency_by_hand():
    rows = scaling([measured(10.0, *TWO, workers=1), measured(4.0, *TWO, workers=4)])
    assert [row["Speed-up"] for row in rows] == [1.0, 2.5]
    assert rows[1]["Efficiency"] == pytest.approx(0.625)


def test_local_against_distributed_says_what_it_means():
    local = measured(20.0, record(0, 20.0), on="process")
    rows, meaning = local_against_distributed([local, measured(12.5, *TWO, on="local")])
    wall = next(row for row in rows if row["Metric"] == "Wall (s)")
    assert (wall["process"], wall["local"], wall["ratio"]) == (20.0, 12.5, 0.625)
    assert "1.60 times faster, 80% of what 2 ranks could give" in meaning
    _, odd = local_against_distributed([local, measured(5.0, *TWO, on="local")])
    assert "more than 2 ranks explain" in odd
    _, slower = local_against_distributed([local, measured(25.0, *TWO, on="local")])
    assert "gained nothing" in slower
    with pytest.raises(BadInput, match="'process' with one other"):
        local_against_distributed([local])


def study_folder(tmp_path: Path, **grid: tuple[Any, ...]) -> str:
    def run_cell(setting: Setting, _: str) -> CellResult:
        wall_s = 5.0 + setting.batch_size / 100 + 20 / (setting.workers or 1)
        return CellResult(measured(wall_s, *TWO).summary, TWO)

    study = Study(name="s", title="A <title> of its own", repetitions=2, warmup=0, grid=grid)
    run_study(study, str(tmp_path), run_cell)
    return str(tmp_path)


def test_report_has_tables_figures_and_one_self_contained_page(tmp_path):
    folder = study_folder(
        tmp_path, batch_size=(32, 512), partition_size=("25MB", "100MB"), repeat=(1, 2), workers=(1, 2)
    )
    page = store.read(write_report(folder, PRICES)).decode()
    assert {path.stem for path in (tmp_path / "tables").glob("*.csv")} == {
        "experiments",
        "batch-sizes",
        "input-partitions",
        "costs",
        "scaling",
    }
    names = {path.stem for path in (tmp_path / "figures").glob("*.svg")}
    assert names == {
        "time-batch",
        "throughput-batch",
        "time-partitions",
        "throughput-partitions",
        "cost-data",
        "scaling",
        "durations",
        "timeline",
    }
    for path in (tmp_path / "figures").iterdir():
        if path.suffix == ".svg":
            ElementTree.parse(path)
        else:
            assert path.read_bytes().startswith(b"%PDF")
    assert "A &lt;title&gt; of its own" in page
    assert not re.search(r'(?:src|href)="(?:https?:)?//', page)
    assert "<script" not in page
    assert page.count("<svg") == page.count("</svg>") == len(names)
    assert all(page.count(f'aria-label="{title}"') for title in ("Scaling", "Cost by partition size"))
    assert "the dataset repeated" in page
    table = (tmp_path / "tables/scaling.md").read_text()
    assert table.startswith("### Scaling\n\n| Ranks at once |")


def test_each_setting_of_the_other_options_is_a_line_of_its_own():
    ones = [
        measured(wall_s, *TWO, partition_size=size, repeat=repeat)
        for wall_s, size, repeat in ((8.0, "5MB", 1), (6.0, "10MB", 1), (16.0, "5MB", 2), (11.0, "10MB", 2))
    ]
    (axes,) = against_partitions(ones, lambda one: one.wall_s, "wall time (s)").axes
    lines = {container.get_label(): list(container.lines[0].get_ydata()) for container in axes.containers}
    assert lines == {"1× data": [8.0, 6.0], "2× data": [16.0, 11.0]}


def test_speed_up_is_over_the_fewest_at_once_of_the_same_line():
    ones = [
        measured(wall_s, *TWO, workers=workers, batch_size=batch)
        for wall_s, workers, batch in ((8.0, 1, 32), (4.0, 2, 32), (6.0, 1, 64), (5.0, 2, 64))
    ]
    (axes,) = scaling_efficiency(ones).axes
    lines = {container.get_label(): list(container.lines[0].get_ydata()) for container in axes.containers}
    assert lines == {"batch 32": [1.0, 2.0], "batch 64": [1.0, 1.2]}
    assert axes.get_ylim()[1] > 2


def test_whole_files_have_no_place_on_an_axis_of_sizes():
    ones = [measured(8.0, *TWO, partition_size=size) for size in ("5MB", "file")]
    assert [one.name for one in study_figures(ones, PRICES)] == ["durations", "timeline"]


@pytest.mark.slow
def test_a_report_written_twice_is_the_same(tmp_path):
    folder = study_folder(tmp_path, batch_size=(32, 512))
    first = store.read(write_report(folder, PRICES))
    assert store.read(write_report(folder, PRICES)) == first
