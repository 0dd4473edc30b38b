"""`python -m services.aggregator`: the gRPC server."""

from services.aggregator.grpc_server import FULL_NAME, SERVICE, AggregatorServicer
from skyfan.rpc.main import run_server
from skyfan.v1.aggregator_pb2_grpc import add_AggregatorServicer_to_server


def main() -> None:
    """Serves until told to stop."""
    run_server(SERVICE, FULL_NAME, lambda server: add_AggregatorServicer_to_server(AggregatorServicer(), server))


if __name__ == "__main__":
    main()
