"""Generated gRPC stubs (`make protos`)."""
