"""The rendezvous server's state, without gRPC: groups, relayed messages, limits."""
