"""Changes programs as somebody hostile would: entry by entry, and in the JSON of their graph."""

import copy
import functools
import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tests.models.programs.corpus import export, image, magnitude

GRAPH = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"
Json = dict[str, Any]


class Small(nn.Module):
    """Two outputs, the second of two columns; inputs in another order than the dataset's; a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(5, 2)
        self.register_buffer("offset", torch.tensor([1.0, 2.0]))
        self.register_buffer("chosen", torch.tensor([True, False]))

    def forward(self, magnitude: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        picked = torch.where(self.chosen, self.offset, 0.0)
        return image.mean(dim=(1, 2, 3)), self.line(magnitude) + picked


@functools.cache
def small() -> bytes:
    """A small honest program."""
    torch.manual_seed(0)
    return export(Small(), (magnitude(), image()))


def entries_of(data: bytes) -> dict[str, bytes]:
    """The archive's entries by name, without the root folder."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def packed(entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """An archive with these entries."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(f"root/{name}", content)
    return buffer.getvalue()


def rewritten(change: Callable[[dict[str, bytes]], object], data: bytes | None = None) -> bytes:
    """The small program with its entries changed."""
    entries = entries_of(data or small())
    change(entries)
    return packed(entries)


def edited(change: Callable[[Json], object], entry: str = GRAPH, data: bytes | None = None) -> bytes:
    """The small program with one entry's JSON changed."""

    def edit(entries: dict[str, bytes]) -> None:
        held = json.loads(entries[entry])
        change(held)
        entries[entry] = json.dumps(held).encode()

    return rewritten(edit, data)


def graph_of(program: Json) -> Json:
    """The graph in a program's JSON."""
    found: Json = program["graph_module"]["graph"]
    return found


def node(program: Json, target: str) -> Json:
    """The first call of an operator."""
    found: Json = next(item for item in graph_of(program)["nodes"] if target in item["target"])
    return found


def argument(held: Json, name: str = "", kind: int = 1) -> Json:
    """A node's input."""
    return {"name": name, "arg": held, "kind": kind}


def tensor(name: str) -> Json:
    """A tensor as an argument or a result."""
    return {"as_tensor": {"name": name}}


def call_first(program: Json, target: str, inputs: list[Json], outputs: list[Json] | None = None) -> None:
    """Puts a call before all others; its one result, `evil`, looks like the mean."""
    graph = graph_of(program)
    graph["tensor_values"]["evil"] = copy.deepcopy(graph["tensor_values"]["mean"])
    made = {"target": target, "inputs": inputs, "outputs": [tensor("evil")] if outputs is None else outputs}
    graph["nodes"].insert(0, {**made, "metadata": {}, "is_hop_single_tensor_return": True, "name": "evil"})
