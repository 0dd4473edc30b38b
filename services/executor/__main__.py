"""`python -m services.executor`: the gRPC server."""

import os

from services.executor.grpc_server import FULL_NAME, SERVICE, ExecutorServicer
from services.executor.model_cache import ModelCache
from skyfan.errors import BadInput
from skyfan.rpc.main import run_server
from skyfan.v1.executor_pb2_grpc import add_ExecutorServicer_to_server

THREADS_VARIABLE = "SKYFAN_THREADS"


def threads_from_environment() -> int:
    """`SKYFAN_THREADS`, or the processors that this process may use."""
    text = os.environ.get(THREADS_VARIABLE, "")
    if not text:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not text.isdigit() or int(text) < 1:
        raise BadInput(f"{THREADS_VARIABLE} is {text!r}; give a number of threads, at least 1.")
    return int(text)


def main() -> None:
    """Serves until told to stop."""
    run_server(
        SERVICE,
        FULL_NAME,
        lambda server: add_ExecutorServicer_to_server(
            ExecutorServicer(ModelCache(threads=threads_from_environment())), server
        ),
    )


if __name__ == "__main__":
    main()
