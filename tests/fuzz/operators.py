"""Calls every operator that programs may call with hostile shapes, indices and numbers: none may end the process.

    python -m tests.fuzz.operators [--calls N] [--seed S]

Each operator has a child process of its own, so that a crash is charged to the operator that crashed.
"""

import argparse
import os
import random
import resource
import signal
import sys
import traceback
from collections import Counter

import torch

from skyfan.models.programs.checking import operator_schema
from skyfan.models.programs.operators import allowed_operators

BIG = 2**24
INTEGERS = (-BIG, -(2**16), -7, -2, -1, 0, 0, 1, 1, 1, 2, 2, 3, 4, 5, 7, 64, 2**16, BIG)
NUMBERS = (
    *INTEGERS,
    0.0,
    0.5,
    1.0,
    -1.5,
    1e-300,
    1e300,
    float("inf"),
    float("-inf"),
    float("nan"),
    True,
    2**63 - 1,
    -(2**63),
)
WORDS = (
    "same",
    "valid",
    "constant",
    "reflect",
    "replicate",
    "circular",
    "none",
    "tanh",
    "trunc",
    "floor",
    "ij",
    "left",
)
DTYPES = (
    (torch.float32,) * 6 + (torch.int64,) * 4 + (torch.float64, torch.bool, torch.int32, torch.uint8, torch.bfloat16)
)
MAX_VALUES, MEMORY_BYTES, DEADLINE_S = 2**22, 12 * 2**30, 120


def tensor(rng: random.Random, dimensions: int | None = None) -> torch.Tensor:
    """A small tensor: of any dtype and rank, sometimes empty, expanded or transposed, with hostile values."""
    rank = dimensions if dimensions is not None else rng.choice((0, 1, 1, 2, 2, 3, 3, 4, 4, 5))
    shape = [rng.choice((0, 1, 1, 2, 3, 3, 4, 4, 8)) for _ in range(rank)]
    dtype = rng.choice(DTYPES)
    if dtype in (torch.int64, torch.int32):
        limit = rng.choice((3, 3, 10, 2**31 - 2, 2**62 if dtype is torch.int64 else 2**30))
        found = torch.randint(-limit, limit, shape, dtype=dtype)
        if found.numel() and rng.random() < 0.2:
            found.view(-1)[0] = torch.iinfo(dtype).min
    else:
        found = (torch.randn(shape, dtype=torch.float32) * rng.choice((1, 1, 100, 1e30))).to(dtype)
        if found.numel() and found.is_floating_point() and rng.random() < 0.3:
            found.view(-1)[0] = rng.choice((float("nan"), float("inf"), -float("inf")))
    if rank > 1 and rng.random() < 0.2:
        found = found.transpose(0, 1)
    if rank and found.shape[0] and rng.random() < 0.1:
        found = found[:1].expand(*[3, *found.shape[1:]])
    return found


def value(kind: str, rng: random.Random) -> object:
    """A value of a type of a signature."""
    if kind.startswith("Optional["):
        return None if rng.random() < 0.4 else value(kind[len("Optional[") : -1], rng)
    if kind == "List[Tensor]":
        return [tensor(rng) for _ in range(rng.choice((0, 1, 2, 3, 4, 8)))]
    if kind == "List[Optional[Tensor]]":
        return [rng.choice((None, tensor(rng))) for _ in range(rng.choice((1, 1, 2, 3)))]
    if kind == "List[int]":
        return [rng.choice(INTEGERS) for _ in range(rng.choice((0, 1, 1, 2, 2, 3, 4, 6)))]
    if kind == "List[float]":
        return [rng.choice((0.5, 2.0, 0.0, -1.0, 1e-9, 1e7)) for _ in range(rng.choice((1, 2, 3)))]
    simple = {
        "Tensor": lambda: tensor(rng),
        "int": lambda: rng.choice(INTEGERS),
        "float": lambda: float(rng.choice(NUMBERS)),
        "number": lambda: rng.choice(NUMBERS),
        "bool": lambda: rng.random() < 0.5,
        "str": lambda: rng.choice((*WORDS, "ij,jk->ik", "bij,bjk", "i,i->", "ii->i", "...ij->...ji")),
        "ScalarType": lambda: rng.choice(DTYPES),
        "Layout": lambda: torch.strided,
        "MemoryFormat": lambda: rng.choice((torch.contiguous_format, torch.preserve_format, torch.channels_last)),
        "Device": lambda: torch.device("cpu"),
    }
    return simple[kind]() if kind in simple else None


def too_large(arguments: list[object]) -> bool:
    """Whether a call would only take memory: the sizes of new tensors are bounded by the check and by the child."""
    total = 1
    for item in arguments:
        for part in item if isinstance(item, list) else [item]:
            if isinstance(part, int | float) and not isinstance(part, bool) and 64 < abs(part) <= BIG:
                total *= abs(part)
    return total > MAX_VALUES


def hammer(target: str, calls: int, seed: int) -> Counter[str]:
    """Calls one operator; what became of the calls."""
    rng = random.Random(f"{target} {seed}")
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    schema = operator_schema(target)
    name, _, overload = target.removeprefix("torch.ops.aten.").partition(".")
    operator = getattr(getattr(torch.ops.aten, name), overload)
    outcomes: Counter[str] = Counter()
    for _ in range(calls):
        kinds = [(a.name, str(a.real_type), a.kwarg_only, a.has_default_value()) for a in schema.arguments]
        chosen = [(n, value(k, rng), only) for n, k, only, default in kinds if not (default and rng.random() < 0.3)]
        if too_large([held for _, held, _ in chosen]):
            continue
        try:
            with torch.inference_mode():
                operator(**{n: held for n, held, _ in chosen})
            outcomes["ran"] += 1
        except Exception as error:  # noqa: BLE001 - whatever it is, it is counted
            outcomes[type(error).__name__] += 1
    return outcomes


def hammer_in_child(target: str, calls: int, seed: int) -> int:
    """The wait status of a forked child that calls one operator: 0 where it survived."""
    child = os.fork()
    if child == 0:
        try:
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
            signal.alarm(DEADLINE_S)
            hammer(target, calls, seed)
        except BaseException:  # noqa: BLE001 - whatever it is, it is counted
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def main() -> None:
    """Prints the operators that crashed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="")
    asked = parser.parse_args()
    targets = [target for target in sorted(allowed_operators(random=True)) if asked.only in target]
    bad = 0
    for target in targets:
        status = hammer_in_child(target, asked.calls, asked.seed)
        if status:
            bad += 1
            print(f"{target}: {f'signal {status & 127}' if status & 127 else 'an error of the fuzzer'}", flush=True)
    print(f"{len(targets)} operators, {asked.calls} calls each, {bad} ended their process")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
