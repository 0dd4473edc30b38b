"""The services: one domain core each, with a gRPC server and a Lambda handler around it."""
