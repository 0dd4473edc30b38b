"""`python -m services.partitioner`: the gRPC server."""

from services.partitioner.grpc_server import FULL_NAME, SERVICE, PartitionerServicer
from skyfan.rpc.main import run_server
from skyfan.v1.partitioner_pb2_grpc import add_PartitionerServicer_to_server


def main() -> None:
    """Serves until told to stop."""
    run_server(SERVICE, FULL_NAME, lambda server: add_PartitionerServicer_to_server(PartitionerServicer(), server))


if __name__ == "__main__":
    main()
