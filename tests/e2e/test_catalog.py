"""IDs and columns of a table beside the data: joined by row number or ID, exact, counted, and whole after a kill."""

import shutil

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from astropy.table import Table

import skyfan
from skyfan.errors import BadInput, DatasetError, RunConflict
from skyfan.events import RankCommitted
from tests.e2e.support import make_job, run

ROWS = 101
FIRST_ID = 2**63 + 5
EXACT = ("objid", "big", "ra", "name")


@pytest.fixture
def columns():
    """Types of which none survives a float: uint64, int64 with missing values, text beyond ASCII."""
    rng = np.random.default_rng(0)
    return pa.table(
        {
            "objid": FIRST_ID + np.arange(ROWS, dtype=np.uint64),
            "big": pa.array([2**53 + 1 + row if row % 3 else None for row in range(ROWS)], pa.int64()),
            "ra": rng.random(ROWS) * 360,
            "name": [f"gälaxy {row}" if row % 4 else None for row in range(ROWS)],
            "z_spec": rng.random(ROWS),
        }
    )


@pytest.fixture
def own(sample, tmp_path):
    """The sample's images and magnitudes as numpy arrays, without and with IDs; `tmp_path/"own.npz"` has none."""
    content = skyfan.open_dataset(str(sample.path)).read(0, ROWS, ["image", "magnitude"])
    np.savez(tmp_path / "own.npz", **content)
    np.savez(tmp_path / "with_ids.npz", **content, objid=FIRST_ID + np.arange(ROWS, dtype=np.uint64))
    return tmp_path


def job_of(folder, model, catalog, data="own.npz", **options):
    return make_job(folder / data, model, folder / "run", catalog=str(catalog), **options)


def test_by_row_number_every_column_keeps_its_type(own, small_model, columns):
    pq.write_table(columns, own / "catalog.parquet", row_group_size=30)
    job = job_of(own, small_model, own / "catalog.parquet", keep="all", target="z_spec")
    summary = run(job)
    table = skyfan.open_run(str(own / "run")).predictions()
    assert table.select(EXACT).equals(columns.select(EXACT))
    np.testing.assert_allclose(table["z_spec"].to_numpy(), columns["z_spec"].to_numpy(), rtol=1e-6)
    assert (summary.catalog.joined_by, summary.catalog.samples_matched) == (None, ROWS)
    assert (summary.ids.column, summary.ids.duplicates) == ("objid", 0)


def write_csv(columns, path):
    pyarrow.csv.write_csv(columns, path)


def write_ecsv(columns, path):
    Table({name: np.ma.masked_array(_filled(columns[name]), columns[name].is_null()) for name in EXACT}).write(path)


def _filled(column):
    if pa.types.is_string(column.type):
        return column.fill_null("").to_numpy().astype(str)
    return column.fill_null(0).to_numpy()


@pytest.mark.parametrize(("name", "write"), [("catalog.csv", write_csv), ("catalog.ecsv", write_ecsv)])
def test_text_tables_are_as_exact(own, small_model, columns, name, write):
    write(columns, own / name)
    run(job_of(own, small_model, own / name, keep=EXACT))
    found = skyfan.open_run(str(own / "run")).predictions()
    assert found.select(EXACT).equals(columns.select(EXACT))


def test_by_id_missing_and_repeated_rows_are_counted_and_named(own, small_model, columns):
    rows = [row for row in range(ROWS - 1, -1, -1) if row not in (4, 50)]
    shuffled = pa.concat_tables([columns.take(rows), columns.take([7, 8]), columns.take([0])])
    strange = pa.array([1, *shuffled["objid"].to_pylist()[1:]], pa.uint64())
    shuffled = shuffled.set_column(0, "objid", strange)  # row 100 is in neither now
    pq.write_table(shuffled, own / "catalog.parquet", row_group_size=20)
    job = job_of(own, small_model, own / "catalog.parquet", "with_ids.npz", id="objid", keep="big,ra,name")
    join = run(job).catalog
    table = skyfan.open_run(str(own / "run")).predictions()
    for row, found in enumerate(table.select(EXACT).to_pylist()):
        expected = columns.select(EXACT).slice(row, 1).to_pylist()[0]
        if row in (4, 50, 100):
            assert found["objid"] == expected["objid"]
            assert (found["big"], found["name"]) == (None, None)
            assert np.isnan(found["ra"])
        else:
            assert found == expected
    assert (join.samples_matched, join.samples_unmatched, join.duplicates, join.unused_rows) == (ROWS - 3, 3, 3, 1)
    assert join.first_unmatched == tuple(str(FIRST_ID + row) for row in (4, 50, 100))
    assert skyfan.open_run(str(own / "run")).to_astropy()["big"].dtype == np.int64


def test_after_a_kill_the_rest_joins_as_before_wherever_the_files_lie(own, small_model, columns, tmp_path):
    pq.write_table(columns, own / "catalog.parquet")
    job = job_of(own, small_model, own / "catalog.parquet", keep="objid,ra")
    run(job)
    for rank in (1, 4):
        (own / "run" / "predictions" / f"rank-{rank:07d}.parquet").unlink()
    shutil.copytree(own, tmp_path / "moved" / "copy")
    moved, events = tmp_path / "moved" / "copy", []
    shutil.rmtree(own / "run")
    run(job_of(moved, small_model, moved / "catalog.parquet", keep="objid,ra"), events=events)
    assert [event.rank for event in events if isinstance(event, RankCommitted)] == [1, 4]
    table = skyfan.open_run(str(moved / "run")).predictions()
    assert table.select(["objid", "ra"]).equals(columns.select(["objid", "ra"]))


def test_a_kill_between_claim_and_join_is_made_up_for(own, small_model, columns):
    pq.write_table(columns, own / "catalog.parquet")
    job = job_of(own, small_model, own / "catalog.parquet", keep="objid")
    run(job)
    shutil.rmtree(own / "run" / "catalog")
    (own / "run" / "predictions" / "rank-0000003.parquet").unlink()
    assert run(job).completeness.complete
    assert skyfan.open_run(str(own / "run")).predictions()["objid"].equals(columns["objid"])


def test_another_content_of_the_catalogue_is_another_run(own, small_model, columns):
    pq.write_table(columns, own / "catalog.parquet")
    run(job_of(own, small_model, own / "catalog.parquet", keep="objid"))
    pq.write_table(columns.set_column(2, "ra", pa.array(np.zeros(ROWS))), own / "catalog.parquet")
    with pytest.raises(RunConflict, match="catalogue was"):
        run(job_of(own, small_model, own / "catalog.parquet", keep="objid"))


def test_a_catalogue_has_inputs_too(own, small_model, expected_z):
    content = dict(np.load(own / "own.npz"))
    magnitudes = pa.FixedSizeListArray.from_arrays(content["magnitude"].reshape(-1), 5)
    pq.write_table(pa.table({"mag": magnitudes}), own / "catalog.parquet")
    np.savez(own / "images.npz", image=content["image"])
    run(job_of(own, small_model, own / "catalog.parquet", "images.npz", inputs="magnitude=mag"))
    found = skyfan.open_run(str(own / "run")).predictions()["z_pred"].to_numpy()
    np.testing.assert_allclose(found, expected_z, atol=2e-5)


@pytest.mark.parametrize(
    ("options", "data", "told"),
    [
        ({}, "own.npz", "has 90 rows and the data 101 samples.*--id"),
        ({}, "with_ids.npz", "both have IDs .objid.; add --id objid"),
        ({"id": "nobody"}, "own.npz", "no column 'nobody', which --id names; it holds objid, big"),
        ({"keep": "nothing"}, "own.npz", "no column 'nothing', which --keep names"),
        ({"target": "nothing"}, "own.npz", "no column 'nothing', which --target names"),
    ],
)
def test_what_does_not_fit_is_told_and_nothing_is_written(own, small_model, columns, options, data, told):
    pq.write_table(columns.slice(0, 90), own / "catalog.parquet")
    with pytest.raises(DatasetError, match=told):
        run(job_of(own, small_model, own / "catalog.parquet", data, **options))
    assert not (own / "run").exists()


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("none.csv", b"", "not a table of text"),
        ("twice.csv", b"a,a\n1,2\n", "two columns have one name"),
        ("ragged.csv", b"a,b\n1,2\n3\n", "not a table of text"),
        ("bad.ecsv", b"# %ECSV 1.0\n# ---\n# !!python/object/apply:os.system [touch /tmp/no]\na\n1\n", "no header"),
        ("typed.ecsv", b"# %ECSV 1.0\n# ---\n# datatype:\n# - {name: a, datatype: int64}\na\nx\n", "no int64"),
        ("cat.parquet", b"PAR1", "not a Parquet file"),
    ],
)
def test_hostile_tables_are_refused_in_one_sentence(own, small_model, name, content, told):
    (own / name).write_bytes(content)
    with pytest.raises(BadInput, match=told):
        run(job_of(own, small_model, own / name, keep="a"))
    assert not (own / "run").exists()
