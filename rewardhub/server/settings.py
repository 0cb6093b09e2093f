"""What an operator sets about the doors."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Scope = Literal["score", "media", "metrics", "admin"]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ApiKey(_Settings):
    """A key, known by the SHA-256 of its bytes (lower-case hex); ``admin`` includes every scope."""

    key_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    tenant: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")
    scopes: frozenset[Scope] = frozenset({"score", "media"})


BACKSTOP = 4
"""Connections, and calls that need no key, that may come on top of the limit of calls, as a multiple of it."""


class Limits(_Settings):
    """Bytes of a REST body, of a gRPC message and of all uploads in flight; groups and responses of one request; calls
    at once per door; seconds that a body or the one message of a gRPC call may take. Of the calls and of the bytes in
    flight one tenant has some seven eighths at most.
    """

    body_bytes: int = Field(default=32 * 2**20, gt=0)
    message_bytes: int = Field(default=4 * 2**20, ge=2**16, lt=2**31)
    inflight_bytes: int = Field(default=512 * 2**20, gt=0)
    groups: int = Field(default=10_000, gt=0)
    responses: int = Field(default=100_000, gt=0)
    concurrency: int = Field(default=1_200, gt=0, le=1_000_000)
    body_s: float = Field(default=60.0, gt=0)


class Quota(_Settings):
    """What one tenant may ask for per second on average, and programs it may have in the sandbox at once; 0 is no
    quota. Tokens are the trainer's count.
    """

    requests_per_s: float = Field(default=0.0, ge=0)
    responses_per_s: float = Field(default=0.0, ge=0)
    tokens_per_s: float = Field(default=0.0, ge=0)
    sandboxes: int = Field(default=0, ge=0)


class Tls(_Settings):
    """PEM files for both doors; with ``client_ca`` a caller must show a certificate signed by it."""

    cert: Path
    key: Path
    client_ca: Path | None = None


class ServerSettings(_Settings):
    keys: tuple[ApiKey, ...] = ()
    limits: Limits = Limits()
    tls: Tls | None = None
    quotas: dict[str, Quota] = Field(default_factory=dict, description="by tenant")

    @model_validator(mode="after")
    def _consistent(self) -> "ServerSettings":
        if len({key.key_sha256 for key in self.keys}) != len(self.keys):
            raise ValueError("two keys have the same key_sha256")
        unknown = self.quotas.keys() - {key.tenant for key in self.keys}
        if unknown:
            raise ValueError(f"quotas name tenants that no key has: {', '.join(sorted(unknown))}")
        return self
