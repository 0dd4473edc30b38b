"""Slurm's own commands: submit, look, cancel. No accounting database is asked."""

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from skyfan.errors import BadInput, SkyfanError, Transient

COMMANDS = ("sbatch", "squeue", "scontrol", "scancel")
# Slurm's default; "MaxArraySize", slurm.conf(5) of 22.05: the largest index is one less.
DEFAULT_MAX_ARRAY_SIZE = 1001
_COMMAND_DEADLINE_S = 120.0
# What squeue says of jobs that ended more than MinJobAge ago.
_UNKNOWN_JOB = "Invalid job id"
# What every command says when the controller does not answer.
_UNREACHABLE = re.compile(r"Unable to contact|Connection refused|Connection timed out|Socket timed out|Zero Bytes")


@dataclass(frozen=True, slots=True)
class Queued:
    """Tasks of a job that have not ended, by state (`PENDING`, `RUNNING`, …), and why one of them waits."""

    states: Counter[str]
    reason: str = ""

    @property
    def ended(self) -> bool:
        """No task is left."""
        return not self.states


def require_slurm() -> None:
    """Refuses a machine without Slurm's commands.

    Raises:
        BadInput: one is missing; the sentence tells what goes without.
    """
    missing = [name for name in COMMANDS if shutil.which(name) is None]
    if missing:
        raise BadInput(
            f"--on slurm needs {', '.join(missing)}, which this machine does not have: run it on a login node of the "
            "cluster, or write the scripts with --dry-run."
        )


def max_array_size() -> int:
    """How many tasks an array may have here.

    Raises:
        Transient: the controller does not answer.
    """
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", _run(["scontrol", "show", "config"]), re.MULTILINE)
    return int(found[1]) if found else DEFAULT_MAX_ARRAY_SIZE


def submit(script: str, *options: str) -> str:
    """Gives a script to sbatch; the job's ID.

    Raises:
        BadInput: Slurm refuses it; the sentence is Slurm's.
        Transient: the controller does not answer.
    """
    said = _run(["sbatch", "--parsable", *options], script, refusal=BadInput)
    return said.strip().split(";")[0]


def look(job_id: str) -> Queued:
    """The job's tasks that are left.

    Raises:
        Transient: the controller does not answer.
    """
    try:
        said = _run(["squeue", "--noheader", "--array", f"--jobs={job_id}", "--format=%T|%r"])
    except SkyfanError as error:
        if _UNKNOWN_JOB in str(error):
            return Queued(Counter())
        raise
    pairs = [line.split("|", 1) for line in said.splitlines() if "|" in line]
    waiting = [reason for state, reason in pairs if state == "PENDING" and reason != "None"]
    return Queued(Counter(state for state, _ in pairs), waiting[0] if waiting else "")


def cancel(job_ids: Sequence[str]) -> None:
    """Ends the jobs; no error where they have ended already."""
    _run(["scancel", *job_ids])


def _run(words: Sequence[str], given: str = "", *, refusal: type[SkyfanError] = SkyfanError) -> str:
    try:
        done = subprocess.run(  # noqa: S603 (Slurm's own commands, and no shell)
            words, input=given, capture_output=True, text=True, timeout=_COMMAND_DEADLINE_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise Transient(f"{words[0]} gave no answer for {_COMMAND_DEADLINE_S:.0f} s.") from error
    if done.returncode == 0:
        return done.stdout
    said = "; ".join(done.stderr.split("\n")).strip("; ") or f"exit code {done.returncode}"
    raise (Transient if _UNREACHABLE.search(said) else refusal)(f"{words[0]} failed: {said}.")
