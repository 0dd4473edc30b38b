"""Mutates the JSON of honest programs: each is refused in a sentence, or runs and ends in a sentence or in rows.

    python -m tests.fuzz.programs [--executions N] [--seed S] [--run-every K]

A structured generator: it knows where a program names operators, values, sizes, texts and stored tensors, and puts
there what the schema allows and the check must not, or something of the same kind from elsewhere in the program.
Every `K`th program that passes is loaded by torch and run, in a forked child under the sandbox's limits.
"""

import argparse
import copy
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from skyfan.errors import ModelError
from skyfan.models.programs.checked import CheckedProgram, checked_program
from skyfan.models.programs.operators import allowed_operators
from skyfan.models.programs.trial import example_rows
from skyfan.sandbox import restrict_process
from tests.models.programs.corpus import CORPUS, export
from tests.models.programs.editing import GRAPH, WEIGHTS, Json, entries_of, packed, small

SLOW_S = 5.0
MEMORY_BYTES, DEADLINE_S = 12 * 2**30, 60
HOSTILE_TARGETS = (
    "torch.ops.aten.from_file.default", "torch.os.system", "_operator.attrgetter", "_operator.call", "math.factorial",
    "torch.ops.aten.set_.source_Tensor", "torch.ops.aten.as_strided.default", "torch.ops.aten.resize_.default",
    "torch.ops.higher_order.cond", "torch.ops.higher_order.wrap_with_set_grad_enabled", "torch.load", "#a:b",
    "torch.ops.aten.empty.memory_format", "torch.ops.aten.bernoulli.default", "torch.ops.prims.device_put.default",
)  # fmt: skip
EXPRESSIONS = (
    "9**9**9", "Symbol('s0', positive=True, integer=True)", "Pow(Symbol('s0'), Integer(4))", "Integer(99999999999)",
    "__import__('os').getpid()", "Mul(Integer(7), Symbol('s77', positive=True, integer=True))", "Abs(" * 30, "",
    "FloorDiv(Symbol('s0', integer=True), Integer(0))", "Mod(Integer(1), Integer(0))", "true", "Max(Integer(1))",
)  # fmt: skip
SCALARS = (
    None, True, False, 0, 1, -1, 2, 7, 2**24, 2**31, 2**53, 2**63 - 1, -(2**63), 10**30, 0.5, -1e300, "Infinity", "NaN",
    "", "x", "\ud800", "\x1b[2J", "/etc/passwd", "same", [], {}, [[[]]], {"as_int": 3}, [1, 2, 3], [0] * 9,
)  # fmt: skip
ARGUMENTS: tuple[Json, ...] = (
    {"as_none": True}, {"as_int": -1}, {"as_int": 0}, {"as_int": 2**24}, {"as_ints": [0, 0]},
    {"as_ints": [-1, 2**20]},
    {"as_ints": []}, {"as_float": "NaN"}, {"as_float": 1e300}, {"as_bool": True}, {"as_string": "/tmp/x"},
    {"as_custom_obj": {"name": "x", "class_fqn": "y"}}, {"as_string": "same"},
    {"as_operator": "torch.ops.aten.from_file.default"}, {"as_scalar_type": 5},
    {"as_scalar_type": 12}, {"as_device": {"type": "cuda", "index": 9}},
    {"as_graph": {"name": "g", "graph": {}}}, {"as_sym_int": {"as_int": 3}}, {"as_layout": 1},
    {"as_memory_format": 2},
    {"as_string_to_argument": {"a": {"as_int": 1}}}, {"as_complex": {"real": 0, "imag": 1}},
    {"as_tensors": []},
)  # fmt: skip


def paths(value: object, wanted: Callable[[str], bool], key: str = "") -> list[tuple[Any, Any]]:
    """Containers and keys of all fields whose name is wanted."""
    found: list[tuple[Any, Any]] = []
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for at, item in pairs:
        name = at if isinstance(at, str) else key
        if wanted(name):
            found.append((value, at))
        found += paths(item, wanted, name)
    return found


def mutate_graph(program: Json, rng: random.Random) -> str:
    """Changes one thing of the graph's JSON; the name of the change."""
    nodes = program["graph_module"]["graph"]["nodes"]
    node = rng.choice(nodes) if nodes else {"inputs": [], "outputs": []}
    kind = rng.choice(
        ("target", "swap", "argument", "moved", "expression", "name", "size", "field", "drop", "copy", "int")
    )
    if kind == "target":
        node["target"] = rng.choice(HOSTILE_TARGETS)
    elif kind == "swap":
        node["target"] = rng.choice(ALLOWED)
    elif kind == "argument" and node["inputs"]:
        rng.choice(node["inputs"])["arg"] = copy.deepcopy(rng.choice(ARGUMENTS))
    elif kind == "moved" and node["inputs"]:
        other = rng.choice(nodes)
        if other["inputs"]:
            rng.choice(node["inputs"])["arg"] = copy.deepcopy(rng.choice(other["inputs"])["arg"])
    elif kind == "drop" and nodes:
        rng.choice((nodes, node["inputs"] or nodes, node["outputs"] or nodes)).pop()
    elif kind == "copy" and nodes:
        nodes.insert(rng.randrange(len(nodes) + 1), copy.deepcopy(node))
    else:
        mutate_field(program, kind, rng)
    return kind


def mutate_field(program: Json, kind: str, rng: random.Random) -> None:
    """Changes one integer, name, size, expression or any field at all."""
    if kind == "int":
        held = paths(program, lambda name: name in ("as_int", "as_ints"))
        container, key = rng.choice(held or [([0], 0)])
        value = container[key]
        new = rng.choice((-(2**63), -(2**20), -2, -1, 0, 1, 2, 5, 2**20, 2**24, 2**63 - 1))
        if isinstance(value, list) and value:
            value[rng.randrange(len(value))] = new
        elif not isinstance(value, list):
            container[key] = new
    else:
        keys = {
            "expression": ("expr_str",),
            "name": ("name", "as_name"),
            "size": ("sizes", "strides", "dtype", "layout"),
        }
        held = paths(program, lambda name: name in keys.get(kind, (name,)))
        if held:
            container, key = rng.choice(held)
            container[key] = copy.deepcopy(rng.choice(EXPRESSIONS if kind == "expression" else SCALARS))


def mutate_tensors(table: Json, rng: random.Random) -> str:
    """Changes one thing of the table of stored tensors."""
    held = paths(table, lambda _: True)
    container, key = rng.choice(held)
    container[key] = copy.deepcopy(rng.choice((*SCALARS, {"as_int": rng.choice((-1, 0, 1, 2, 2**40))})))
    return "stored"


def mutated(seeds: list[dict[str, bytes]], rng: random.Random) -> tuple[bytes, str]:
    """A changed program, and how it was changed."""
    entries = dict(rng.choice(seeds))
    done = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        which = rng.choice((GRAPH, GRAPH, GRAPH, GRAPH, WEIGHTS))
        held = json.loads(entries[which])
        try:
            done.append(mutate_graph(held, rng) if which == GRAPH else mutate_tensors(held, rng))
        except (TypeError, LookupError, AttributeError):  # an earlier change left no such part
            continue
        entries[which] = json.dumps(held).encode()
    if rng.random() < 0.05:
        name = rng.choice(sorted(entries))
        data = bytearray(entries[name])
        if data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        entries[name] = bytes(data)
        done.append("bytes")
    return packed(entries), "+".join(done)


def run_in_fork(checked: CheckedProgram) -> int:
    """The wait status of a child that loads and runs a program: 0 for rows or a sentence."""
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(DEADLINE_S)
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
            restrict_process()
            _run(checked)
        except BaseException:  # noqa: BLE001 - whatever it is, it is counted
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def _run(checked: CheckedProgram) -> None:
    from skyfan.models.programs.module import ProgramModule

    torch.set_num_threads(1)
    try:
        ProgramModule(checked)(*(torch.from_numpy(values) for values in example_rows(checked)))
    except ModelError:
        return


def fuzz(executions: int, seed: int, run_every: int, keep: Path) -> Counter[str]:
    """What became of the programs; those that broke the promise are kept in a folder."""
    torch.manual_seed(0)
    seeds = [entries_of(small())] + [entries_of(export(make(), example)) for make, example in CORPUS.values()]
    rng = random.Random(seed)
    outcomes: Counter[str] = Counter()
    for at in range(executions):
        data, how = mutated(seeds, rng)
        began = time.process_time()  # not the wall clock: others may be at work
        try:
            checked = checked_program(data, "fuzzed.pt2")
            outcome = "passed"
            if run_every and outcomes["passed"] % run_every == 0:
                status = run_in_fork(checked)
                outcomes["run"] += 1
                outcome = "passed" if status == 0 else f"BAD: the run ended with status {status}"
        except ModelError as error:
            plain = str(error).isprintable() and str(error).isascii()
            outcome = "refused" if plain else "BAD: not a plain sentence"
        except Exception as error:  # noqa: BLE001 - whatever it is, it is counted
            outcome = f"BAD: {type(error).__name__} {error}"[:200]
        if time.process_time() - began > SLOW_S and outcome == "refused":
            outcome = "BAD: slow"
        outcomes[outcome] += 1
        if outcome.startswith("BAD"):
            path = keep / f"{seed}-{at}.pt2"
            path.write_bytes(data)
            print(f"{path}: {how}: {outcome}", flush=True)
    return outcomes


ALLOWED = sorted(allowed_operators())


def main() -> None:
    """Fuzzes and prints the figures; exit 1 if anything broke the promise."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--executions", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run-every", type=int, default=10)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    began = time.monotonic()
    keep = Path(tempfile.mkdtemp(prefix="skyfan-fuzz-"))
    outcomes = fuzz(asked.executions, asked.seed, asked.run_every, keep)
    print(f"{asked.executions:,} programs in {time.monotonic() - began:.0f} s, seed {asked.seed}: {dict(outcomes)}")
    sys.exit(any(name.startswith("BAD") for name in outcomes))


if __name__ == "__main__":
    main()
