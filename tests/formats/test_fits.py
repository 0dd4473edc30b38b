"""FITS numbers mean what astropy says they mean."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from skyfan.errors import DatasetError
from skyfan.formats.dataset import open_dataset
from skyfan.formats.registry import open_file


def test_columns_of_every_kind_are_read_as_astropy_reads_them(tmp_path):
    rng = np.random.default_rng(1)
    table = Table(
        {
            "u8": rng.integers(0, 256, 9).astype("u1"),
            "i2": rng.integers(-9, 9, 9).astype("i2"),
            "u2": rng.integers(0, 2**16, 9).astype("u2"),
            "u4": rng.integers(0, 2**32, 9).astype("u4"),
            "u8b": np.arange(9, dtype="u8") + np.uint64(2**63 - 4),
            "i8": rng.integers(-(2**62), 2**62, 9),
            "f8": rng.normal(size=9),
            "name": [f"SDSS J{n:05d}" for n in range(9)],
            "cube": rng.normal(size=(9, 2, 3)).astype("f4"),
        }
    )
    table.write(tmp_path / "t.fits")
    dataset, known = open_dataset(str(tmp_path / "t.fits")), fits.getdata(tmp_path / "t.fits", 1)
    assert list(dataset.names) == table.colnames
    rows = dataset.read(2, 8)
    for name in table.colnames:
        np.testing.assert_array_equal(rows[name], known[name][2:8])
    assert {rows[name].dtype.name for name in ("u2", "u4", "u8b")} == {"uint16", "uint32", "uint64"}


def test_scaled_and_missing_numbers(tmp_path):
    path = tmp_path / "t.fits"
    Table({"flux": np.array([1, -99, 300], "i2"), "object": np.array([2**60 + 1, 7, 8])}).write(path)
    for key, value in {"TSCAL1": 0.5, "TZERO1": 10, "TNULL1": -99, "TNULL2": 7}.items():
        fits.setval(path, key, value=value, ext=1)
    rows = open_dataset(str(path)).read(0, 3)
    np.testing.assert_array_equal(rows["flux"], np.array([10.5, np.nan, 160.0], "f4"))
    assert rows["object"].tolist() == [2**60 + 1, 7, 8]  # an ID: no float would hold it


def test_missing_unsigned_numbers_of_16_bits_are_nan(tmp_path):
    column = fits.Column("flags", "I", bzero=2**15, null=2**15 - 1, array=np.array([0, 7, 2**16 - 1], "u2"))
    fits.BinTableHDU.from_columns([column]).writeto(tmp_path / "t.fits")
    rows = open_dataset(str(tmp_path / "t.fits")).read(0, 3)
    np.testing.assert_array_equal(rows["flags"], np.array([0, 7, np.nan], "f4"))


def test_what_is_not_read_is_named(tmp_path):
    columns = [
        fits.Column("flux", "E", array=np.arange(3, dtype="f4")),
        fits.Column("good", "L", array=np.ones(3, bool)),
        fits.Column("bits", "8X", array=np.ones((3, 8), bool)),
    ]
    text = fits.TableHDU.from_columns([fits.Column("x", "F8.3", array=np.arange(3.0))], name="NOTES")
    parts = [fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns), text]
    fits.HDUList(parts).writeto(tmp_path / "t.fits")
    file = open_file(tmp_path / "t.fits")
    assert (file.names, file.left_out) == (("flux",), ("good (logical)", "bits (bits)", "NOTES (TABLE)"))


def test_an_image_cube_of_scaled_integers(tmp_path):
    cube = np.arange(4 * 3 * 5).reshape(4, 3, 5).astype("i2")
    hdu = fits.PrimaryHDU(cube)
    hdu.header["BSCALE"], hdu.header["BZERO"] = 0.25, 3.0
    hdu.writeto(tmp_path / "c.fits")
    rows = open_dataset(str(tmp_path / "c.fits")).read(1, 3)["data"]
    np.testing.assert_array_equal(rows, fits.getdata(tmp_path / "c.fits")[1:3])
    assert rows.dtype == np.float32


def test_what_cannot_be_read_by_rows_is_refused(tmp_path):
    heap = fits.Column("spectrum", "PE()", array=np.array([np.ones(2), np.ones(3)], object))
    fits.BinTableHDU.from_columns([heap]).writeto(tmp_path / "heap.fits")
    with pytest.raises(DatasetError, match="'spectrum' of rows of several lengths"):
        open_file(tmp_path / "heap.fits")
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(np.ones((4, 30, 30), "f4"))]).writeto(tmp_path / "tiles.fits")
    with pytest.raises(DatasetError, match="is tile-compressed"):
        open_file(tmp_path / "tiles.fits")
    whole = (tmp_path / "heap.fits").read_bytes()
    (tmp_path / "short.fits").write_bytes(whole[:5760])
    with pytest.raises(DatasetError, match="truncated"):
        open_file(tmp_path / "short.fits")
