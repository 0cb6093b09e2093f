"""The gRPC server around RewardService: its limits, health, reflection, ports and certificates."""

import socket

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from rewardhub.errors import ConfigError
from rewardhub.server.auth import Auth, parse_address
from rewardhub.server.certificates import Credentials
from rewardhub.server.gate import Gate
from rewardhub.server.metrics import DoorMetrics
from rewardhub.server.rpc import SERVICE, RewardService
from rewardhub.server.settings import BACKSTOP, ServerSettings

PING_S = 10.0
"""How often a caller may ask whether the connection lives, with no call or one that is quiet for long."""
ASK_S, ANSWER_S = 60.0, 20.0
"""When a quiet connection is asked whether its caller is still there, and how long it has for the answer."""
METADATA_BYTES = 2**15


class Health:
    """grpc.health.v1 for the whole server and for RewardService."""

    def __init__(self) -> None:
        self.servicer = health.aio.HealthServicer()  # type: ignore[attr-defined]

    async def show(self, serving: bool) -> None:
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in ("", SERVICE):
            await self.servicer.set(service, status)

    async def leave(self) -> None:
        """NOT_SERVING from now on."""
        await self.servicer.enter_graceful_shutdown()


def make_server(
    service: RewardService, shown: Health, auth: Auth, settings: ServerSettings, metrics: DoorMetrics
) -> grpc.aio.Server:
    """The server without a port."""
    limits = settings.limits
    options = [
        ("grpc.max_receive_message_length", limits.message_bytes),
        ("grpc.max_send_message_length", limits.message_bytes),
        ("grpc.so_reuseport", 0),
        ("grpc.max_concurrent_streams", BACKSTOP * limits.concurrency),
        # gRPC cancels what waits beyond these to be taken, without a word that it may come again.
        ("grpc.server.max_pending_requests", BACKSTOP * limits.concurrency),
        ("grpc.server.max_pending_requests_hard_limit", BACKSTOP * limits.concurrency + 1),
        # A connection needs no key: one that says nothing, or has no call, does not stay.
        ("grpc.max_allowed_incoming_connections", BACKSTOP * limits.concurrency),
        ("grpc.server_handshake_timeout_ms", 20_000),
        ("grpc.max_connection_idle_ms", 600_000),
        # A machine that lost its power closes nothing: its streams would be kept without end.
        ("grpc.keepalive_time_ms", int(ASK_S * 1000)),
        ("grpc.keepalive_timeout_ms", int(ANSWER_S * 1000)),
        ("grpc.http2.ping_timeout_ms", int(ANSWER_S * 1000)),
        # gRPC's own five minutes end the streams of callers that ask as often as networks between need it.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", int(PING_S * 1000)),
        # From 8 KiB on gRPC itself refuses some calls and not others, by chance.
        ("grpc.max_metadata_size", METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", METADATA_BYTES),
    ]
    gate = Gate(auth, service.inflight, limits, metrics)
    server = grpc.aio.server(
        interceptors=[gate], options=options, maximum_concurrent_rpcs=BACKSTOP * limits.concurrency
    )
    server.add_generic_rpc_handlers((service.handlers(),))
    health_pb2_grpc.add_HealthServicer_to_server(shown.servicer, server)
    reflection.enable_server_reflection((SERVICE, "grpc.health.v1.Health", reflection.SERVICE_NAME), server)
    return server


def add_port(server: grpc.aio.Server, address: str, credentials: Credentials | None) -> int:
    """The port that was bound; raises ``ConfigError`` where it cannot be."""
    try:
        if credentials is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, credentials.server)
    except (RuntimeError, OSError) as error:
        reason = _why_not(address) or str(error)
        raise ConfigError(f"grpc: gRPC cannot listen on {address}: {reason}", field="grpc") from None


def _why_not(address: str) -> str:
    """What is wrong with an address, which gRPC tells nobody but its log."""
    host, port = parse_address("grpc", address)
    try:
        family, kind, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.bind(place)
    except OSError as error:
        return str(error.strerror)
    return ""
