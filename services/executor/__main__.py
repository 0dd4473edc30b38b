"""`python -m services.executor`: the gRPC server."""

from skyfan.serving.executor import main

if __name__ == "__main__":
    main()
