"""The table of targets is made of results: met, missed or not measured."""

from benchmarks.targets import TARGETS, markdown

GROWTH = {
    "growth": [{"multiple": 4, "peak_rss_bytes": 700 * 2**20, "baseline_rss_bytes": 200 * 2**20}],
    "memory_ratio": 1.04,
    "cold_start": {"since_start_s": 1.54},
    "planning": {"seconds": {"10": 0.1, "100": 0.6}, "peak_rss_bytes": 90 * 2**20},
}


def rows(results):
    lines = [line for line in markdown(results).splitlines() if line.startswith("| ")][1:]
    return {cells[1]: cells[2:5] for line in lines if (cells := [cell.strip() for cell in line.split("|")])}


def test_bounds_hold_in_their_own_direction():
    found = rows({"growth": GROWTH})
    assert found["4. peak RSS above imports, 100 MB"] == ["≤ 450 MB", "500 MB", "**no**"]
    assert found["4. the same, 1 GB to 100 MB"] == ["≤ 1.10 ×", "1.04 ×", "yes"]
    assert found["5. cold start to first prediction"] == ["≤ 1.50 s", "1.54 s", "**no**"]
    assert found["7. planning 12.6 GB, slowest partition size"] == ["≤ 0.500 s", "0.600 s", "**no**"]


def test_more_than_asked_is_met():
    median = {"speed_up": 1.95, "overhead 1": -0.01, "overhead 2": 0.06}
    found = rows({"scaling": {"median": median}})
    assert found["8. 1 → 2 executors"] == ["≥ 1.90 ×", "1.95 ×", "yes"]
    assert found["8. overhead over one process, 1 executor"][2] == "yes"
    assert found["8. overhead over one process, 2 executors"] == ["≤ 5.0%", "6.0%", "**no**"]


def test_what_was_not_run_is_said():
    found = rows({})
    assert len(found) == len(TARGETS)
    assert {tuple(row[1:]) for row in found.values()} == {("not measured", "–")}
