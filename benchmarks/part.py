"""What all parts of `make bench` have in common: their options, their inputs, and where results go."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.measure import SAMPLES_OF_100_MB, machine

ROOT = Path(__file__).parents[1]
TIME_LIMIT_S = 900
BUSY = 1.5

Found = dict[str, Any]


@dataclass(frozen=True)
class Options:
    """`samples`: of the partition that stands for 100 MB; `rounds`: at most so many, None for the part's own."""

    samples: int
    rounds: int | None
    results: Path

    def at_most(self, rounds: int) -> int:
        """The part's own number of rounds, or fewer."""
        return rounds if self.rounds is None else min(rounds, self.rounds)


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options that every part takes, so that `make bench ARGS=…` reaches all of them."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--samples", type=int, default=SAMPLES_OF_100_MB, help="of one partition (default: 100 MB)")
    made.add_argument("--rounds", type=int, help="fewer rounds, for a trial")
    made.add_argument("--results", type=Path, default=Path(__file__).parent / "results", help="folder to write to")
    return made


def options_of(arguments: argparse.Namespace) -> Options:
    """What `parser` understood."""
    return Options(arguments.samples, arguments.rounds, arguments.results)


def with_machine(measure: Callable[[], Found]) -> Found:
    """What `measure` finds, with the machine and its load before and after."""
    before, began = machine(), time.perf_counter()
    found = measure()
    return {
        "taken": datetime.now(UTC).isoformat(timespec="seconds"),
        "took_s": round(time.perf_counter() - began, 1),
        "machine": before | {"load_average_after": machine()["load_average"]},
        **found,
    }


@contextmanager
def inputs(samples: int) -> Iterator[Path]:
    """A folder with data, models and reference outputs; gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="skyfan-bench-") as folder:
        make = [sys.executable, "-m", "benchmarks.inputs", folder, "--samples", str(samples)]
        subprocess.run(make, cwd=ROOT, check=True, timeout=TIME_LIMIT_S)
        yield Path(folder)


def last_line(command: list[str], environment: Mapping[str, str] | None = None) -> Found:
    """What the command printed last, a JSON object; its error output where it fails."""
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=TIME_LIMIT_S, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    result: Found = json.loads(done.stdout.strip().splitlines()[-1])
    return result


@contextmanager
def bytecode() -> Iterator[dict[str, str]]:
    """An environment whose second process and all after it find all modules compiled, as in an image."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory(prefix="skyfan-bytecode-") as folder:
        yield kept | {"PYTHONPYCACHEPREFIX": folder}


def heading(found: Found, title: str, about: str) -> list[str]:
    """Title, machine, versions, and a warning where other work ran beside."""
    where = found["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    load = max(where["load_average"], where["load_average_after"])
    lines = [
        f"# {title}",
        "",
        f"{found['taken']}, {found['took_s']:.0f} s. {where['cpu']}, {where['cores']} cores, {where['system']}, Python "
        f"{where['python']}; {versions}. Load average {where['load_average']:.1f} before, "
        f"{where['load_average_after']:.1f} after. {about}",
        "",
    ]
    if where["load_average"] > BUSY or load > 2 * BUSY * where["cores"]:
        lines += [
            f"**Other work ran on the machine (load average {load:.1f} on {where['cores']} cores): absolute rates mean "
            "little; compare ratios, and rates by CPU second.**",
            "",
        ]
    return lines


def save(options: Options, name: str, found: Found, text: str) -> None:
    """`<name>.json` and `<name>.md`, and the text on the terminal."""
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
    (options.results / f"{name}.md").write_text(text)
    print(text)
