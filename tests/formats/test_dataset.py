"""A folder of files: in the order of their names, each of them read or refused by name, with signs of life."""

import itertools
import os
import shutil
import threading

import pytest
import torch

from skyfan import store
from skyfan.errors import DatasetError, LocationError
from skyfan.formats.dataset import dataset_files, natural_order, read_layouts


def save(path, samples=3):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"image": torch.rand(samples, 2)}, path)


@pytest.fixture
def folder(tmp_path):
    for name in ("10.pt", "9.pt", "1.pt"):
        save(tmp_path / "data" / name)
    return tmp_path / "data"


def names(folder):
    return [uri.rsplit("/", 1)[1] for uri in dataset_files(str(folder))]


def test_numbers_in_names_count_as_numbers(folder):
    for name in ("2.PT", "01.pt", "b2.pt", "b10.pt", "x².pt", "notes.txt"):  # ² is a digit to Python, but no number
        save(folder / name)
    assert names(folder) == ["01.pt", "1.pt", "2.PT", "9.pt", "10.pt", "b2.pt", "b10.pt", "x².pt"]
    assert len(read_layouts(str(folder))) == 8


def test_the_order_does_not_depend_on_the_order_of_the_listing():
    uris = ["a/1.pt", "a/01.pt", "a/1.PT", "a/10.pt", "a/2.pt"]
    assert len({tuple(sorted(listed, key=natural_order)) for listed in itertools.permutations(uris)}) == 1


def link_to_nothing(path):
    path.symlink_to("../.annex/objects/33.pt")


def linked_folder(path):
    (path.parent.parent / "real").mkdir()
    path.symlink_to(path.parent.parent / "real")


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("33.pt", link_to_nothing, "is a link to a file that is not there; fetch"),
        ("33.PT", link_to_nothing, "is a link to a file that is not there; fetch"),
        ("33.pt", os.mkdir, "is not a file but a folder"),
        ("33.pt", os.mkfifo, "is not a file but a FIFO"),
        ("33.pt", lambda path: path.symlink_to("/dev/zero"), "is not a file but a device"),
        ("more", linked_folder, "is a link to a folder, which is not followed"),
        ("33.pt", linked_folder, "is a link to a folder, which is not followed"),
        ("._33.pt", lambda path: path.write_bytes(b"Mac OS X"), "is a note of macOS"),
    ],
)
def test_what_could_be_data_is_refused_by_name(folder, name, make, words):
    make(folder / name)
    with pytest.raises(DatasetError, match=rf"/{name} {words}"):
        read_layouts(str(folder))


def test_what_is_no_data_is_the_users_own(folder):
    (folder / "notes").symlink_to(folder / "nothing")
    os.mkfifo(folder / "pipe")
    (folder / "empty").mkdir()
    assert names(folder) == ["1.pt", "9.pt", "10.pt"]


def test_files_in_several_folders_are_refused(folder):
    save(folder / "more" / "2.pt")
    with pytest.raises(DatasetError, match="in 2 folders"):
        dataset_files(str(folder))


@pytest.mark.parametrize("name", ["x.pt", "x"])
def test_a_fifo_is_no_dataset(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises((DatasetError, LocationError), match=f"/{name} is "):
        read_layouts(str(tmp_path / name))


def test_files_of_another_kind_are_named(folder):
    torch.save({"image": torch.rand(3, 4)}, folder / "2.pt")
    with pytest.raises(DatasetError, match=r"/2\.pt holds other tensors than .*/1\.pt"):
        read_layouts(str(folder))


def test_progress_is_told_and_ends_with_all(folder):
    told = []
    read_layouts(str(folder), lambda done, total: told.append((done, total)))
    assert told[-1] == (3, 3)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


@pytest.mark.slow
def test_a_long_listing_tells_how_many_it_found(tmp_path):
    for number in range(2_001):
        store.put(f"memory://{tmp_path.name}/{number}.pt", b"")
    told = []
    dataset_files(f"memory://{tmp_path.name}", lambda done, total: told.append((done, total)))
    assert told == [(1000, None), (2000, None)]


def test_there_are_signs_of_life_while_no_file_answers(folder, monkeypatch):
    """A caller that learns how many files are open, and in time, even where a server hangs."""
    answering, told = threading.Event(), []
    open_descriptor = os.open

    def slow_open(path, *args, **options):
        if str(path).endswith(".pt"):
            assert answering.wait(30)
        return open_descriptor(path, *args, **options)

    def advance(done, total):
        told.append((done, total))
        answering.set()  # the first sign came before any file was read

    monkeypatch.setattr(os, "open", slow_open)
    read_layouts(str(folder), advance)
    assert told[0] == (0, 3)
    assert told[-1] == (3, 3)


def test_a_copy_under_another_name_is_read_alike(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    first, second = read_layouts(str(folder)), read_layouts(str(tmp_path / "copy"))
    assert [file.identity for file in first] == [file.identity for file in second]
