"""Which addresses media may be fetched from. One expression reads a URL, and what it read is what is connected to.

Refused whatever the operator lists: other schemes than HTTP, names of users, backslashes, numbers that some
parsers take for an IPv4 address (``0x7f.1``, ``2130706433``, ``0177.0.0.1``), and every address that is not
globally reachable unicast (RFC 6890; IPv6: 2000::/3 less what carries or maps another address). An operator's
``networks`` are the only exception.
"""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass

from rewardhub.errors import ConfigError, InvalidInput

MAX_CHARS = 2_048
PORTS = {"http": 80, "https": 443}
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9a-f:.]+\]|[a-z0-9.-]+)(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>(?:[/?][!-\"$-\[\]-~]*)?)(?:#[!-\[\]-~]*)?",
    re.IGNORECASE | re.ASCII,
)
_PATTERN = re.compile(r"\*|(\*\.)?[a-z0-9-]+(\.[a-z0-9-]+)*|\[[0-9a-f:]+\]")
_GLOBAL_V6 = ipaddress.ip_network("2000::/3")
_NOT_PUBLIC = tuple(
    ipaddress.ip_network(each)
    for each in (
        "192.0.0.0/24",  # of which some Pythons know but a part; a cloud's metadata are at 192.0.0.192
        "168.63.129.16/32",  # public in form, another cloud's inner services in fact
        "192.88.99.0/24", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes: a lower-case ``host`` (an IPv6 address without brackets), and ``path`` with its query."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def address(self) -> Address | None:
        """The address where the host is one."""
        try:
            return ipaddress.ip_address(self.host)
        except ValueError:
            return None

    @property
    def origin(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def parse(url: str) -> Target:
    """The target of a URL; raises ``InvalidInput`` for one that is not plain ``http://host[:port]/path``."""
    found = _URL.fullmatch(url) if len(url) <= MAX_CHARS else None
    if found is None:
        raise InvalidInput("not an address of the form http(s)://host/path, of printable ASCII and without a user")
    scheme, host = found["scheme"].lower(), found["host"].lower().removesuffix(".")
    port = int(found["port"] or PORTS[scheme])
    path = found["path"] if found["path"].startswith("/") else f"/{found['path']}"
    target = Target(scheme, host.strip("[]"), port, path)
    last = target.host.rpartition(".")[2]
    number = last.isdigit() or last.startswith("0x") or host.startswith("[")
    if not target.host or not 0 < port < 65_536 or (number and target.address is None):
        raise InvalidInput(f"{host[:80]!r} is no host that can be told apart from others")
    return target


class Policy:
    """``hosts`` are names, ``*.`` and a name for what lies below it, or ``*`` for every public host.

    ``networks`` in CIDR form may be reached although they are not public, on any port. Raises ``ConfigError``.
    """

    def __init__(self, hosts: Sequence[str], networks: Sequence[str] = ()) -> None:
        wrong = next((each for each in hosts if not _PATTERN.fullmatch(each)), None)
        if wrong is not None:
            raise ConfigError(f"{wrong!r} is no host, *.host or *", field="media_fetch")
        self._exact = {each.strip("[]") for each in hosts}
        self._below = tuple(each[1:] for each in hosts if each.startswith("*."))
        try:
            self._networks: tuple[Network, ...] = tuple(ipaddress.ip_network(each) for each in networks)
        except ValueError as error:
            raise ConfigError(f"{error}", field="media_fetch_networks") from None

    def check_host(self, target: Target) -> None:
        """Raises ``InvalidInput`` for a host that the operator does not list."""
        known = "*" in self._exact or target.host in self._exact or target.host.endswith(self._below or ("\0",))
        if not known:
            raise InvalidInput(f"this hub fetches nothing from {target.host!r}")

    def check_address(self, address: str, port: int) -> None:
        """Raises ``InvalidInput`` for an address that is not public, and for other ports than 80 and 443."""
        ip = ipaddress.ip_address(address)
        if any(ip in network for network in self._networks):
            return
        if not is_public(ip) or port not in PORTS.values():
            raise InvalidInput("the host has no public address, or the port is not 80 or 443")


def is_public(ip: Address) -> bool:
    """Whether the address is globally reachable unicast and stands for no other address."""
    if ip.is_multicast or ip.is_reserved or not ip.is_global or any(ip in network for network in _NOT_PUBLIC):
        return False
    return ip.version == 4 or ip in _GLOBAL_V6
