"""True numbers beside the published ones, for the reference system's runs and for ours."""

import json
from pathlib import Path

import pytest

from skyfan.cost import load_prices
from skyfan.errors import BadInput
from skyfan.studies.published.analysis import Analysis, analyse
from skyfan.studies.published.published_runs import find_all_runs
from skyfan.studies.published.published_tables import read_csv
from skyfan.studies.published.timings import planned_ranks

PUBLISHED = Path(__file__).parents[2] / "data/published/aws"
PRICES = load_prices()


@pytest.fixture(scope="module")
def analysis() -> Analysis:
    return analyse(str(PUBLISHED), PRICES)


def test_runs_with_fewer_records_than_worlds_are_flagged(analysis):
    counted = {row.run: (row.ranks_present, row.ranks_planned) for row in analysis.incomplete}
    assert counted["result-partition-100MB/total/1"] == (122, 130)
    assert counted["result-partition-100MB/total/2"] == (8, 130)
    assert counted["result-partition-100MB/total1000GB/1"] == (1000, 10_240)
    for run in (1, 2, 3):
        assert counted[f"result-partition-25MB/10GB/{run}"] == (400, 410)
        assert counted[f"result-partition-25MB/4GB/{run}"] == (160, 164)
        assert counted[f"result-partition-25MB/2GB/{run}"] == (80, 82)
    assert counted["result-partition-25MB/1GB/3"] == (40, 41)
    assert "result-partition-25MB/1GB/1" not in counted
    assert "result-partition-25MB/total/1" not in counted
    assert all(row.flags for row in analysis.incomplete)
    listing = next(row for row in analysis.corrected if row.ranks_planned == 10_240)
    assert any("1,000 records" in flag for flag in listing.flags)


def test_throughput_of_25_mb_partitions_is_a_tenth_of_the_published(analysis):
    row = next(c for c in analysis.configurations if (c.partition_mb, c.data_gb) == (25, 12.6))
    assert row.published_bps == pytest.approx(18.04e9, rel=1e-3)
    assert row.wall_bps == pytest.approx(3 * 108_315_558_720 / (59.789 + 55.076 + 55.607))
    assert (row.complete_runs, row.runs) == (3, 3)
    assert row.overstated == pytest.approx(9.46, abs=0.01)


def test_runs_are_timed_by_the_table_their_records_point_to(analysis):
    timed = {row.run: (row.wall_s, row.map_s, row.timed_from) for row in analysis.corrected}
    assert timed["result-partition-25MB/total/2"] == (55.076, None, "total_execution_time.csv")
    assert timed["result-partition-100MB/total/3"] == (74.76, 63.97, "state_machine_logs.csv")


def test_bits_and_samples_of_a_run_are_its_data(analysis):
    row = next(row for row in analysis.corrected if row.run == "result-partition-25MB/total/1")
    assert row.samples == 659_817  # the whole set
    assert row.bits == pytest.approx(row.samples * 20_520 * 8)


def test_cost_is_bounded_by_wall_time(analysis):
    for row in analysis.corrected:
        if row.cost_usd is not None and row.cost_at_most_usd is not None:
            assert 0 < row.cost_usd <= row.cost_at_most_usd
    row = next(row for row in analysis.corrected if row.run == "result-partition-25MB/total/2")
    by_hand = 517 * 55.076 * 10 * 0.0000166667 + 517 * 0.0000002 + (11 + 2 * 517) * 0.000025
    assert row.cost_at_most_usd == pytest.approx(by_hand, rel=1e-6)


def test_planned_ranks_agree_with_every_published_number_of_worlds():
    for row in read_csv(str(PUBLISHED / "results/total_execution_time.csv")):
        assert planned_ranks(int(row["partition(MB)"]), float(row["data(GB)"])) == int(float(row["num_worlds"]))


def our_record(rank: int, **change: object) -> dict[str, object]:
    base: dict[str, object] = {
        "schema": "skyfan.rank-record/1",
        "rank": rank,
        "world_size": 3,
        "total_cpu_time (seconds)": 9.0,
        "total_cpu_memory (MB)": 800.0,
        "execution_time (seconds/batch)": 1.0,
        "num_batches": 3,
        "throughput_bps": 1e6,
        "sample_persec": 100.0,
        "samples": 1000,
        "bytes_read": 20_500_000,
        "wall_s": 10.0,
        "compute_s": 8.0,
        "write_s": 0.1,
        "peak_rss_bytes": 800 * 2**20,
        "s3_num_requests": 3,
        "threads": 2,
        "started_at": f"2026-01-01T00:00:0{rank}+00:00",
        "ended_at": f"2026-01-01T00:00:1{rank}+00:00",
        "result_path": "x",
        "data_path": f"{rank}.pt",
    }
    return base | change


def write_run(folder: Path, records: list[dict[str, object]]) -> str:
    folder.mkdir(parents=True)
    (folder / "combined_data.json").write_text(json.dumps(records))
    return str(folder)


def test_our_run_goes_through_the_same_code(tmp_path):
    place = write_run(tmp_path / "run", [our_record(0), our_record(2)])
    analysis = analyse(place, PRICES)
    (row,) = analysis.corrected
    assert row.kind == "skyfan"
    assert (row.ranks_present, row.ranks_planned, row.complete) == (2, 3, False)
    assert row.map_s == 12.0
    assert row.map_bps == pytest.approx(2 * 20_500_000 * 8 / 12)
    assert row.cost_usd is not None
    assert list(analysis.tables) == ["skyfan runs"]  # none of the reference's tables, whose definitions differ
    assert analysis.tables["skyfan runs"][0]["rank_wall_s_median"] == 10.0


def test_both_kinds_under_one_folder_stay_apart(tmp_path):
    reference = json.loads((PUBLISHED / "result-partition-25MB/1GB/1/combined_data.json").read_text())
    write_run(tmp_path / "result-partition-25MB/1GB/1", reference)
    write_run(tmp_path / "ours", [our_record(0)])
    analysis = analyse(str(tmp_path), PRICES)
    assert sorted(row.kind for row in analysis.corrected) == ["reference", "skyfan"]
    assert len(analysis.tables["result_stats.csv"]) == 2  # the run and its mean
    assert len(analysis.tables["skyfan runs"]) == 1


def test_one_run_with_both_kinds_is_refused(tmp_path):
    records = json.loads((PUBLISHED / "result-partition-25MB/1GB/1/combined_data.json").read_text())
    place = write_run(tmp_path / "run", [*records, our_record(0)])
    with pytest.raises(BadInput, match="mixes 1 Skyfan records with 41"):
        find_all_runs(place)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("[", "is not JSON"), ("[]", "not a list of rank records"), ('[{"a": 1}]', "no 'total_cpu_time")],
)
def test_broken_records_are_named(tmp_path, text, sentence):
    (tmp_path / "combined_data.json").write_text(text)
    with pytest.raises(BadInput, match=sentence):
        find_all_runs(str(tmp_path))


def test_an_empty_place_is_named(tmp_path):
    with pytest.raises(BadInput, match=r"no combined_data.json under"):
        find_all_runs(str(tmp_path))
