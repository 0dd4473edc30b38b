"""`skyfan data …` as users type it."""

import json

import numpy as np
import pytest

from skyfan.errors import BadInput
from skyfan.formats.rows import read_rows
from skyfan.formats.torch import open_tensorfile
from skyfan.sky import COLUMNS, load_catalog, subset_rows
from tests.command import skyfan


def skyfan_data(*words: object) -> str:
    return skyfan("data", *words).stdout


def test_simulate_then_inspect_then_clean(tmp_path):
    skyfan_data("simulate", tmp_path / "sky.pt", "--galaxies", 6, "--subset", "test", "--quiet")
    seen = json.loads(skyfan_data("inspect", tmp_path / "sky.pt", "--json", "--quiet"))
    assert (seen["samples"], seen["duplicates"]) == (6, 0)
    assert [tensor["name"] for tensor in seen["tensors"]] == ["image", "magnitude", "redshift"]
    kept = json.loads(skyfan_data("clean", tmp_path / "sky.pt", tmp_path / "clean.pt", "--json", "--quiet"))
    assert (kept["kept"], kept["dropped"]) == (6, {})
    for name in ("image", "magnitude", "redshift"):
        rows = [read_rows(open_tensorfile(tmp_path / file), name, 0, 6) for file in ("sky.pt", "clean.pt")]
        np.testing.assert_array_equal(*rows)


def test_subset_gives_the_rows_of_the_fixed_split(tmp_path):
    skyfan_data("simulate", tmp_path / "sky.pt", "--galaxies", 3, "--subset", "test", "--quiet")
    catalog = load_catalog()
    expected = catalog.redshift[subset_rows(5000, "test")[:3]].astype(np.float32)
    np.testing.assert_array_equal(read_rows(open_tensorfile(tmp_path / "sky.pt"), "redshift", 0, 3), expected)


def test_own_catalogue_gives_as_many_galaxies_as_it_has(tmp_path):
    header = ",".join(COLUMNS).replace("z_spec", "REDSHIFT")
    row = "0.1,19.0,18.0,17.5,17.2,17.0,0.05,0.01,0.01,0.01,0.02"
    (tmp_path / "mine.csv").write_text(f"{header}\n{row}\n{row}\n")
    arguments = ["simulate", tmp_path / "sky.pt", "--catalog", tmp_path / "mine.csv", "--quiet"]
    skyfan_data(*arguments, "--columns", "z_spec=REDSHIFT")
    assert open_tensorfile(tmp_path / "sky.pt").samples == 2
    with pytest.raises(BadInput, match="lacks the column 'z_spec'"):
        skyfan_data(*arguments)
    with pytest.raises(BadInput, match="not a list such as"):
        skyfan_data(*arguments, "--columns", "REDSHIFT")
    with pytest.raises(BadInput, match=r"the test subset .* is empty"):
        skyfan_data(*arguments, "--columns", "z_spec=REDSHIFT", "--subset", "test")


def test_tables_tell_the_figures(tmp_path):
    skyfan_data("simulate", tmp_path / "sky.pt", "--galaxies", 2, "--quiet")
    text = skyfan_data("inspect", tmp_path / "sky.pt", "--quiet")
    assert all(word in text for word in ("image", "magnitude", "redshift", "float32"))
    assert "no duplicates" in text
    assert "kept 2 of 2 samples" in skyfan_data("clean", tmp_path / "sky.pt", tmp_path / "clean.pt", "--quiet")


def test_upload_says_what_it_sent_and_what_was_there(tmp_path):
    (tmp_path / "notes.txt").write_text("notes")
    arguments = ["upload", tmp_path / "notes.txt", "memory://cli/notes.txt", "--quiet"]
    assert "uploaded 1 object (5 B), skipped 0" in skyfan_data(*arguments)
    assert "uploaded 0 objects (0 B), skipped 1" in skyfan_data(*arguments)
