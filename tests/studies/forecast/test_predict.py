"""Alternatives, the Pareto front and what is recommended; packaged and saved calibrations."""

import dataclasses
import json
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from benchmarks.published_calibration import expected_largest
from skyfan.cli.console import print_json
from skyfan.cost import load_prices
from skyfan.errors import BadInput
from skyfan.studies.forecast.forecast_calibration import Spread, load_calibration
from skyfan.studies.forecast.map_simulation import Limits
from skyfan.studies.forecast.pareto_figure import plot_pareto
from skyfan.studies.forecast.predict import Forecast, alternatives, even_ranks, pareto, recommend

PRICES = load_prices()


def made(wall_s: float, cost_usd: float, *warnings: str) -> Forecast:
    return Forecast(
        2**20, 10, 1769, "x86_64", wall_s, wall_s, wall_s, cost_usd, cost_usd, cost_usd, 1.0, "longest rank", warnings
    )


def test_front_holds_what_nothing_beats_and_can_run():
    fast, middle, cheap = made(10, 9), made(20, 3), made(60, 2)
    beaten, impossible = made(30, 4), made(1, 0.1, "the longest rank needs 1,000 s")
    front = pareto([cheap, beaten, fast, impossible, middle])
    assert front == [fast, middle, cheap]
    wishes = recommend([cheap, beaten, fast, impossible, middle])
    assert (wishes.fastest, wishes.trade_off, wishes.cheapest) == (fast, middle, cheap)
    with pytest.raises(BadInput, match="none of these configurations"):
        recommend([impossible])


def test_a_partition_of_100_mb_has_5113_samples_and_the_last_rank_the_rest():
    assert even_ranks(659_817, 20_504, 100 * 2**20) == [5113] * 129 + [240]
    assert even_ranks(5, 20_500, 100 * 2**20) == [5]
    with pytest.raises(BadInput, match="0 samples"):
        even_ranks(0, 20_500, 100)


def test_alternatives_cover_every_combination_and_are_reproducible():
    def table() -> list[Forecast]:
        return alternatives(
            50_000,
            20_500,
            load_calibration("skyfan"),
            PRICES,
            partition_sizes_bytes=[25 * 2**20, 100 * 2**20],
            memory_mb=[3538, 10_240],
            repetitions=5,
        )

    found = table()
    assert [(one.partition_size_bytes // 2**20, one.memory_mb) for one in found] == [
        (25, 3538),
        (100, 3538),
        (25, 10_240),
        (100, 10_240),
    ]
    assert found == table()
    assert found[0].wall_s < found[1].wall_s  # more ranks, shorter ones, within the concurrency
    assert found[2].rank_s < found[0].rank_s  # more processors


def test_ranks_longer_than_lambda_allows_are_warned_of():
    (one,) = alternatives(
        1_000_000,
        20_500,
        load_calibration("published"),
        PRICES,
        partition_sizes_bytes=[2**34],
        limits=Limits(),
        repetitions=3,
    )
    assert "900 s" in one.warnings[0]


def test_the_figure_is_drawn(tmp_path):
    path = tmp_path / "pareto.svg"
    plot_pareto([made(10, 9), made(60, 2), made(70, 3, "x")], path, title="12.6 GB")
    text = "".join(ElementTree.parse(path).getroot().itertext())
    assert all(words in text for words in ("wall time / s", "cost / USD", "12.6 GB", "1 MB"))


def test_calibrations_can_be_saved_and_broken_ones_are_named(tmp_path):
    path = str(tmp_path / "c.json")
    load_calibration("published").save(path)
    assert load_calibration(path) == load_calibration("published")
    text = (tmp_path / "c.json").read_text()
    (tmp_path / "c.json").write_text(text.replace('"rank_fixed_s": ', '"rank_fixed_s": -'))
    with pytest.raises(BadInput, match="rank_fixed_s"):
        load_calibration(path)
    (tmp_path / "c.json").write_text("{")
    with pytest.raises(BadInput, match="not JSON"):
        load_calibration(path)


def test_spread_largest_of_many():
    even = Spread(probability=(0, 1), factor=(0, 1))
    assert expected_largest(even, 1) == pytest.approx(0.5, abs=1e-3)
    assert expected_largest(even, 9) == pytest.approx(0.9, abs=1e-3)
    observed = Spread.measured([1.0] * 50 + [3.0])
    assert 1 - np.interp(2.0, observed.factor, observed.probability) == pytest.approx(1 / 51, abs=0.015)
    with pytest.raises(ValueError, match="must not fall"):
        Spread(probability=(0, 1), factor=(2, 1))


def test_all_fields_of_a_forecast_go_to_json(capsys):
    print_json({"fastest": made(1, 2)})
    written = json.loads(capsys.readouterr().out)["fastest"]
    assert written.keys() == {field.name for field in dataclasses.fields(Forecast)}
    assert (written["wall_s"], written["cost_usd"]) == (1, 2)
