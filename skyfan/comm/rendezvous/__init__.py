"""The rendezvous server's core, without gRPC: groups, relayed messages, limits."""
