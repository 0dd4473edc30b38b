"""The machine that reads pickles: what torch writes is understood, and a file gets no more than its size allows."""

import argparse
import collections
import datetime
import functools
import pathlib
import pickle
import pickletools
import struct
import subprocess
import sys
import tracemalloc
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest
import torch

from skyfan.errors import BadInput, DatasetError, ModelError
from skyfan.formats.rows import read_rows
from skyfan.formats.torch import open_tensorfile
from skyfan.formats.torch.unpickler import InertObject, Opaque, OpaqueKey, describe, load_tree
from skyfan.formats.torch.unpickler.objects import OBJECT_INSTRUCTIONS
from skyfan.formats.torch.unpickler.scalars import SCALAR_INSTRUCTIONS
from tests.fuzz.pickles import integer, marked_tuple, named, text

MIB = 2**20


def load(pickled, error=DatasetError):
    return load_tree(pickled, "x.pt", error, "; do something.")


def opcodes(*parts):
    return b"\x80\x02" + b"".join(parts) + b"."


def refusal(*parts):
    with pytest.raises(DatasetError) as caught:
        load(opcodes(*parts))
    assert str(caught.value).isprintable()
    return str(caught.value)


@dataclass
class Survey:
    name: str
    bands: list


class Point(collections.namedtuple("Point", "ra dec")):
    __slots__ = ()


PLAIN = {
    "text": "image ☆",
    "numbers": [0, 1, -1, 255, 256, 65_536, 2**31, -(2**31), 2**40, 2**127, -(2**127), 1.5, float("inf")],
    "constants": (None, True, False),
    "containers": ({"a": [1, (2, 3)]}, [], (), {}, {"s": {1, 2, "three"}}, set()),
    "bytes": [b"", b"abc", b"x" * 300],
    "long text": "x" * 70_000,
}


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_plain_values_are_read_as_pickle_reads_them(protocol):
    assert load(pickle.dumps(PLAIN, protocol)) == PLAIN


@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_old_protocols_too(protocol):
    plain = {name: value for name, value in PLAIN.items() if name != "bytes"}
    assert load(pickle.dumps(plain, protocol)) == plain


def test_shared_and_cyclic_containers_stay_so():
    shared = [1]
    cycle = [shared, shared]
    cycle.append(cycle)
    read = load(pickle.dumps(cycle, 2))
    assert read[0] is read[1]
    assert read[2] is read


def test_every_instruction_that_is_known_is_one_of_pickle():
    known = {opcode.name for opcode in pickletools.opcodes}
    assert (SCALAR_INSTRUCTIONS.keys() | OBJECT_INSTRUCTIONS.keys()) < known
    assert not SCALAR_INSTRUCTIONS.keys() & OBJECT_INSTRUCTIONS.keys()


@pytest.mark.parametrize("opcode", ["INST", "OBJ", "EXT1", "EXT2", "EXT4", "PERSID", "NEXT_BUFFER", "READONLY_BUFFER"])
def test_instructions_that_torch_does_not_write_are_unknown(opcode):
    code = next(known.code for known in pickletools.opcodes if known.name == opcode)
    assert "instruction" in refusal(b"(", code.encode("latin-1"), b"os\nsystem\n")


EXTRAS = {
    "note": ("text", "a str"),
    "count": (3, "an int"),
    "ratio": (0.5, "a float"),
    "nothing": (None, "None"),
    "names": (["a", "b"], "a list"),
    "array": (np.arange(4), "a numpy array"),
    "scalar": (np.float64(0.3), "a numpy number"),
    "dtype": (torch.float32, "the dtype float32"),
    "point": (Point(1.0, 2.0), "an object of tests.formats.test_unpickler.Point"),
    "survey": (Survey("sdss", ["u", "g"]), "an object of tests.formats.test_unpickler.Survey"),
    "options": (argparse.Namespace(lr=1e-3), "an object of argparse.Namespace"),
    "path": (pathlib.PurePosixPath("/x"), "a path"),
    "date": (datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), "a date or time"),
    "partial": (functools.partial(print, 1), "a functools.partial"),
    "device": (torch.device("cuda:0"), "a device"),
    "function": (torch.nn.functional.relu, "a reference to torch.nn.functional.relu"),
    "nested": ({"a": {"b": [1]}}, "a dict"),
    "counter": (collections.Counter("abc"), "a Counter"),
    "frozen": (frozenset({1}), "a set"),
}


@pytest.mark.parametrize("protocol", [2, 5])
def test_what_lies_beside_the_tensors_is_left_out_by_name(tmp_path, protocol):
    content = {"image": torch.zeros(3, 2)} | {name: value for name, (value, _) in EXTRAS.items()}
    torch.save(content, tmp_path / "x.pt", pickle_protocol=protocol)
    assert open_tensorfile(tmp_path / "x.pt").names == ("image",)
    assert open_tensorfile(tmp_path / "x.pt").left_out == tuple(
        f"{name} ({kind})" for name, (_, kind) in EXTRAS.items()
    )


class Pair(NamedTuple):
    image: torch.Tensor
    magnitude: torch.Tensor


@dataclass
class Sky:
    image: torch.Tensor
    magnitude: torch.Tensor
    survey: str


def test_tensors_of_dataclasses_and_named_tuples_are_read_without_their_code(tmp_path):
    image, magnitude = torch.rand(3, 5, 4, 4), torch.rand(3, 5)
    for content, left_out in ((Pair(image, magnitude), ()), (Sky(image, magnitude, "sdss"), ("survey (a str)",))):
        torch.save(content, tmp_path / "x.pt")
        file = open_tensorfile(tmp_path / "x.pt")
        assert (file.names, file.left_out) == (("image", "magnitude"), left_out)
        np.testing.assert_array_equal(read_rows(file, "image", 1, 3), image[1:])


def test_names_of_what_is_left_out_are_paths(tmp_path):
    torch.save({"sdss": {"image": torch.zeros(3, 2), "note": "x"}, "1": [torch.zeros(3), 7]}, tmp_path / "x.pt")
    assert open_tensorfile(tmp_path / "x.pt").names == ("sdss.image", "1.0")
    assert open_tensorfile(tmp_path / "x.pt").left_out == ("sdss.note (a str)", "1.1 (an int)")


@pytest.mark.slow
def test_a_long_list_of_names_is_one_member(tmp_path):
    torch.save({"image": torch.zeros(3, 2), "ids": [str(number) for number in range(200_000)]}, tmp_path / "x.pt")
    assert open_tensorfile(tmp_path / "x.pt").left_out == ("ids (a list)",)


def test_keys_that_are_no_names_are_kept_apart():
    read = load(pickle.dumps({(1, 2): "a", 1.5: "b", 2**70: "c", "x": "d", 3: "e", None: "f"}, 2))
    assert [key.kind if isinstance(key, OpaqueKey) else key for key in read] == [
        *("a tuple", "a float", "an int", "x", 3, None)
    ]


def test_a_tensor_that_is_named_by_a_tuple_is_refused(tmp_path):
    torch.save({(1, 2): torch.zeros(3)}, tmp_path / "x.pt")
    with pytest.raises(DatasetError, match="names a tensor by a tuple"):
        open_tensorfile(tmp_path / "x.pt")


def test_an_object_holds_its_state_and_does_nothing():
    read = load(pickle.dumps(Survey("sdss", ["u"]), 2))
    assert isinstance(read, InertObject)
    assert read.state == {"name": "sdss", "bands": ["u"]}
    assert describe(load(pickle.dumps(np.int64(3), 2))) == "a numpy number"
    assert isinstance(load(pickle.dumps(np.zeros(3), 5)), Opaque)


@pytest.mark.parametrize("error", [DatasetError, ModelError])
def test_the_error_is_the_one_that_the_reader_asks_for(error):
    with pytest.raises(error, match=r"^x\.pt would run os\.system when loaded; do something\.$"):
        load(opcodes(named("os system"), b"(", text("true"), b"tR"), error)


REFUSED = {
    "long integer": ([b"\x8b", struct.pack("<i", 2077), b"\x7f" * 2077], "integer of more than 1024 bits"),
    "long decimal": ([b"I", b"9" * 5000, b"\n"], "a line of more than 400 bytes"),
    "long name": ([b"}", text("x" * 1025), b"Ns"], "more than 1024 characters"),
    "long class": ([named("m" * 1000 + " " + "n" * 1000)], "more than 1024 characters"),
    "dimensions": ([named("torch Size"), b"(](", b"K\x01" * 33, b"etR"], "more than 32 dimensions"),
    "negative size": ([named("torch Size"), b"(](", integer(-1), b"etR"], "from 0 to 2**62"),
    "huge size": ([named("torch Size"), b"(](", integer(2**62), b"etR"], "from 0 to 2**62"),
    "text beyond the end": ([b"X\xff\xff\xff\x7f"], "ends in the middle"),
    "bytes beyond the end": ([b"\x8e", struct.pack("<Q", 2**63)], "ends in the middle"),
    "protocol": ([b"\x80\x06N"], "protocol"),
    "state of a dtype": ([named("torch float32"), b"}b"], "gives state to"),
    "state of a function": ([named("torch Size"), b"}b"], "gives state to"),
    "state of a number": ([b"K\x01}b"], "gives state to"),
    "item of a number": ([b"K\x01NNs"], "sets an item"),
    "append to a dict": ([b"}Na"], "appends to"),
    "call of a number": ([b"K\x01)R"], "calls something"),
    "call with no tuple": ([named("torch Size"), b"NR"], "calls something"),
    "too many arguments": ([named("torch Size"), b"(NNNtR"], "arguments that it does not take"),
    "object of a number": ([b"K\x01)\x81"], "not a class"),
    "odd items": ([b"}(Nu"], "a key without a value"),
    "subclass of a subclass": (
        [b"(".join([named("torch._tensor _rebuild_from_type_v2")] * 2), named("torch Tensor"), b")}tR"],
        "not rebuilt by torch's own functions",
    ),
    "storage that is none": ([text("abc"), b"Q"], "not a storage"),
    "storage of no type": (
        [marked_tuple(text("storage"), text("x"), text("0"), text("cpu"), b"K\x01"), b"Q"],
        "no known",
    ),
    "empty stack": ([b"0"], "IndexError"),
    "gap in the memo": ([b"h\x05"], "KeyError"),
    "no UTF-8": ([b"X\x01\0\0\0\xff"], "UnicodeDecodeError"),
}


@pytest.mark.parametrize(("parts", "words"), REFUSED.values(), ids=REFUSED)
def test_what_a_pickle_cannot_ask_for(parts, words):
    assert words in refusal(*parts)


# Nesting costs no stack: read in a child, because what is wrong here ends the process.
_NESTED = {
    "tuple as a key": b"}N" + b"\x85" * 200_000 + b"Ns",
    "tuple in a set": b"\x8f(N" + b"\x85" * 200_000 + b"\x90",
    "tuple in a frozen set": b"(N" + b"\x85" * 200_000 + b"\x91",
    "lists": b"]" * 200_000 + b"a" * 199_999,
    "dictionaries": b"}" + b"N}" * 200_000 + b"s" * 200_000,
    "objects": b"".join([named("a B"), b")\x81}K\x01"] * 50_000) + b"N" + b"sb" * 50_000,
    "marks": b"(" * 200_000 + b"t" * 200_000,
    "arguments": named("torch Size") + b"N" + b"\x85" * 200_000 + b"R",
    "persistent id": b"N" + b"\x85" * 200_000 + b"Q",
}


@pytest.mark.slow
def test_deep_nesting_crashes_nothing(tmp_path):
    code = (
        "import sys\nfrom skyfan.errors import DatasetError\nfrom skyfan.formats.torch.unpickler import load_tree\n"
        "for path in sys.argv[1:]:\n"
        "    try: load_tree(open(path, 'rb').read(), 'x.pt', DatasetError, '.'); print('read')\n"
        "    except DatasetError as error: print('refused')\n"
    )
    paths = []
    for number, pickled in enumerate(_NESTED.values()):
        paths.append(tmp_path / str(number))
        paths[-1].write_bytes(opcodes(pickled))
    done = subprocess.run(
        [sys.executable, "-c", code, *paths], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["read"] * 7 + ["refused"] * 2


def _class_names():
    """Names of 500 characters, each made of two that are there once."""
    parts = [text("m" * 500 + str(n)) + b"r" + struct.pack("<I", n) + b"0" for n in range(200)]
    pairs = ((a, b) for a in range(200) for b in range(200))
    return b"".join(parts) + b"".join(
        b"j" + struct.pack("<I", a) + b"j" + struct.pack("<I", b) + b"\x93" for a, b in pairs
    )


_ITEMS = 100_000
AMPLIFIED = {
    "memo": lambda: b"N" + b"".join(b"r" + struct.pack("<I", number) for number in range(_ITEMS)),
    "sets": lambda: b"\x8f" * _ITEMS,
    "copies of a list": lambda: b"](" + b"N" * _ITEMS + b"eq\x01" + (named("builtins set") + b"h\x01\x85R") * 10_000,
    "copies of attributes": lambda: (
        named("a B") + b")\x81q\x020}(" + b"".join(integer(n) + b"N" for n in range(_ITEMS)) + b"uq\x01"
        + b"h\x02h\x01b" * 10_000
    ),
    "long class names": _class_names,
    "keys of one low half": lambda: b"}(" + b"".join(integer(n << 32) + b"N" for n in range(1, _ITEMS)) + b"u",
    "equal long keys": lambda: b"}" + b"".join(text("k" * 1024) + b"Ns" for _ in range(1_000)),
    "numbers of one hash": lambda: b"}(" + b"".join(integer(n * (2**61 - 1)) + b"N" for n in range(30_000)) + b"u",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("make", AMPLIFIED.values(), ids=AMPLIFIED)
def test_a_file_costs_no_more_than_its_size_allows(make):
    pickled = opcodes(make())
    tracemalloc.start()
    try:
        load(pickled)
    except BadInput as error:
        assert "more than" in str(error)  # noqa: PT017 (read or refused: either is right, if it is cheap)
    finally:
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak_bytes < 64 * MIB


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pickled", "words"),
    [
        (b"N" * (16 * MIB - 3), "more than 4,000,000 instructions"),
        (b"\x8f" * (16 * MIB - 3), "more than 1,000,000 objects"),
        (b"N" * 16 * MIB, "more than 16 MiB"),
    ],
    ids=["instructions", "objects", "bytes"],
)
def test_what_is_cheap_to_write_is_not_read_to_its_end(pickled, words):
    assert words in refusal(pickled)
