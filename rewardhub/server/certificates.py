"""The certificates of both doors, which a reload exchanges: connections go on with what they began with."""

import contextlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from rewardhub.errors import ConfigError
from rewardhub.server.settings import Tls

_DATES = {9: "is not valid yet", 10: "has expired"}
"""OpenSSL's codes of certificates that every client refuses, whatever it trusts."""


@dataclass(frozen=True, slots=True)
class Certificates:
    """What the files hold at one moment, in the form of each door; ``asked`` is whether callers must show one too."""

    context: ssl.SSLContext
    grpc: grpc.ServerCertificateConfiguration
    asked: bool


class Credentials:
    """Those of the gRPC door. Who connects after :meth:`take` is shown what it was given."""

    def __init__(self, first: Certificates) -> None:
        self._next: grpc.ServerCertificateConfiguration | None = None
        fetch: Callable[[], Any] = self._fetch  # the stubs know no None
        self.server = grpc.dynamic_ssl_server_credentials(first.grpc, fetch, first.asked)

    def take(self, certificates: Certificates) -> None:
        self._next = certificates.grpc

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """What gRPC asks for before each handshake; None is no change."""
        found, self._next = self._next, None
        return found


def load(tls: Tls) -> Certificates:
    """Raises ``ConfigError`` naming the file that a server cannot use, and what was expected of it."""
    cert, key, client_ca = before = _read(tls)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(tls.cert, tls.key, password=_no_password)
    except _Encrypted:
        raise _unusable("key", f"{tls.key} is encrypted, expected a key without a password") from None
    except ssl.SSLError as error:
        mismatch = error.reason == "KEY_VALUES_MISMATCH"
        reason = "do not belong together" if mismatch else f"cannot be used: {error.reason or error}"
        raise _unusable("cert", f"{tls.cert} and server.tls.key: {tls.key} {reason}") from None
    _check_dates(tls, context)
    if client_ca is not None:
        try:
            context.load_verify_locations(tls.client_ca)
        except ssl.SSLError as error:
            raise _unusable("client_ca", f"{tls.client_ca} cannot be used: {error.reason or error}") from None
        context.verify_mode = ssl.CERT_REQUIRED
    if _read(tls) != before:
        raise _unusable("cert", f"{tls.cert}, or a file that goes with it, changed while it was read")
    told = grpc.ssl_server_certificate_configuration([(key, cert)], client_ca)
    return Certificates(context, told, asked=client_ca is not None)


class _Encrypted(Exception):
    pass


def _no_password() -> str:
    raise _Encrypted  # nobody is there to type one


def _read(tls: Tls) -> tuple[bytes, bytes, bytes | None]:
    client_ca = _pem("client_ca", tls.client_ca, b"CERTIFICATE") if tls.client_ca else None
    return _pem("cert", tls.cert, b"CERTIFICATE"), _pem("key", tls.key, b"PRIVATE KEY"), client_ca


def _pem(field: str, path: Path, kind: bytes) -> bytes:
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise _unusable(field, f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if kind + b"-----" not in data:
        raise _unusable(field, f"{path} holds no {kind.decode().lower()}, expected one in PEM")
    return data


def _check_dates(tls: Tls, served: ssl.SSLContext) -> None:
    """Raises ``ConfigError`` where a client that trusts this very certificate refuses it for its dates."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(tls.cert)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking, answering = client.wrap_bio(back, there), served.wrap_bio(there, back, server_side=True)
    try:
        for side in (asking, answering, asking):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    except ssl.SSLCertVerificationError as error:
        if error.verify_code in _DATES:
            raise _unusable("cert", f"{tls.cert} {_DATES[error.verify_code]}") from None


def _unusable(field: str, reason: str) -> ConfigError:
    return ConfigError(f"server.tls.{field}: {reason}", field=f"server.tls.{field}")
