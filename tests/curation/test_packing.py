"""One object a file becomes one dataset: with IDs, in the catalogue's order, what is missing listed, and resumable."""

import numpy as np
import pytest
import torch
from astropy.io import fits
from astropy.table import Table
from typer.testing import CliRunner

from skyfan import curation, store
from skyfan.cli import app
from skyfan.errors import DatasetError, RunConflict
from skyfan.formats.dataset import first_layout, open_dataset, read_layouts
from skyfan.job import Job

OBJECTS = 24
IMAGES = np.random.default_rng(4).normal(size=(OBJECTS, 5, 8, 8)).astype("f4")


def save_pt(path, image):
    torch.save(torch.from_numpy(image), path.with_suffix(".pt"))


def save_npy(path, image):
    np.save(path.with_suffix(".npy"), image)


def save_fits(path, image):
    fits.PrimaryHDU(image).writeto(path.with_suffix(".fits"))


def save_tiles(path, image):
    tiles = fits.CompImageHDU(image, compression_type="GZIP_2", quantize_level=0)
    fits.HDUList([fits.PrimaryHDU(), tiles]).writeto(path.with_suffix(".fits"))


def cutouts(folder, save=save_npy):
    folder.mkdir()
    for number, image in enumerate(IMAGES):
        save(folder / f"{1000 + number}", image)
    return folder


@pytest.mark.parametrize("suffix", ["", ".h5", ".npz"])
@pytest.mark.parametrize("save", [save_pt, save_npy, save_fits, save_tiles])
def test_every_file_becomes_a_row(tmp_path, save, suffix):
    report = curation.pack(str(cutouts(tmp_path / "in", save)), str(tmp_path / f"sky{suffix}"))
    rows = open_dataset(str(tmp_path / "sky")).read(0, OBJECTS)
    np.testing.assert_array_equal(rows["image"], IMAGES)
    assert rows["id"].tolist() == list(range(1000, 1000 + OBJECTS))
    assert (report.objects, report.missing) == (OBJECTS, [])


@pytest.mark.parametrize("form", ["csv", "parquet", "fits"])
def test_a_catalogue_gives_order_ids_and_columns(tmp_path, form):
    folder = cutouts(tmp_path / "in")
    ids = np.array([1005, 1023, 999, 1000])
    table = Table({"object_id": ids, "z_spec": np.array([0.1, 0.2, 0.3, 0.4])})
    if form == "parquet":
        table.to_pandas().to_parquet(tmp_path / "c.parquet")
    else:
        table.write(tmp_path / f"c.{form}")
    report = curation.pack(
        str(folder), str(tmp_path / "out"), catalog=str(tmp_path / f"c.{form}"), id_column="object_id"
    )
    rows = open_dataset(report.output).read(0, 3)
    assert rows["object_id"].tolist() == [1005, 1023, 1000]
    assert rows["object_id"].dtype == np.int64
    assert rows["z_spec"].tolist() == [0.1, 0.2, 0.4]
    np.testing.assert_array_equal(rows["image"], IMAGES[[5, 23, 0]])
    assert report.missing == ["999"]
    assert store.read(f"{report.output}/missing.txt") == b"999\n"


def test_what_fpack_names_has_the_id_before_both_suffixes(tmp_path):
    folder = cutouts(tmp_path / "in", save_tiles)
    for path in folder.iterdir():
        path.rename(folder / f"{path.name}.fz")
    (tmp_path / "c.csv").write_text("id,z_spec\n1005,0.1\n999,0.2\n")
    report = curation.pack(str(folder), str(tmp_path / "out"), catalog=str(tmp_path / "c.csv"))
    assert (report.objects, report.missing) == (1, ["999"])
    curation.pack(str(folder), str(tmp_path / "all"))
    assert open_dataset(str(tmp_path / "all")).read(0, 2)["id"].tolist() == [1000, 1001]


def test_it_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(curation.packing, "SHARD_BYTES", 10 * IMAGES[0].nbytes)
    folder, output = str(cutouts(tmp_path / "in")), str(tmp_path / "out")
    (tmp_path / "in" / "1015.npy").rename(tmp_path / "kept")
    (tmp_path / "in" / "1015.npy").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"1015\.npy is not a \.npy file"):
        curation.pack(folder, output)
    (tmp_path / "kept").rename(tmp_path / "in" / "1015.npy")
    report = curation.pack(folder, output)
    assert (report.shards, report.reused_shards) == (3, 1)
    np.testing.assert_array_equal(open_dataset(output).read(0, OBJECTS)["image"], IMAGES)
    (tmp_path / "in" / "1023.npy").unlink()
    with pytest.raises(RunConflict, match="holds other packed objects"):
        curation.pack(folder, output)


def test_a_catalogue_that_changed_is_not_mixed_with_what_is_packed(tmp_path):
    folder, output, catalog = str(cutouts(tmp_path / "in")), str(tmp_path / "out"), tmp_path / "c.csv"
    catalog.write_text("id,name,z_spec\n1005,a,0.1\n1006,b,0.3\n")
    curation.pack(folder, output, catalog=str(catalog))
    assert curation.pack(folder, output, catalog=str(catalog)).reused_shards == 1
    catalog.write_text("id,name,z_spec\n1005,a,0.2\n1006,b,0.3\n")
    with pytest.raises(RunConflict, match="holds other packed objects"):
        curation.pack(folder, output, catalog=str(catalog))


def test_a_column_of_the_catalogue_is_not_lost_to_an_array_of_its_name(tmp_path):
    (tmp_path / "c.csv").write_text("id,image\n1005,1005.npy\n")
    with pytest.raises(DatasetError, match=r"c\.csv has a column image, and so has .*; rename the catalogue's"):
        curation.pack(str(cutouts(tmp_path / "in")), str(tmp_path / "out"), catalog=str(tmp_path / "c.csv"))


def test_an_object_of_another_shape_is_named(tmp_path):
    folder = cutouts(tmp_path / "in")
    np.save(folder / "1007.npy", IMAGES[0][:, :7])
    with pytest.raises(DatasetError, match=r"1007\.npy holds image float32 \[5, 7, 8\]"):
        curation.pack(str(folder), str(tmp_path / "out"))


def test_a_folder_without_objects_is_told_what_files_are_read(tmp_path):
    (tmp_path / "in").mkdir()
    np.savez(tmp_path / "in" / "1000.npz", image=IMAGES[0])
    with pytest.raises(DatasetError, match=r"holds no files of one object each \(\.fit, \.fits, .*\.pt\)"):
        curation.pack(str(tmp_path / "in"), str(tmp_path / "out"))
    (tmp_path / "objects.csv").write_text("number,objid\n1,1000\n")
    with pytest.raises(DatasetError, match=r"for none of the objects of .*objects\.csv.*--id"):
        curation.pack(
            str(cutouts(tmp_path / "objects")),
            str(tmp_path / "out"),
            catalog=str(tmp_path / "objects.csv"),
            id_column="number",
        )


@pytest.mark.parametrize("save", [save_pt, save_npy, save_fits])
def test_a_folder_of_objects_is_no_dataset(tmp_path, save):
    folder = str(cutouts(tmp_path / "in", save))
    for opened in (lambda: read_layouts(folder), lambda: first_layout(folder, Job(dataset=folder))):
        with pytest.raises(DatasetError, match=r"one object a file.*skyfan data pack"):
            opened()


def test_the_command_tells_how_to_run_on_what_it_packed(tmp_path):
    done = CliRunner().invoke(app, ["data", "pack", str(cutouts(tmp_path / "in")), str(tmp_path / "sky.h5"), "--quiet"])
    assert done.exit_code == 0
    assert f"packed 24 objects into 1 file: --dataset {tmp_path}/sky --id id" in done.output
