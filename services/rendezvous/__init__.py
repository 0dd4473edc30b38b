"""The rendezvous service: group membership, addresses and a relay for ranks that cannot accept connections."""
