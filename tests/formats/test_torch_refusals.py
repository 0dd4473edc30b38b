"""What is not a dataset: one sentence that names the file and the reason, and nothing is ever executed."""

import io
import os
import pickle
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from skyfan.errors import DatasetError
from skyfan.formats import torch as tensorfile
from skyfan.formats.rows import read_rows

IMAGES, VALUES = torch.zeros(6, 5, 8, 8), torch.zeros(6)


def refusal(path):
    with pytest.raises(DatasetError) as caught:
        tensorfile.open_tensorfile(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert message.endswith(".")
    return message


def archive(path, entries, compression=zipfile.ZIP_STORED, folder="archive"):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in entries.items():
            file.writestr(f"{folder}/{name}", data)
    return path


def saved_entries(content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with zipfile.ZipFile(buffer) as file:
        return {name.split("/", 1)[1]: file.read(name) for name in file.namelist()}


class Runs:
    """Pickles as a call of `function(*arguments)`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_code_is_named_and_not_run(tmp_path, protocol):
    marker = tmp_path / "ran"
    pickled = pickle.dumps(Runs(os.system, f"touch {marker}"), protocol=protocol)
    message = refusal(archive(tmp_path / "my.pt", {"data.pkl": pickled, "version": "3"}))
    assert "would run posix.system (os.system) when loaded" in message
    assert "TensorDataset" in message
    assert not marker.exists()


@pytest.mark.parametrize(
    "function", [eval, exec, getattr, __import__, os.path.join, torch.load, torch.hub.load, np.load]
)
def test_every_function_outside_the_table_is_refused(tmp_path, function):
    pickled = pickle.dumps(Runs(function, "1"))
    assert "would run" in refusal(archive(tmp_path / "my.pt", {"data.pkl": pickled, "version": "3"}))


def _opcodes(*parts):
    return b"\x80\x02" + b"".join(parts) + b"."


@pytest.mark.parametrize(
    "pickled",
    [
        _opcodes(b"ctorch.utils.data.dataset\nTensorDataset\n", b"}b"),
        _opcodes(b"ctorch.utils.data.dataset\nTensorDataset\n", b"N}X\x03\x00\x00\x00keyK\x01s\x86b"),
        _opcodes(b"ctorch._utils\n_rebuild_tensor_v2\n", b"}X\x08\x00\x00\x00_functionK\x01sb"),
        _opcodes(b"ctorch._utils\n_rebuild_tensor_v2\n", b"N}X\x09\x00\x00\x00_functionK\x01s\x86b"),
        _opcodes(b"ctorch\nfloat32\n", b"N}X\x05\x00\x00\x00dtypeX\x04\x00\x00\x00int8s\x86b"),
        _opcodes(b"ctorch\nSize\n", b"(K\x01K\x02tR"),
        _opcodes(b"ctorch\nSize\n", b"X\x01\x00\x00\x00a\x85R"),
        _opcodes(b"X\x03\x00\x00\x00abcQ"),
        _opcodes(b"N", b"r\xff\xff\xff\x7f"),
        _opcodes(b"\x82\x01"),
        b"\x80\x02garbage",
        b"",
    ],
)
def test_a_hostile_pickle_changes_nothing_for_the_next_file(tmp_path, pickled):
    refusal(archive(tmp_path / "bad.pt", {"data.pkl": pickled, "version": "3"}))
    torch.save(TensorDataset(torch.ones(3, 2)), tmp_path / "good.pt")
    opened = tensorfile.open_tensorfile(tmp_path / "good.pt")
    assert read_rows(opened, "0", 0, 3).tolist() == [[1, 1]] * 3


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, "holds no tensors"),
        ({"note": "text"}, "holds no tensors, but note (a str)"),
        (3.5, "holds a float"),
        (torch.tensor(1.0), "single number"),
        (TensorDataset(torch.zeros(0, 5)), "0 samples"),
        ({"a": torch.zeros(2), "b": torch.zeros(3)}, "different numbers of samples (a 2, b 3)"),
        ({"a": {"b": torch.zeros(2)}, "a.b": torch.zeros(2)}, "two tensors"),
        (torch.zeros(4, 6)[:, :3], ".contiguous()"),
        (torch.zeros(4, 6)[::2], ".contiguous()"),
        (torch.zeros(1, 6).expand(4, 6), ".contiguous()"),
        (torch.zeros(4, 6).t(), ".contiguous()"),
        (torch.eye(3).to_sparse(), "to_dense()"),
        (torch.zeros(3, dtype=torch.complex64).conj(), "resolve_conj()"),
        (torch.zeros(3, device="meta"), "meta device"),
        (torch.nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
        ({"a": np.zeros(3)}, "no tensors, but a (a numpy array)"),
        ({"x": torch.zeros(3, 0)}, "hold no values"),
        ({"\x1b[2J": torch.zeros(3)}, r"names a tensor '\x1b[2J'"),
        ([(torch.zeros(5, 8, 8), torch.zeros(5))] * 3, "one object a member, 3 of them"),
        ([{"image": torch.zeros(5, 8, 8), "z": torch.zeros(5)}] * 3, "default_collate(torch.load(FILE))"),
        ([torch.zeros(5, 2, 2)] * 65, "one object a member, 65 of them"),
        ({f"M{n}": torch.zeros(5, 2, 2) for n in range(65)}, "default_collate(list(torch.load(FILE).values()))"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_is_not_a_dataset(tmp_path, content, words):
    torch.save(content, tmp_path / "x.pt")
    assert words in refusal(tmp_path / "x.pt")


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (({"image": IMAGES, "magnitude": VALUES}, {"redshift": VALUES}), ("0.image", "0.magnitude", "1.redshift")),
        (((IMAGES, VALUES), (VALUES, VALUES)), ("0.0", "0.1", "1.0", "1.1")),
    ],
)
def test_inputs_and_targets_of_all_objects_are_a_dataset(tmp_path, content, names):
    torch.save(content, tmp_path / "x.pt")
    assert tensorfile.open_tensorfile(tmp_path / "x.pt").names == names


@pytest.mark.parametrize("kind", [list, tuple, dict])
def test_objects_are_stacked_by_what_the_refusal_says(tmp_path, kind):
    objects = [(torch.rand(5, 8, 8), torch.rand(5)) for _ in range(4)]
    if kind is dict:
        objects = [dict(zip(("image", "magnitude"), one, strict=True)) for one in objects]
    torch.save(tuple(objects) if kind is tuple else objects, tmp_path / "objects.pt")
    refusal(tmp_path / "objects.pt")
    torch.save(torch.utils.data.default_collate(torch.load(tmp_path / "objects.pt")), tmp_path / "stacked.pt")
    assert tensorfile.open_tensorfile(tmp_path / "stacked.pt").samples == 4


def test_bands_and_columns_of_their_own_are_no_objects(tmp_path):
    bands = [torch.zeros(3, 8, 8) for _ in range(5)]
    for content in (bands, {"survey": {"g": bands[0]}, "deep": {"g": bands[1]}}, [torch.zeros(3)] * 80):
        torch.save(content, tmp_path / "x.pt")
        assert tensorfile.open_tensorfile(tmp_path / "x.pt").samples == 3


@pytest.mark.filterwarnings("ignore")
def test_kinds_that_torch_warns_about(tmp_path):
    torch.save(torch.zeros(3, dtype=torch.complex32), tmp_path / "x.pt")
    assert "complex32" in refusal(tmp_path / "x.pt")
    torch.save(torch.quantize_per_tensor(torch.zeros(3), 1.0, 0, torch.quint8), tmp_path / "x.pt")
    assert "dequantize()" in refusal(tmp_path / "x.pt")


def test_files_that_are_not_archives(tmp_path):
    path = tmp_path / "x.pt"
    path.write_bytes(b"")
    assert "empty" in refusal(path)
    path.write_bytes(b"not a tensor in sight")
    assert "not a .pt file" in refusal(path)
    torch.save(torch.zeros(3), path, _use_new_zipfile_serialization=False)
    assert "torch.save(torch.load(FILE, weights_only=True), NEW_FILE)" in refusal(path)
    archive(path, {"note.txt": b"hello"})
    assert "no data.pkl" in refusal(path)
    archive(path, saved_entries(torch.zeros(300)), zipfile.ZIP_DEFLATED)
    assert "compressed" in refusal(path)
    archive(path, saved_entries(torch.zeros(3)) | {"code/__torch__.py": b""})
    assert "TorchScript" in refusal(path)


@pytest.mark.parametrize("keep", [0.02, 0.5, 0.999])
def test_truncated(tmp_path, keep):
    torch.save(TensorDataset(torch.zeros(500, 100)), tmp_path / "x.pt")
    whole = (tmp_path / "x.pt").read_bytes()
    (tmp_path / "x.pt").write_bytes(whole[: int(len(whole) * keep)])
    assert "truncated" in refusal(tmp_path / "x.pt")


def test_a_missing_or_short_storage(tmp_path):
    entries = saved_entries({"a": torch.zeros(4, 2), "b": torch.zeros(4)})
    assert "values of tensor 'b' (data/1) are missing" in refusal(
        archive(tmp_path / "x.pt", {name: data for name, data in entries.items() if name != "data/1"})
    )
    assert "tensor 'a' needs 32 bytes, its storage data/0 has 28" in refusal(
        archive(tmp_path / "x.pt", entries | {"data/0": bytes(28)})
    )


def test_a_view_beyond_its_storage(tmp_path):
    entries = saved_entries(torch.zeros(4))
    entries["data.pkl"] = entries["data.pkl"].replace(b"K\x00K\x04\x85", b"K\x01K\x04\x85")
    assert "damaged" in refusal(archive(tmp_path / "x.pt", entries))


def test_a_view_beyond_its_declared_storage(tmp_path):
    entries = saved_entries(torch.zeros(4)) | {"data/0": bytes(64)}
    entries["data.pkl"] = entries["data.pkl"].replace(b"K\x00K\x04\x85", b"K\x00K\x05\x85")
    assert "damaged" in refusal(archive(tmp_path / "x.pt", entries))


@pytest.mark.parametrize(
    ("pickled", "words"),
    [
        (_opcodes(b"\x82\x01"), "an instruction that torch does not write (0x82)"),
        (_opcodes(b"Pname\n"), "an instruction that torch does not write (0x50)"),
        (_opcodes(b"\x97"), "an instruction that torch does not write (0x97)"),
        (b"\x80\x02N", "cannot be read"),
    ],
)
def test_a_pickle_that_misuses_the_unpickler(tmp_path, pickled, words):
    assert words in refusal(archive(tmp_path / "x.pt", {"data.pkl": pickled}))


def test_a_small_file_that_unfolds_without_end(tmp_path):
    tree = [torch.zeros(1)]
    for _ in range(30):
        tree = [tree, tree]
    torch.save(tree, tmp_path / "x.pt")
    assert "more than 10000 tensors" in refusal(tmp_path / "x.pt")
    cycle = []
    cycle.append(cycle)
    torch.save(cycle, tmp_path / "x.pt")
    assert "deeper than 32" in refusal(tmp_path / "x.pt")


def test_an_oversized_pickle_is_not_read(tmp_path):
    assert "data.pkl" in refusal(archive(tmp_path / "x.pt", {"data.pkl": bytes(17 * 2**20)}))


def test_any_damage_is_one_sentence(tmp_path):
    """Flip bytes everywhere but in the values: a clear refusal or the right shapes, never another exception."""
    torch.save(TensorDataset(torch.zeros(4, 3), torch.zeros(4)), tmp_path / "x.pt")
    whole = (tmp_path / "x.pt").read_bytes()
    generator = np.random.default_rng(0)
    for position in generator.integers(0, len(whole), 300):
        damaged = bytearray(whole)
        damaged[position] ^= int(generator.integers(1, 256))
        (tmp_path / "y.pt").write_bytes(damaged)
        try:
            opened = tensorfile.open_tensorfile(tmp_path / "y.pt")
            for name in opened.names:
                read_rows(opened, name, 0, opened.samples)
        except DatasetError as error:
            assert "\n" not in str(error)  # noqa: PT017


@pytest.mark.parametrize("folder", ["archive", "my file", "x"])
def test_old_files_without_the_newer_entries(tmp_path, folder):
    tensors = torch.arange(12.0).reshape(4, 3), torch.arange(4.0)
    entries = saved_entries(TensorDataset(*tensors))
    old = {name: entries[name] for name in ("data.pkl", "data/0", "data/1", "version")}
    opened = tensorfile.open_tensorfile(archive(tmp_path / "x.pt", old, folder=folder))
    assert read_rows(opened, "0", 1, 3).tolist() == tensors[0][1:3].tolist()


def test_the_rebuild_function_of_the_oldest_files(tmp_path):
    entries = saved_entries(torch.arange(12.0).reshape(4, 3))
    hooks = b"\x89ccollections\nOrderedDict\nq\x08)Rq\tt"
    assert hooks in entries["data.pkl"]
    entries["data.pkl"] = entries["data.pkl"].replace(b"_rebuild_tensor_v2", b"_rebuild_tensor").replace(hooks, b"t")
    opened = tensorfile.open_tensorfile(archive(tmp_path / "x.pt", entries))
    assert read_rows(opened, "0", 3, 4).tolist() == [[9, 10, 11]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.complex64, torch.bfloat16, torch.bool], ids=str)
def test_big_endian_files(tmp_path, dtype):
    values = torch.tensor([[0, 1], [1, 1], [1, 0]]).to(dtype)
    entries = saved_entries({"x": values})
    word = {torch.complex64: 4}.get(dtype, values.element_size())
    swapped = np.frombuffer(entries["data/0"], f"u{word}").byteswap().tobytes()
    entries |= {"byteorder": b"big", "data/0": swapped}
    opened = tensorfile.open_tensorfile(archive(tmp_path / "x.pt", entries))
    read = read_rows(opened, "x", 0, 3)
    assert read.astype(complex).tolist() == values.to(torch.complex128).tolist()


def test_two_directory_entries_of_one_name(tmp_path):
    entries = saved_entries(torch.zeros(3))
    archive(tmp_path / "x.pt", entries | {"data/X": bytes(12)})
    data = (tmp_path / "x.pt").read_bytes().replace(b"archive/data/X", b"archive/data/0")
    (tmp_path / "x.pt").write_bytes(data)
    assert "two entries" in refusal(tmp_path / "x.pt")


def test_metadata_attributes_are_dropped_not_run(tmp_path):
    state = OrderedDict(a=torch.zeros(2))
    state._metadata = {"version": 1}
    torch.save(state, tmp_path / "x.pt")
    assert list(tensorfile.open_tensorfile(tmp_path / "x.pt").names) == ["a"]
