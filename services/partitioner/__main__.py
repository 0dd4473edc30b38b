"""`python -m services.partitioner`: the gRPC server."""

from skyfan.serving.partitioner import main

if __name__ == "__main__":
    main()
