"""`python -m services.aggregator`: the gRPC server."""

from skyfan.serving.aggregator import main

if __name__ == "__main__":
    main()
