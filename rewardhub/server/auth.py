"""Who may call what. Deny by default: a route or method without an entry here does not start.

Keys are compared by their hashes, all of them, in constant time. Without keys every caller is the
nameless tenant with every scope, and the doors may only be reached from the same machine.
"""

import base64
import hashlib
import hmac
import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rewardhub.errors import ConfigError, Forbidden, Unauthenticated
from rewardhub.server.settings import ApiKey, Scope, ServerSettings

OPEN_ROUTES = frozenset({"/healthz", "/readyz"})
OPEN_METHODS = frozenset({"/grpc.health.v1.Health/Check"})
SCOPES: dict[str, Scope | None] = {
    "/v1/score": "score",
    "/v1/score/stream": "score",
    "/v1/scorers": "score",
    "/v1/chat/completions": "score",
    "/v1/media": "media",
    "/run_code": "score",
    "/submit": "score",
    "/submit_batch": "score",
    "/openrlhf/get_reward": "score",
    "/slime/reward": "score",
    "/verify": "score",
    "/seed_session": None,
    "/v1/models": None,
    "/v1/ping": None,
    "/v1/reload": "admin",
    "/metrics": "metrics",
    "/docs": None,
    "/openapi.json": None,
    "/rewardhub.v1.RewardService/Score": "score",
    "/rewardhub.v1.RewardService/ScoreStream": "score",
    "/rewardhub.v1.RewardService/ListScorers": "score",
    "/rewardhub.v1.RewardService/PutMedia": "media",
}
"""The scope that each route and gRPC method needs; None is any key."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom a key belongs to; ``key_id`` is the part of its hash that logs may show."""

    tenant: str
    scopes: frozenset[str]
    key_id: str = ""

    def require(self, scope: str | None) -> None:
        """Raises ``Forbidden`` where the key lacks the scope."""
        if scope is not None and scope not in self.scopes and "admin" not in self.scopes:
            raise Forbidden(f"this key lacks the scope {scope!r}")


ANYONE = Caller("", frozenset({"admin"}))


class Auth:
    """The configured keys."""

    def __init__(self, keys: Sequence[ApiKey] = ()) -> None:
        self.take(keys)

    def take(self, keys: Sequence[ApiKey]) -> None:
        """Knows these keys from now on and no others; calls and streams that began go on."""
        self._callers = [
            (key.key_sha256, Caller(key.tenant, frozenset(key.scopes), key.key_sha256[:8])) for key in keys
        ]

    @property
    def keyless(self) -> bool:
        return not self._callers

    def caller(self, headers: Iterable[tuple[str, str]]) -> Caller:
        """The caller of these lower-case headers; raises ``Unauthenticated`` without a known key."""
        if self.keyless:
            return ANYONE
        key = _presented(headers)
        if not key:
            raise Unauthenticated("a key is needed: Authorization: Bearer KEY, x-api-key: KEY, or http://hub:KEY@…")
        digest = hashlib.sha256(key.encode("latin-1", "replace")).hexdigest()
        found = None
        for known, caller in self._callers:
            if hmac.compare_digest(known, digest):
                found = caller
        if found is None:
            raise Unauthenticated("this key is not known")
        return found


def _presented(headers: Iterable[tuple[str, str]]) -> str:
    plain = ""
    for name, value in headers:
        if name == "authorization" and value[:7].lower() == "bearer ":
            return value[7:].strip()
        if name == "authorization" and value[:6].lower() == "basic ":
            return _password(value[6:])
        if name == "x-api-key":
            plain = value.strip()
    return plain


def _password(credentials: str) -> str:
    """Of ``http://hub:KEY@host/…``: trainers that know of nothing but an address send a key so."""
    try:
        return base64.b64decode(credentials, validate=True).partition(b":")[2].decode("latin-1")
    except ValueError:
        return ""


def parse_address(field: str, address: str) -> tuple[str, int]:
    """Host and port of ``127.0.0.1:8080`` or ``[::1]:0``; raises ``ConfigError`` that names the field."""
    host, _, port = address.rpartition(":")
    bare = host[1:-1] if host[:1] == "[" and host[-1:] == "]" else host
    if not bare or (":" in bare and bare is host) or "/" in bare or not port.isdecimal() or int(port) > 65_535:
        reason = f"{address!r} is no address; expected HOST:PORT, an IPv6 host in brackets"
        raise ConfigError(f"{field}: {reason}", field=field)
    return bare, int(port)


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def check_addresses(settings: ServerSettings, **addresses: str) -> ServerSettings:
    """The settings; raises ``ConfigError`` for what is no address, and for one that other machines reach while no key
    is configured.
    """
    for field, address in addresses.items():
        host, _ = parse_address(field, address)
        if not settings.keys and not is_loopback(host):
            reason = f"{address} is reachable from other machines: configure keys, or bind to 127.0.0.1"
            raise ConfigError(f"{field}: {reason}", field=field)
    return settings
