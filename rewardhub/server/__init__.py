"""The doors: REST and gRPC over one hub, with keys, limits, health, metrics and drain."""
