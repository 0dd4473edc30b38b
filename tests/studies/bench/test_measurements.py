"""Order, resumption and refusal of studies, with a run of one's own making for each cell."""

import collections
import json
from pathlib import Path

import pytest

from skyfan.errors import BadInput, RunConflict, SkyfanError
from skyfan.studies.bench import PACKAGED, Setting, Study, load_study, read_measurements, run_study, schedule
from skyfan.studies.bench.measurements import CellResult

STUDY = Study(name="s", title="t", repetitions=3, warmup=1, grid={"batch_size": (32, 64, 128), "workers": (1, 2)})


class Runs:
    """Pretends a run: wall time is the batch size; remembers what was asked; fails where told to."""

    def __init__(self, *failing: int) -> None:
        self.asked: list[tuple[Setting, str]] = []
        self.failing = set(failing)

    def __call__(self, setting: Setting, folder: str) -> CellResult:
        self.asked.append((setting, folder))
        if setting.batch_size in self.failing:
            raise SkyfanError(f"batch {setting.batch_size} is too much.")
        return CellResult({"timing": {"wall_s": float(setting.batch_size)}}, [{"rank": 0}])


def test_every_repetition_is_a_permutation_of_all_cells_and_reproducible():
    order = schedule(STUDY, seed=1)
    assert order == schedule(STUDY, seed=1) != schedule(STUDY, seed=2)
    for repetition in (1, 2, 3):
        cells = [
            setting.key for setting, number in order[6 * (repetition - 1) : 6 * repetition] if number == repetition
        ]
        assert sorted(cells) == sorted(setting.key for setting in STUDY.settings())
    assert [setting for setting, _ in order[:6]] != STUDY.settings()


def test_all_cells_are_measured_after_a_warm_up(tmp_path):
    runs, seen = Runs(), []
    found = run_study(STUDY, str(tmp_path), runs, progress=lambda done, total, _: seen.append((done, total)))
    assert len(runs.asked) == 1 + 18
    assert runs.asked[0][1].endswith("warmup-0")
    assert len({folder for _, folder in runs.asked}) == 19
    assert seen == [(number, 18) for number in range(18)]
    assert [one.order for one in found] == list(range(18))
    assert collections.Counter(one.setting.batch_size for one in found) == {32: 6, 64: 6, 128: 6}
    assert all(one.wall_s == one.setting.batch_size for one in found)
    recorded = json.loads((tmp_path / "study.json").read_text())
    assert recorded["environment"]["cpus"] >= 1


def test_a_finished_study_is_not_run_again_and_an_unfinished_one_goes_on(tmp_path):
    folder = str(tmp_path)
    run_study(STUDY, folder, Runs())
    again = Runs()
    assert len(run_study(STUDY, folder, again)) == 18
    assert again.asked == []
    lost = sorted((tmp_path / "cells").iterdir())[:2]
    for path in lost:
        path.unlink()
    assert len(run_study(STUDY, folder, again)) == 18
    assert len(again.asked) == 1 + 2


def test_a_failing_cell_stops_no_other_and_is_tried_again(tmp_path):
    with pytest.raises(SkyfanError, match=r"6 of 18 measurements of study s failed.*'batch_size': 64"):
        run_study(STUDY.model_copy(update={"warmup": 0}), str(tmp_path), Runs(64))
    assert len(read_measurements(str(tmp_path))) == 12
    runs = Runs()
    run_study(STUDY.model_copy(update={"warmup": 0}), str(tmp_path), runs)
    assert [setting.batch_size for setting, _ in runs.asked] == [64] * 6


def test_another_study_in_the_same_folder_is_refused(tmp_path):
    run_study(STUDY, str(tmp_path), Runs())
    with pytest.raises(RunConflict, match="another study or seed"):
        run_study(STUDY, str(tmp_path), Runs(), seed=5)
    with pytest.raises(RunConflict):
        run_study(STUDY.model_copy(update={"repetitions": 2}), str(tmp_path), Runs())


@pytest.mark.parametrize("name", PACKAGED)
def test_packaged_studies_can_be_loaded(name):
    whole, quick = load_study(name), load_study(name, quick=True)
    assert whole.name == quick.name == name
    assert len(quick.settings()) * quick.repetitions < len(whole.settings()) * whole.repetitions


def test_the_seeds_25_experiments():
    settings = load_study("experiments-25").settings()
    assert len(settings) == 25
    assert (settings[0].partition_size, settings[0].file_limit) == ("10MB", 2)
    assert (settings[-1].partition_size, settings[-1].file_limit) == ("100MB", 10)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name = ", "is not TOML"),
        ('name = "x"\ntitle = "t"\n[grid]\nbatch_size = [0]', "batch_size"),
        ('name = "x"\ntitle = "t"\n[grid]\nbatches = [1]', "batches"),
        ('name = "x"\ntitle = "t"\n[grid]\nbatch_size = []', "axis batch_size has no values"),
        ('name = "x"\ntitle = "t"\n[grid]\npartition_size = ["big"]', "partition_size"),
    ],
)
def test_a_wrong_study_file_is_named(tmp_path: Path, text: str, sentence: str):
    path = tmp_path / "x.toml"
    path.write_text(text)
    with pytest.raises(BadInput, match=sentence):
        load_study(str(path))


def test_an_unknown_study_lists_those_there_are():
    with pytest.raises(BadInput, match="batch-size, partition-size"):
        load_study("batchsize")


def test_a_folder_without_measurements_is_named(tmp_path):
    with pytest.raises(BadInput, match="no measurements"):
        read_measurements(str(tmp_path))
