"""`skyfan analyse` and `skyfan cost` as a user calls them."""

import json
from pathlib import Path

import pytest

from skyfan.errors import BadInput
from tests.command import skyfan

PUBLISHED = Path(__file__).parents[1] / "data/published/aws"


def test_analyse_prints_tables_verdict_and_flags(tmp_path):
    text = skyfan("analyse", str(PUBLISHED), "--output", str(tmp_path), "--full").stdout
    verdict = "result_stats.csv: 33 of 33 rows reproduced to the printed digits; 43 more have no run here"
    assert verdict in " ".join(text.split())
    assert "batch_varying_results.csv: 20 of 20 rows" in text
    assert "18036934171.84" in text
    line = next(line for line in text.splitlines() if "12.6 GB" in line and "25 MB" in line)
    assert line.split() == ["25", "MB", "12.6", "GB", "3", "of", "3", "18", "1.91", "9.5×"]
    assert "122 of 130 ranks" in text
    printed = (PUBLISHED / "results/batch_varying_results.csv").read_text().splitlines()
    assert (tmp_path / "batch_varying_results.csv").read_text().splitlines() == printed


def test_analyse_summarises_first_and_names_the_rest():
    lines = skyfan("analyse", str(PUBLISHED)).stdout.splitlines()
    assert lines[0] == "55 runs: 27 complete, 28 incomplete"
    assert any("9.5×" in line for line in lines)
    assert lines[-1].endswith("every run and the published tables: --full")
    assert len(lines) < 60
    assert max(map(len, lines)) <= 80


def test_analyse_as_json():
    found = json.loads(skyfan("analyse", str(PUBLISHED), "--json").stdout)
    assert found["schema"] == "skyfan.analysis/1"
    assert sum(run["complete"] is False for run in found["runs"]) == 28
    assert found["checks"][1]["differences"] == []


def test_analyse_tells_what_clusters_did():
    found = json.loads(skyfan("analyse", str(PUBLISHED.with_name("hpc")), "--json").stdout)
    largest = next(row for row in found["clusters"] if row["data_gb"] == 512)
    assert largest["published_samples_per_s"] == 962218.27
    files = 5243  # of 100 MB in 512 GB
    assert largest["samples_per_s"] == pytest.approx(files * 5113 / (12 * 60 + 58))
    assert largest["overstated"] == pytest.approx(27.9, abs=0.1)
    gpu = [row for row in found["clusters"] if "cuda" in row["where"]]
    assert [row["overstated"] for row in gpu] == pytest.approx([1, 1], rel=1e-3)
    text = skyfan("analyse", str(PUBLISHED.with_name("hpc"))).stdout
    assert max(map(len, text.splitlines())) <= 80
    line = next(line for line in text.splitlines() if "512 GB" in line)
    assert line.split()[-3:] == ["962,218", "34,457", "27.9×"]


def test_analyse_keeps_clusters_and_functions_apart():
    found = json.loads(skyfan("analyse", str(PUBLISHED.parent), "--json").stdout)
    assert len(found["clusters"]) == 9
    assert len(found["runs"]) == 55
    assert found["checks"][1]["differences"] == []


def test_cost_of_report_lines_by_hand():
    found = json.loads(
        skyfan("cost", "--report-lines", str(PUBLISHED / "results/lambda_report_lines.txt"), "--json").stdout
    )
    billed_s = 40.908 + 33.677 + 33.810 + 33.889 + 33.699 + 34.813 + 33.279 + 32.419 + 33.380
    by_hand = billed_s * 10 * 0.0000166667 + 9 * 0.0000002 + (11 + 2 * 9) * 0.000025
    assert found["total_usd"] == pytest.approx(by_hand, rel=1e-9)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["cost"], "nothing to bill"),
        (["cost", str(PUBLISHED)], "holds 55 runs"),
        (["cost", str(PUBLISHED / "result-partition-25MB/1GB/1")], "profiler seconds"),
        (["cost", "x", "--arch", "riscv"], "--arch 'riscv' is unknown"),
        (["cost", "--log-group", "g"], "needs --since"),
        (["analyse", str(PUBLISHED / "results")], "no combined_data.json"),
    ],
)
def test_wrong_use_is_said_in_a_sentence(arguments, sentence):
    with pytest.raises(BadInput, match=sentence):
        skyfan(*arguments)
