"""A finished run as one table, read back by the tools that astronomers use."""

import csv
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits, votable
from astropy.table import Table

import skyfan
from skyfan import store
from skyfan.errors import BadInput, Incomplete
from skyfan.pz_form import parse_pz
from skyfan.runs.commit import RunLedger
from skyfan.runs.estimates import PzColumns
from skyfan.runs.exports import hats
from skyfan.runs.folder import write_json
from skyfan.runs.result_rows import ResultColumns
from tests.runs.known import COLUMNS, DEC, IDS, OUTPUTS, RA, SAMPLES, make_run


@pytest.fixture
def run(tmp_path, sample):
    """A run of nine ranks whose rows are known."""
    return make_run(tmp_path, sample, COLUMNS)


def test_parquet_has_all_rows_and_a_votable_header(run, tmp_path):
    assert run.export(tmp_path / "sky.parquet", allow_missing=True) == SAMPLES
    file = pq.ParquetFile(tmp_path / "sky.parquet")
    exact = ["sample_index", "objid", "ra", "dec", "z_pred", "z_spec", "delta_z", "name"]
    assert file.read(exact).equals(run.predictions().select(exact))
    (tmp_path / "header.xml").write_bytes(file.metadata.metadata[b"IVOA.VOTable-Parquet.content"])
    fields = {one.name: one for one in votable.parse(tmp_path / "header.xml").get_first_table().fields}
    assert list(fields) == [name for name in file.schema_arrow.names if name != "objid"]  # uint64
    assert (str(fields["ra"].unit), fields["ra"].ucd) == ("deg", "pos.eq.ra;meta.main")
    assert fields["z_pred"].ucd == "src.redshift.phot"
    assert (fields["map"].arraysize, fields["embedding"].arraysize) == ("4", "3")


def test_astropy_reads_the_parquet_file_with_its_units(run, tmp_path):
    run.export(tmp_path / "sky.parquet", allow_missing=True)
    table = Table.read(tmp_path / "sky.parquet", format="parquet.votable")
    assert table["objid"].dtype == np.uint64
    np.testing.assert_array_equal(table["objid"], IDS)
    np.testing.assert_array_equal(table["embedding"], OUTPUTS[:, 1:4])
    assert (table["ra"].unit, table["missing"][7], table["missing"][8]) == ("deg", "NaN in x", "")


def test_fits_keeps_types_shapes_and_exact_ids(run, tmp_path):
    assert run.export(tmp_path / "sky.fits", allow_missing=True) == SAMPLES
    with fits.open(tmp_path / "sky.fits") as file:
        file.verify("exception")
        table, header = file[1].data, file[1].header
        np.testing.assert_array_equal(table["objid"], IDS)
        np.testing.assert_array_equal(table["embedding"], OUTPUTS[:, 1:4])
        np.testing.assert_array_equal(table["map"], OUTPUTS[:, 4:].reshape(-1, 2, 2))
        np.testing.assert_array_equal(table["z_pred"], OUTPUTS[:, 0])
        assert table["missing"][7] == "NaN in x"
        assert table["name"][:2].tolist() == ["\\xe90", "galaxy 1"]
        assert header["TUCD5"] == "pos.eq.dec;meta.main"
    assert (tmp_path / "sky.fits").stat().st_size % 2880 == 0


ABSENT = np.arange(SAMPLES) % 5 == 0
EXACT = 2**62 + np.arange(SAMPLES)
"""Beyond what a float holds exactly."""


@pytest.fixture
def gaps(tmp_path, sample):
    """A run with kept columns in which every fifth value is missing."""
    more = {
        "source": np.ma.masked_array(EXACT, ABSENT),
        "flags": np.ma.masked_array(np.arange(SAMPLES).astype(np.uint16), ABSENT),
        "clean": np.ma.masked_array(np.ones(SAMPLES, bool), ABSENT),
        "full": np.ma.masked_array(np.arange(SAMPLES).astype(np.uint8) + np.uint8(156), ABSENT),
    }

    def make(*names):
        return make_run(tmp_path, sample, ResultColumns(COLUMNS.outputs, names, 0), more)

    return make


def test_fits_marks_missing_whole_numbers_and_keeps_the_others_exact(gaps, tmp_path):
    gaps("source", "flags").export(tmp_path / "sky.fits", allow_missing=True)
    table = Table.read(tmp_path / "sky.fits")
    np.testing.assert_array_equal(table["source"].mask, ABSENT)
    np.testing.assert_array_equal(table["source"][~ABSENT], EXACT[~ABSENT])
    with fits.open(tmp_path / "sky.fits") as file:
        header, rows = file[1].header, file[1].data
        marked = {header[f"TTYPE{number}"]: header.get(f"TNULL{number}") for number in range(1, header["TFIELDS"] + 1)}
        assert (marked["source"], marked["flags"], marked["sample_index"]) == (-(2**63), 2**15 - 1, None)
        np.testing.assert_array_equal(rows["flags"] - 2**15 == marked["flags"], ABSENT)
        np.testing.assert_array_equal(rows["flags"][~ABSENT], np.arange(SAMPLES)[~ABSENT])


def test_fits_tells_missing_booleans_from_false_ones(gaps, tmp_path):
    gaps("clean").export(tmp_path / "sky.fits", allow_missing=True)
    with fits.open(tmp_path / "sky.fits", logical_as_bytes=True) as file:
        assert file[1].data["clean"].tolist() == [b"" if absent else b"T" for absent in ABSENT]


def test_fits_refuses_a_mark_that_the_column_holds(gaps, tmp_path):
    with pytest.raises(BadInput, match=r"missing in the column full .* export as \.parquet"):
        gaps("full").export(tmp_path / "sky.fits", allow_missing=True)
    assert not list(tmp_path.glob("*.fits*"))


def test_csv_has_a_column_for_each_value_of_a_vector(run, tmp_path):
    run.export(tmp_path / "sky.csv", allow_missing=True)
    with (tmp_path / "sky.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["objid"]) for row in rows] == IDS.tolist()
    assert {"embedding_0", "embedding_2", "map_3"} <= set(rows[0])
    assert (rows[7]["z_pred"], rows[7]["embedding_0"], rows[7]["missing"]) == ("", "", "NaN in x")


def test_ecsv_keeps_units_and_missing_values(run, tmp_path):
    run.export(tmp_path / "sky.ecsv", allow_missing=True)
    table = Table.read(tmp_path / "sky.ecsv")
    assert len(table) == SAMPLES
    np.testing.assert_array_equal(table["objid"], IDS)
    assert table["ra"].unit == "deg"
    assert table["z_pred"].mask.nonzero()[0].tolist() == [7]
    np.testing.assert_array_equal(table["map"], OUTPUTS[:, 4:].reshape(-1, 2, 2))
    assert table["name"][0] == "é0"


def test_qp_has_exact_ids_and_refuses_numbers_that_are_missing(tmp_path, sample):
    qp = pytest.importorskip("qp")
    columns = ResultColumns((), ("objid",), pz=PzColumns(parse_pz("grid=0:1:4"), (slice(0, 4),), "auto"))
    (tmp_path / "gaps").mkdir()
    whole = make_run(tmp_path, sample, columns, {"objid": EXACT})
    whole.export(tmp_path / "sky.hdf5", allow_missing=True)
    np.testing.assert_array_equal(qp.read(str(tmp_path / "sky.hdf5")).ancil["id"], np.delete(EXACT, 7))
    gaps = make_run(tmp_path / "gaps", sample, columns, {"objid": np.ma.masked_array(EXACT, ABSENT)})
    with pytest.raises(BadInput, match=r"have no objid, .* export as \.parquet"):
        gaps.export(tmp_path / "gaps.hdf5", allow_missing=True)


def test_an_astropy_table_has_shapes_units_and_masks_and_can_be_written(run, tmp_path):
    table = run.to_astropy()
    np.testing.assert_array_equal(table["map"], OUTPUTS[:, 4:].reshape(-1, 2, 2))
    assert (table["ra"].unit, table["name"][1], table["objid"].dtype) == ("deg", "galaxy 1", np.uint64)
    assert table["z_pred"].mask.nonzero()[0].tolist() == [7]
    table.remove_column("name")  # not ASCII, which astropy cannot write
    table.write(tmp_path / "mine.fits")


def test_missing_values_of_every_type_are_masked_in_tables(gaps, tmp_path):
    run = gaps("source", "flags", "clean")
    run.export(tmp_path / "sky.ecsv", allow_missing=True)
    for table in (run.to_astropy(), Table.read(tmp_path / "sky.ecsv")):
        for name, values in (("source", EXACT), ("flags", np.arange(SAMPLES)), ("clean", np.ones(SAMPLES, bool))):
            np.testing.assert_array_equal(table[name].mask, ABSENT)
            np.testing.assert_array_equal(table[name][~ABSENT], values[~ABSENT])


@pytest.fixture
def catalogue(run, tmp_path, monkeypatch):
    """In pixels of at most 10 rows, sorted on disk."""
    pytest.importorskip("cdshealpix")
    monkeypatch.setattr(hats, "MAX_ROWS", 10)
    monkeypatch.setattr(hats, "MAX_PIXEL_BYTES", 2000)
    assert run.export(tmp_path / "sky", allow_missing=True) == SAMPLES
    return tmp_path / "sky"


def test_hats_has_every_row_once_in_its_pixel(catalogue, run):
    rows = []
    for file in sorted(catalogue.glob("dataset/Norder=*/Dir=0/Npix=*.parquet")):
        order, number = (int(part.partition("=")[2].removesuffix(".parquet")) for part in (file.parts[-3], file.name))
        table = pq.ParquetFile(file).read()
        index = table["_healpix_29"].to_numpy()
        assert (index >> (2 * (29 - order)) == number).all()
        assert (np.diff(index) >= 0).all()
        assert len(table) <= 10
        rows.append(table)
    found = pa.concat_tables(rows).sort_by("sample_index")
    assert found.drop_columns("_healpix_29").equals(run.predictions())
    assert pq.read_metadata(catalogue / "dataset" / "_metadata").num_rows == SAMPLES
    assert not list(catalogue.glob(".skyfan*"))
    assert "obs_collection=sky\n" in (catalogue / "hats.properties").read_text()


@pytest.mark.slow
def test_lsdb_opens_it_and_a_cone_search_is_astropys(catalogue):
    lsdb = pytest.importorskip("lsdb")
    import astropy.units as u
    from astropy.coordinates import SkyCoord

    near = SkyCoord(RA, DEC, unit="deg").separation(SkyCoord(120, 10, unit="deg")) < 40 * u.deg
    found = lsdb.open_catalog(catalogue).cone_search(120, 10, 40 * 3600).compute()
    assert sorted(found["sample_index"]) == np.flatnonzero(near).tolist()


def test_without_positions_there_is_no_hats_and_nothing_is_left(tmp_path, sample):
    pytest.importorskip("cdshealpix")
    run = make_run(tmp_path, sample, ResultColumns(COLUMNS.outputs, ("ra",), 0))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(BadInput, match="run again with --keep ra,dec"):
        run.export(tmp_path / "sky", allow_missing=True)
    assert sorted(tmp_path.iterdir()) == before


def test_a_package_that_is_not_installed_comes_with_the_command(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cdshealpix", None)
    with pytest.raises(BadInput, match=r"needs cdshealpix: pip install 'skyfan\[catalogues\]'"):
        run.export(tmp_path / "sky", allow_missing=True)


@pytest.mark.slow
def test_what_is_incomplete_exists_or_is_unknown_is_refused(run, tmp_path):
    with pytest.raises(Incomplete, match=r"is not finished; run the same command again, or .*--allow-missing"):
        run.export(tmp_path / "sky.csv")
    run.write_report()
    with pytest.raises(BadInput, match="choose one of parquet, fits"):
        run.export(tmp_path / "sky.xlsx")
    (tmp_path / "sky.csv").write_text("mine")
    with pytest.raises(BadInput, match="exists already"):
        run.export(tmp_path / "sky.csv")
    assert (tmp_path / "sky.csv").read_text() == "mine"


@pytest.mark.slow
def test_a_run_whose_files_are_fewer_than_its_summary_has_is_refused(run, tmp_path):
    run.write_report()
    ledger = RunLedger(run.uri)
    summary = ledger.read_summary()
    whole = summary.completeness.model_copy(update={"samples_missing": 0})
    write_json(ledger.summary_uri, summary.model_copy(update={"completeness": whole}).to_json_dict())
    assert run.export(tmp_path / "whole.csv") == SAMPLES
    store.delete(ledger.predictions_uri(3))
    with pytest.raises(Incomplete, match=r"is not finished; run the same command again"):
        skyfan.open_run(run.uri).export(tmp_path / "sky.csv")
