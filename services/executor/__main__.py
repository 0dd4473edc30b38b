"""`python -m services.executor`: the gRPC server."""

from services.executor.device import available_device
from services.executor.grpc_server import FULL_NAME, SERVICE, ExecutorServicer
from services.executor.model_cache import ModelCache
from services.executor.threads import available_threads
from skyfan.rpc.main import run_server
from skyfan.v1.executor_pb2_grpc import add_ExecutorServicer_to_server


def main() -> None:
    """Serves until told to stop."""
    run_server(
        SERVICE,
        FULL_NAME,
        lambda server: add_ExecutorServicer_to_server(
            ExecutorServicer(ModelCache(threads=available_threads(), device=available_device())), server
        ),
    )


if __name__ == "__main__":
    main()
