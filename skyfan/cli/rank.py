"""`skyfan rank`: one task of any scheduler's array."""

from typing import Annotated

import typer

from skyfan.cli import options


def rank(
    output: Annotated[str, typer.Argument(metavar="RUN", help="The folder of a planned run (path or URI).")],
    index: Annotated[
        int | None, typer.Option(help="This rank; by default those of the scheduler's task that this is.", min=0)
    ] = None,
    start: options.Start = None,
    tasks: Annotated[
        int | None, typer.Option(help="The array's length N, where each task computes every N-th rank.", min=1)
    ] = None,
) -> None:
    """Compute one rank of a run that `skyfan plan --write` has planned; safe to run twice, and in any order.

    Its position comes from Slurm, AWS Batch, SageMaker or Kubernetes. Exit codes: 0 done, 2 bad input, 4 failed,
    75 worth another try, also after SIGTERM. The run's folder has the reason of each failure.
    """
    # Loads engines, which other commands do not need.
    from skyfan.serving.rank_job import run_rank_job

    raise typer.Exit(run_rank_job(output, index=index, start=start, tasks=tasks))
