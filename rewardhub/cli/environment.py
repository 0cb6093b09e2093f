"""What has to be set before gRPC is imported: its C core writes lines of its own about each failed handshake."""

import os

os.environ.setdefault("GRPC_VERBOSITY", "NONE")
