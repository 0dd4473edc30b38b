"""`python -m services.executor.job OUTPUT`: ranks of a planned run as a task of Batch, SageMaker or Kubernetes."""

import os
import signal


def main() -> None:
    """Computes this task's ranks; the exit code tells the scheduler whether another attempt is worth it."""
    # Until it computes, there is nothing to stop: a notice during the imports is a task to be tried again.
    signal.signal(signal.SIGTERM, lambda _signal, _frame: os._exit(75))
    from skyfan.serving.rank_job import main as rank_job

    rank_job()


if __name__ == "__main__":
    main()
