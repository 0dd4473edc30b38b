"""The two scripts that are given to sbatch: the ranks, and the aggregation that follows them."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from skyfan.backends.slurm.resources import TaskRequest, uses_gpu
from skyfan.backends.slurm.slurm_options import SlurmOptions
from skyfan.errors import RETRY_EXIT_CODE
from skyfan.job import Job

_NAME_LENGTH = 40


@dataclass(frozen=True, slots=True)
class Scripts:
    """Makes the scripts of one start; `job.output` is where the nodes see it, `logs` a folder that they share."""

    job: Job
    start: str
    options: SlurmOptions
    request: TaskRequest
    logs: str

    def ranks(self) -> str:
        """An array of which each task computes one or several ranks; or one job of tasks that share them."""
        options, request = self.options, self.request
        array = options.layout == "array"
        limit = f"%{self.job.workers}" if self.job.workers and self.job.workers < request.tasks else ""
        lines = [
            f"--array=0-{request.tasks - 1}{limit}" if array else f"--ntasks={request.tasks}",
            *(["--ntasks=1"] if array else []),
            f"--cpus-per-task={options.cpus_per_task}",
            f"--mem-per-cpu={request.memory_mb_per_cpu}M",
            f"--time={request.minutes}",
            "--requeue",
            *self._gpus(array=array),
        ]
        tasks = f" --tasks {request.tasks}" if array and request.tasks < request.ranks else ""
        command = f"{options.command} rank {self._run()}{tasks}"
        return _text(
            self._head("skyfan", lines, "%A_%a.log" if array else "%j.log"),
            [
                f"export SKYFAN_THREADS={options.cpus_per_task} SKYFAN_LOG_FORMAT=json",
                "# Signals reach what srun starts, and nothing else in this script.",
                f"srun --kill-on-bad-exit=0 {command}",
                "code=$?",
                *self._requeue(),
                'exit "$code"',
            ],
        )

    def aggregation(self) -> str:
        """One job that accounts for what the ranks committed, however they ended."""
        request = self.request
        lines = ["--ntasks=1", f"--mem={request.aggregator_memory_mb}M", f"--time={request.aggregator_minutes}"]
        command = f"exec {self.options.command} aggregate {self._run()} --quiet"
        return _text(self._head("skyfan-aggregate", lines, "%j_aggregate.log"), [command])

    def _run(self) -> str:
        return f"{shlex.quote(self.job.output)} --start {self.start}"

    def _head(self, name: str, lines: list[str], log: str) -> Iterator[str]:
        options = self.options
        stem = "".join(c if c.isascii() and c.isalnum() else "-" for c in PurePosixPath(self.job.output).name)
        yield "#!/bin/bash"
        yield f"#SBATCH --job-name={name}-{stem[:_NAME_LENGTH]}"
        for key in ("partition", "account", "qos"):
            if (value := getattr(options, key)) is not None:
                yield f"#SBATCH --{key}={value}"
        for line in (*lines, *options.sbatch):
            yield f"#SBATCH {line}"
        folder = self.logs.replace("%", "%%")
        yield f'#SBATCH --output="{folder}/{log}"'
        yield "#SBATCH --open-mode=append"
        if options.modules:
            yield f"module load {' '.join(options.modules)} || exit"
        yield from options.setup

    def _gpus(self, *, array: bool) -> list[str]:
        if not uses_gpu(self.job, self.options):
            return []
        if self.options.gres is not None:
            return [f"--gres={self.options.gres}"]
        return ["--gres=gpu:1"] if array else ["--gpus-per-task=1"]

    def _requeue(self) -> Iterator[str]:
        """Starts a task again that is worth it, or was killed; not one that the user or its time limit ended."""
        yield f'if [ "$code" -eq {RETRY_EXIT_CODE} ] || [ "$code" -gt 128 ]; then'
        yield f'  if [ "${{SLURM_RESTART_COUNT:-0}}" -lt {self.options.requeues} ]; then'
        yield '    state=$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T 2>/dev/null)'
        yield '    if [ -z "$state" ] || [ "$state" = RUNNING ]; then'
        yield "      for pause_s in 2 8 30; do"
        yield '        scontrol requeue "$SLURM_JOB_ID" && break'
        yield '        sleep "$pause_s"'
        yield "      done"
        yield "    fi"
        yield "  fi"
        yield "fi"


def _text(head: Iterator[str], body: list[str]) -> str:
    return "\n".join([*head, *body]) + "\n"
