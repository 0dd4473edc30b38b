"""What a file says of its data is read from every format that can say it, and is in every dataset made of the file."""

import io
import zipfile

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from skyfan import curation
from skyfan.formats.notes import NOTE_KEY, as_note, joined
from skyfan.formats.registry import open_file
from skyfan.formats.rows import read_batch
from skyfan.formats.torch import write_tensorfile
from skyfan.layout import MAX_NOTE
from skyfan.stages.partition_files import write_partitions

NOTE = "Simulated pixels: ünreal."
ROWS = np.arange(12, dtype="f4").reshape(6, 2)


def write_pt(path, note):
    write_tensorfile(path, [ROWS], note=note)


def write_npz(path, note):
    file = io.BytesIO()
    np.savez(file, image=ROWS)
    with zipfile.ZipFile(file, "a") as archive:
        archive.comment = note.encode()
    path.write_bytes(file.getvalue())


def write_parquet(path, note):
    pq.write_table(pa.table({"image": ROWS[:, 0]}, metadata={NOTE_KEY: note}), path)


def write_safetensors(path, note):
    save_file({"image": ROWS}, path, metadata={NOTE_KEY: note})


def write_h5(path, note):
    with h5py.File(path, "w") as file:
        file["image"] = ROWS
        file.attrs[NOTE_KEY] = np.bytes_(note.encode())


WRITERS = [
    ("pt", write_pt),
    ("npz", write_npz),
    ("parquet", write_parquet),
    ("safetensors", write_safetensors),
    pytest.param("h5", write_h5, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("suffix", "write"), WRITERS)
def test_a_files_note_is_read_and_bounded(tmp_path, suffix, write):
    path = tmp_path / f"sky.{suffix}"
    write(path, NOTE)
    assert open_file(path).note == NOTE
    write(path, "x" * 1900)
    assert open_file(path).note == "x" * MAX_NOTE


@pytest.mark.slow
def test_an_hdf5_attribute_that_is_no_short_text_is_no_note(tmp_path):
    for value in (3, np.arange(4), "of any length", np.bytes_(b"x" * 4000)):
        with h5py.File(tmp_path / "sky.h5", "w") as file:
            file["image"] = ROWS
            file.attrs[NOTE_KEY] = value
        assert open_file(tmp_path / "sky.h5").note == ""


def test_a_clean_copy_says_what_its_source_says(tmp_path):
    write_pt(tmp_path / "sky.pt", NOTE)
    curation.clean(tmp_path / "sky.pt", tmp_path / "clean.pt")
    assert open_file(tmp_path / "clean.pt").note == NOTE


def test_so_do_partition_files(tmp_path):
    write_pt(tmp_path / "sky.pt", NOTE)
    for one in write_partitions(str(tmp_path / "sky.pt"), 16, str(tmp_path / "parts"), lambda *_: None):
        assert open_file(one).note == NOTE


def test_copies_mark_the_galaxies_that_their_source_marks(tmp_path):
    sky, marks = tmp_path / "sky.pt", np.arange(6) % 2 == 0
    ones = [np.arange(rows * 6, dtype="f4").reshape(6, *shape) for rows, shape in ((80, (5, 4, 4)), (5, (5,)), (1, ()))]
    write_tensorfile(sky, [*ones, marks], attributes=("in_training_sample",))
    curation.clean(sky, tmp_path / "clean.pt", curation.Rules(brightest_mag=-1, minimum_redshift=0.5, faintest_mag=99))
    parts = write_partitions(str(sky), 6 * 345, str(tmp_path / "parts"), lambda *_: None)
    found = [open_file(one) for one in (tmp_path / "clean.pt", *parts)]
    assert {one.names for one in found} == {("image", "magnitude", "redshift", "in_training_sample")}
    read = read_batch(found[0].uri, found[0].tensors, 0, found[0].samples, etag=found[0].etag)
    kept = np.isin(ones[2], read["redshift"])
    assert 0 < kept.sum() < 6
    assert read["in_training_sample"].tolist() == marks[kept].tolist()


@pytest.mark.parametrize("form", [".parquet", ".npz", pytest.param(".h5", marks=pytest.mark.slow)])
def test_and_what_objects_are_packed_into(tmp_path, form):
    (tmp_path / "objects").mkdir()
    for number in range(3):
        write_tensorfile(tmp_path / "objects" / f"{number}.pt", [ROWS], note=NOTE)
    curation.pack(str(tmp_path / "objects"), str(tmp_path / f"sky{form}"))
    assert open_file(next((tmp_path / "sky").glob(f"*{form}"))).note == NOTE


def test_and_what_their_catalogue_says(tmp_path):
    (tmp_path / "objects").mkdir()
    write_tensorfile(tmp_path / "objects" / "1.pt", [ROWS], note=NOTE)
    pq.write_table(pa.table({"id": [1]}, metadata={NOTE_KEY: "Mock catalogue."}), tmp_path / "objects.parquet")
    curation.pack(str(tmp_path / "objects"), str(tmp_path / "sky"), catalog=str(tmp_path / "objects.parquet"))
    assert open_file(next((tmp_path / "sky").glob("*.parquet"))).note == f"Mock catalogue. {NOTE}"


def test_several_notes_become_one():
    assert joined(["a.", "", "b.", "a."]) == "a. b."
    assert as_note(None) == ""
    assert as_note(b"\x1b[31mred") == as_note("\x1b[31mred") != "\x1b[31mred"
