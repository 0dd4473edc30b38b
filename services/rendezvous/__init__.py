"""The rendezvous service: where ranks that cannot accept connections meet."""
