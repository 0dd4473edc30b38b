"""Programs that would read, write, start, exhaust or crash something are refused by name; torch never gets them."""

import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from skyfan.errors import ModelError
from skyfan.models.programs.checked import checked_program
from skyfan.models.programs.exported import clean_archive
from tests.models.programs.editing import (
    GRAPH,
    WEIGHTS,
    Json,
    edited,
    entries_of,
    graph_of,
    packed,
    rewritten,
    small,
)
from tests.models.programs.hostile_graphs import HOSTILE_GRAPHS


def refused(data: bytes, says: str) -> None:
    """Refused with that, in one line of ASCII, before torch is asked to load anything."""
    with pytest.raises(ModelError, match=says) as caught:
        checked_program(data, "evil.pt2")
    assert str(caught.value).isprintable()
    assert str(caught.value).startswith("evil.pt2 ")
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("case", HOSTILE_GRAPHS)
def test_a_graph_that_is_more_than_tensor_operations_is_refused_by_name(case: str):
    change, says = HOSTILE_GRAPHS[case]
    refused(edited(change), says)


def _weight(**changed: object) -> bytes:
    return edited(lambda held: held["config"]["line.weight"].update(changed), WEIGHTS)


def _shape(name: str = "line.weight", **changed: object) -> bytes:
    return edited(lambda held: held["config"][name]["tensor_meta"].update(changed), WEIGHTS)


def _sizes(*sizes: int) -> list[Json]:
    return [{"as_int": size} for size in sizes]


BEYOND = "beyond its 10 values"
STORED = {
    "a pickle": (lambda: _weight(use_pickle=True), "'line.weight' as a pickled object"),
    "a pickle that is true in its own way": (lambda: _weight(use_pickle=0), "as a pickled object"),
    "a path": (lambda: _weight(path_name="../../weight_0"), "as a pickled object"),
    "a list as path": (lambda: _weight(path_name=["weight_0"]), "as a pickled object"),
    "more values than bytes": (lambda: _shape(sizes=_sizes(2, 6), strides=_sizes(6, 1)), BEYOND),
    "expanded to 10**12": (lambda: _shape(sizes=_sizes(10**6, 10**6), strides=_sizes(0, 0)), BEYOND),
    "strides beyond": (lambda: _shape(strides=_sizes(50, 1)), BEYOND),
    "offset beyond": (lambda: _shape(storage_offset={"as_int": 1}), BEYOND),
    "negative offset": (lambda: _shape(storage_offset={"as_int": -1}), "must be an integer from 0"),
    "negative size": (lambda: _shape(sizes=_sizes(-2, 5)), "must be an integer from 0"),
    "negative stride": (lambda: _shape(strides=_sizes(-5, 1)), "must be an integer from 0"),
    "fewer strides": (lambda: _shape(strides=_sizes(1)), "2 sizes and 1 strides"),
    "a larger dtype": (lambda: _shape(dtype=8), "beyond its 5 values"),
    "code as size": (
        lambda: _shape(sizes=[{"as_expr": {"expr_str": "__import__('os').getpid()", "hint": None}}] * 2),
        "more than arithmetic",
    ),
    "a symbolic size": (
        lambda: _shape(sizes=[{"as_expr": {"expr_str": "Symbol('s0', positive=True)", "hint": None}}] * 2), "symbolic"
    ),
    "no table": (lambda: edited(lambda held: held.update(config=None), WEIGHTS), "table of tensors is no object"),
    "a missing tensor": (lambda: rewritten(lambda e: e.pop("data/weights/weight_0")), "cannot be read"),
    "a missing weight": (
        lambda: edited(lambda held: held["config"].pop("line.bias"), WEIGHTS), "'line.bias' is not stored"
    ),
    "two dtypes of the same bytes": (
        lambda: edited(
            lambda held: held["config"]["line.bias"].update(
                {**held["config"]["chosen"], "path_name": held["config"]["offset"]["path_name"]}
            ), WEIGHTS,
        ),
        "as two dtypes",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", STORED)
def test_tensors_that_are_not_what_is_stored_are_refused(case: str):
    make, says = STORED[case]
    refused(make(), says)


def _raw(change: Callable[[bytes], bytes]) -> bytes:
    return rewritten(lambda entries: entries.update({GRAPH: change(entries[GRAPH])}))


def _beside(text: str) -> bytes:
    return _raw(lambda data: data[:-1] + f', "x": {text}}}'.encode())


def _twice() -> bytes:
    """The graph and another entry that is renamed to its name, in the directory too."""
    data = rewritten(lambda entries: entries.update({"models/modem.json": b"{}"}))
    return data.replace(b"root/models/modem.json", b"root/models/model.json")


def _encrypted() -> bytes:
    data = bytearray(packed(entries_of(small())))
    at = data.find(b"PK\x01\x02")
    while at >= 0:  # the flag in every entry of the directory
        data[at + 8] |= 1
        at = data.find(b"PK\x01\x02", at + 4)
    return bytes(data)


ARCHIVES = {
    "no JSON": (lambda: _raw(lambda _: b"{"), "cannot be read"),
    "deep lists": (lambda: _beside("[" * 480 + "]" * 480), "nested more than 160 deep"),
    "deep objects": (lambda: _beside('{"a":' * 100_000 + "1" + "}" * 100_000), "nested more than 160 deep"),
    "many lists": (lambda: _beside("[" + "[]," * 2**20 + "0]"), "more than 1,048,576 lists"),
    "NaN": (lambda: _beside("NaN"), "holds NaN"),
    "a long integer": (lambda: _beside("9" * 5000), "an integer of 5000 digits"),
    "no Unicode": (lambda: _raw(lambda data: data + b"\xff\xfe"), "cannot be read"),
    "a lone surrogate": (
        lambda: _raw(lambda data: data.replace(b'"target": "torch', b'"target": "\\ud800torch', 1)), r"ud800torch"
    ),
    "escape sequences": (
        lambda: _raw(lambda data: data.replace(b'"target": "torch', b'"target": "\\u001b[2Jtorch', 1)), r"x1b\[2Jtorch"
    ),
    "a list": (lambda: _raw(lambda _: b"[]"), "the program is no object"),
    "one name twice": (_twice, "two of one name"),
    "two programs": (
        lambda: rewritten(lambda e: e.update({"x/models/model.json": e[GRAPH]})), "holds 2 exported programs"
    ),
    "encrypted": (_encrypted, "is encrypted"),
    "compressed": (lambda: packed(entries_of(small()), zipfile.ZIP_DEFLATED), "is a compressed archive"),
    "many entries": (lambda: packed({f"{n}": b"" for n in range(20_001)}), "20,001 entries"),
    "truncated": (lambda: small()[: len(small()) // 2], "is truncated or damaged"),
    "a compiled library": (
        lambda: rewritten(lambda e: e.update({"data/aotinductor/model/a.so": b"\x7fELF"})), "a compiled library"
    ),
    "no graph": (lambda: rewritten(lambda e: e.pop(GRAPH)), "holds no exported program"),
    "the first form": (
        lambda: packed({}) and _first_form(), "is of torch 2.7 or older, whose weights are pickled"
    ),
}  # fmt: skip


def _first_form() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("serialized_exported_program.json", b"{}")
    return buffer.getvalue()


@pytest.mark.parametrize("case", ARCHIVES)
def test_archives_that_are_no_plain_program_are_refused(case: str):
    make, says = ARCHIVES[case]
    refused(make(), says)


def test_what_is_not_needed_never_reaches_torch(tmp_path: Path):
    witness = tmp_path / "witness"

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return os.system, (f"touch {witness}",)

    pickled = io.BytesIO()
    torch.save((Evil(),), pickled)
    code = f"__import__('os').system('touch {witness}') == 0"

    def change(program: Json) -> None:
        program.update(guards_code=[code], verifiers=[code], torch_version=code, opset_version={code: 1}, more=code)
        program["graph_module"]["metadata"] = {"custom": code}
        program["graph_module"]["module_call_graph"].append({"fqn": code, "signature": {"in_spec": code}})
        for call in graph_of(program)["nodes"]:
            call["name"] = code
            call["metadata"] = dict.fromkeys(("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn"), code)
            call["metadata"] |= {"from_node": json.dumps([{"name": code, "target": code}]), "custom": code}

    evil = edited(change)
    evil = rewritten(lambda e: e.update({"data/sample_inputs/model.pt": pickled.getvalue(), "extra/x": b"x"}), evil)
    checked = checked_program(evil, "odd.pt2")
    clean = clean_archive(checked)
    assert b"witness" not in clean
    assert b"Evil" not in clean
    assert checked.inputs == checked_program(small(), "small.pt2").inputs


def test_names_of_the_file_are_not_those_that_torch_gets():
    held = entries_of(clean_archive(checked_program(small(), "small.pt2")))
    for name in (b'"line.weight"', b'"p_line_weight"', b'"b_offset"', b'"magnitude"', b'"image"', b'"mean"'):
        assert not any(name in content for entry, content in held.items() if entry.endswith(".json"))


def test_booleans_are_zero_or_one_whatever_their_bytes():
    path = json.loads(entries_of(small())[WEIGHTS])["config"]["chosen"]["path_name"]
    evil = rewritten(lambda entries: entries.update({f"data/weights/{path}": b"\x02\xff"}))
    assert b"\x01\x01" in checked_program(evil, "odd.pt2").contents.values()
