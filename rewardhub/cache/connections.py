"""Connections to one Redis server, which no call makes for itself.

What a call may take says nothing of how long a connection takes to be made: a name is looked up, TLS agreed on, a
password sent. So connections are made one after the other, each for whoever asks next, and none ends with a call that
did not wait for it. One that served a call which failed is not used again: what comes on it may answer another call.
"""

import asyncio
import logging
import socket
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import hiredis
from redis.asyncio import ConnectionPool

from rewardhub.cache.link import Link, NotRedis, Refused
from rewardhub.errors import ConfigError

CONNECT_S = 2.0
"""What a connection takes at most, once its server's name is looked up."""
MOST = 16
TOLD_S, MOST_TOLD = 60.0, 8
"""How often one kind of trouble is written to the log, and how many kinds in that time."""
MOST_WORDS = 120
CLUSTER = frozenset({"MOVED", "ASK", "CROSSSLOT", "CLUSTERDOWN", "TRYAGAIN"})
_log = logging.getLogger("rewardhub.cache")


class Connections:
    """At most ``MOST`` connections to the server of ``url``, which raises ``ConfigError`` where it is none."""

    def __init__(self, url: str) -> None:
        try:
            pool: Any = ConnectionPool.from_url(url)
            self._stated = pool.make_connection()  # which is never connected, but has read all that the URL says
        except (TypeError, ValueError):  # whose words may quote a part of the password
            reason = "redis: no usable URL; expected redis://host:port/db, rediss://… or unix://…"
            raise ConfigError(reason, field="redis") from None
        self._idle: list[Link] = []
        self._busy: set[Link] = set()
        self._waiting: deque[asyncio.Future[Link]] = deque()
        self._opening: asyncio.Task[None] | None = None
        self._told: dict[str, float] = {}
        self.made = False
        """Whether the server was ever reached."""

    async def ask(self, commands: Sequence[bytes], within_s: float) -> list[Any]:
        """The replies to packed commands, :class:`Refused` in the place of one.

        Raises what went wrong with the connection, ``TimeoutError`` after ``within_s`` seconds.
        """
        async with asyncio.timeout(within_s):
            link = await self._take()
            try:
                return await link.ask(commands)
            finally:
                self._give(link)

    def drop(self) -> None:
        """Leaves every connection, so that the next goes to whatever answers under the server's name by then."""
        for link in self._idle:
            link.end()
        self._idle.clear()
        self._busy.clear()

    def begin(self) -> None:
        """Makes the first connection, if there is none, for nobody yet."""
        if not self._idle:
            self._waiting.append(asyncio.get_running_loop().create_future())
            self._waiting[-1].add_done_callback(self._begun)
            self._open()

    def tell(self, error: BaseException) -> None:
        """Writes to the log what went wrong, the same once in ``TOLD_S`` seconds."""
        text, now = self._reason(error), time.monotonic()
        self._told = {known: at for known, at in self._told.items() if now - at < TOLD_S}
        if text not in self._told and len(self._told) < MOST_TOLD:
            self._told[text] = now
            _log.warning("redis: %s", text)

    async def aclose(self) -> None:
        if self._opening:
            self._opening.cancel()
            await asyncio.wait({self._opening})
        self._refuse(ConnectionError("closed"))
        self.drop()

    def _begun(self, first: asyncio.Future[Link]) -> None:
        if not first.cancelled() and not first.exception():
            self._give(first.result())

    def _reason(self, error: BaseException) -> str:
        """What went wrong; of the server's words none that may quote a password."""
        if isinstance(error, OSError) and error.args:
            return f"{type(error).__name__}: {error.strerror or error}"
        if not isinstance(error, (Refused, NotRedis)):
            return type(error).__name__
        if isinstance(error, Refused) and error.code in CLUSTER:
            return "this is a cluster, which is not spoken to: expected one server, or a proxy before it"
        words, secret = str(error).split(", with args")[0][:MOST_WORDS], self._stated.password or ""
        if words == "ERR unknown command 'MGET'":
            words += ": it is no server of Redis that keeps values; is it a Sentinel?"
        return f"{type(error).__name__}" if secret and secret in words else f"{type(error).__name__}: {words}"

    async def _take(self) -> Link:
        while self._idle:
            link = self._idle.pop()
            if link.usable:
                self._busy.add(link)
                return link
        waiting: asyncio.Future[Link] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        self._open()
        try:
            return await waiting
        except asyncio.CancelledError:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
            elif not waiting.cancelled() and not waiting.exception():
                self._give(waiting.result())
            raise

    def _give(self, link: Link) -> None:
        dropped = link not in self._busy
        self._busy.discard(link)
        if dropped or not link.usable:
            link.end()
            self._open()
        else:
            self._hand(link)

    def _hand(self, link: Link) -> None:
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                self._busy.add(link)
                waiting.set_result(link)
                return
        self._idle.append(link)

    def _open(self) -> None:
        if self._opening is None and self._waiting and len(self._busy) < MOST:
            self._opening = asyncio.get_running_loop().create_task(self._opened())

    async def _opened(self) -> None:
        try:
            while self._waiting and len(self._busy) < MOST:
                self._hand(await self._connected())
        except Exception as error:
            self.tell(error)
            self._refuse(error)
        finally:
            self._opening = None

    async def _connected(self) -> Link:
        loop, stated = asyncio.get_running_loop(), self._stated
        context = getattr(stated, "ssl_context", None)
        tls = await asyncio.to_thread(context.get) if context else None  # reads certificates
        if host := getattr(stated, "host", ""):
            # without an end: a thread that looks up a name cannot be called back, and must not be joined by others
            await loop.getaddrinfo(host, stated.port)
        async with asyncio.timeout(CONNECT_S):
            if host:
                transport, link = await loop.create_connection(Link, host, stated.port, ssl=tls)
                _keep_alive(transport, stated)
            else:
                _, link = await loop.create_unix_connection(Link, stated.path)
            await self._greet(link)
        self.made = True
        return link

    async def _greet(self, link: Link) -> None:
        """Says who this is and which database it uses. Nothing else is agreed on: every server speaks RESP2."""
        stated, greetings = self._stated, []
        if stated.username or stated.password:
            names = [stated.username] if stated.username else []
            greetings.append(packed("AUTH", *names, stated.password or ""))
        if stated.db:
            greetings.append(packed("SELECT", stated.db))
        if stated.client_name:
            greetings.append(packed("CLIENT", "SETNAME", stated.client_name))
        for reply in await link.ask(greetings) if greetings else ():
            if reply != b"OK":
                link.end()
                raise reply if isinstance(reply, Refused) else NotRedis("a reply to something else")

    def _refuse(self, error: Exception) -> None:
        waiting, self._waiting = self._waiting, deque()
        for each in waiting:
            if not each.done():
                each.set_exception(error)


def _keep_alive(transport: asyncio.Transport, stated: Any) -> None:
    """Has the kernel say now and then that it is there: what lies between forgets connections that are silent."""
    sock = transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(stated.socket_keepalive))
    for option, value in (stated.socket_keepalive_options or {}).items():
        sock.setsockopt(socket.IPPROTO_TCP, option, value)


def packed(name: str, *args: Any) -> bytes:
    """A command as the server reads it."""
    command: bytes = hiredis.pack_command((name, *args))
    return command
