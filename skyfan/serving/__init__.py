"""What the servers share: gRPC servicers, Lambda dispatch, health, tokens."""
