"""`python -m services.rendezvous`: the gRPC server."""

from skyfan.serving.rendezvous import main

if __name__ == "__main__":
    main()
