"""The packaged galaxies, their fixed split, and users' own catalogues."""

from pathlib import Path

import numpy as np
import pytest

from skyfan.errors import BadInput, LocationError
from skyfan.sky.sdss_catalog import COLUMNS, load_catalog, subset_rows

GOOD = "0.1,19.0,18.0,17.5,17.2,17.0,0.05,0.01,0.01,0.01,0.02"


def write(tmp_path: Path, *rows: str, header: str = ",".join(COLUMNS)) -> Path:
    path = tmp_path / "mine.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_packaged_catalogue_holds_5000_measured_galaxies():
    catalog = load_catalog()
    assert len(catalog) == 5000
    assert catalog.magnitude.shape == catalog.magnitude_error.shape == (5000, 5)
    assert catalog.redshift.mean() == pytest.approx(0.0975, abs=1e-4)
    np.testing.assert_allclose(catalog.magnitude[0], [19.655096, 18.149183, 17.298376, 16.878389, 16.562674])


def test_split_is_fixed_disjoint_and_complete():
    train, test = subset_rows(5000, "train"), subset_rows(5000, "test")
    assert (len(train), len(test)) == (4000, 1000)
    np.testing.assert_array_equal(np.union1d(train, test), subset_rows(5000, "all"))
    # The demo model was trained on exactly these 4,000: changing them would leak test galaxies into training.
    assert test[:8].tolist() == TEST_ROWS_START
    assert int(test.sum()) == TEST_ROWS_SUM


TEST_ROWS_START = [2, 4, 6, 7, 19, 27, 29, 30]
TEST_ROWS_SUM = 2496978


def test_unknown_subset_is_refused():
    with pytest.raises(BadInput, match="'validation' is unknown; use one of all, train, test"):
        subset_rows(10, "validation")  # type: ignore[arg-type]


def test_own_catalogue_with_own_column_names(tmp_path):
    header = "ID," + ",".join("REDSHIFT" if name == "z_spec" else name for name in COLUMNS)
    catalog = load_catalog(write(tmp_path, f"77,{GOOD}", header=header), {"z_spec": "REDSHIFT"})
    assert catalog.redshift.tolist() == [0.1]
    assert catalog.magnitude_error[0].tolist() == [0.05, 0.01, 0.01, 0.01, 0.02]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (GOOD.replace("18.0", "faint"), r"line 3: column g holds 'faint', which is not a number"),
        (GOOD.replace("18.0", "nan"), r"line 3: column g is nan; it must be a finite number"),
        (GOOD.replace("18.0", "-9999"), r"line 3: column g is -9999; a magnitude must be between 0 and 40"),
        (GOOD.replace("0.1,", "0,", 1), r"line 3: column z_spec is 0; a redshift must be above 0"),
        (GOOD.replace("0.05", "-1"), r"line 3: column u_err is -1; an error must not be negative"),
        ("0.1,19.0", r"line 3: column g holds '', which is not a number"),
    ],
)
def test_bad_value_is_named_by_line_and_column(tmp_path, row, message):
    with pytest.raises(BadInput, match=message):
        load_catalog(write(tmp_path, GOOD, row))


def test_missing_columns_are_named(tmp_path):
    with pytest.raises(BadInput, match=r"lacks the columns 'z_spec', 'u_err'.*--columns"):
        load_catalog(write(tmp_path, GOOD, header=",".join(COLUMNS).replace("z_spec", "zz").replace("u_err", "ue")))


def test_mapping_of_an_unknown_name_is_refused(tmp_path):
    with pytest.raises(BadInput, match="'y' is no column of a catalogue"):
        load_catalog(write(tmp_path, GOOD), {"y": "MAG_Y"})


def test_unusable_files_are_one_sentence(tmp_path):
    with pytest.raises(BadInput, match="holds no galaxies"):
        load_catalog(write(tmp_path))
    with pytest.raises(LocationError, match="No such file or directory"):
        load_catalog(tmp_path / "absent.csv")
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(BadInput, match="not a UTF-8 text file"):
        load_catalog(binary)
