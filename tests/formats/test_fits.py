"""FITS numbers mean what astropy says they mean."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from skyfan.errors import DatasetError
from skyfan.formats.dataset import open_dataset
from skyfan.formats.registry import open_file


def write(path, table, **changes):
    hdu = fits.BinTableHDU(table)
    for key, value in changes.items():
        hdu.header[key] = value
    hdu.writeto(path)
    return path


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
    columns = [
        fits.Column("flux", "I", array=np.array([1, -99, 300]), bscale=0.5, bzero=10, null=-99),
        fits.Column("object", "K", array=np.array([2**60 + 1, 7, 8]), null=7),
    ]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "t.fits")
    raw = fits.open(tmp_path / "t.fits")[1].header
    assert (raw["TSCAL1"], raw["TZERO1"], raw["TNULL1"]) == (0.5, 10, -99)
    rows = open_dataset(str(tmp_path / "t.fits")).read(0, 3)
    known = fits.open(tmp_path / "t.fits", mask_invalid=False)[1].data["flux"]
    stored = ((known - 10) / 0.5).round()
    np.testing.assert_allclose(rows["flux"], np.where(stored == -99, np.nan, known))
    assert rows["object"].tolist() == [2**60 + 1, 7, 8]


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
