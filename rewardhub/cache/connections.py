"""Connections to one Redis server, which no call makes for itself.

What a call may take says nothing of how long a connection takes to be made: a name is looked up, TLS agreed on, a
password sent. So connections are made one after the other, each for whoever asks next, and none ends with a call that
did not wait for it. One that served a call which failed is not used again: what comes on it may answer another call.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import hiredis
from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from rewardhub.errors import ConfigError

CONNECT_S = 2.0
"""What a connection takes at most, once its server's name is looked up."""
MOST = 16
TOLD_S = 60.0
"""How often one kind of trouble is written to the log."""
MOST_TOLD = 120
_log = logging.getLogger("rewardhub.cache")


class Connections:
    """At most ``MOST`` connections to the server of ``url``, which raises ``ConfigError`` where it is none."""

    def __init__(self, url: str) -> None:
        try:
            self._pool: Any = ConnectionPool.from_url(url)
            self._make()  # connects to nothing yet, but has read all that the URL says
        except (TypeError, ValueError):  # whose words may quote a part of the password
            reason = "redis: no usable URL; expected redis://host:port/db, rediss://… or unix://…"
            raise ConfigError(reason, field="redis") from None
        self._idle: list[Any] = []
        self._busy: set[Any] = set()
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._opening: asyncio.Task[None] | None = None
        self._told: dict[str, float] = {}

    async def ask(self, commands: Sequence[bytes], within_s: float) -> list[Any]:
        """The replies to packed commands, an error of the server in the place of its reply.

        Raises what went wrong with the connection, ``TimeoutError`` after ``within_s`` seconds.
        """
        async with asyncio.timeout(within_s):
            connection = await self._take()
            replies: list[Any] = []
            try:
                await connection.send_packed_command(commands, check_health=False)
                while len(replies) < len(commands):
                    try:
                        replies.append(await connection.read_response())
                    except ResponseError as error:
                        replies.append(error)
            finally:
                self._give(connection, len(replies) == len(commands))
            return replies

    def drop(self) -> None:
        """Leaves every connection, so that the next goes to whatever answers under the server's name by then."""
        for connection in self._idle:
            _end(connection)
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
        if now - self._told.get(text, -TOLD_S) >= TOLD_S:
            self._told[text] = now
            _log.warning("redis: %s", text)

    async def aclose(self) -> None:
        if self._opening:
            self._opening.cancel()
            await asyncio.wait({self._opening})
        self._refuse(ConnectionError("closed"))
        self.drop()

    def _begun(self, first: asyncio.Future[Any]) -> None:
        if not first.cancelled() and not first.exception():
            self._give(first.result(), True)

    def _reason(self, error: BaseException) -> str:
        """What went wrong; of the server's words none that may quote a password."""
        cause = error if isinstance(error, OSError) else error.__context__
        if isinstance(cause, OSError) and cause.args:
            return f"{type(cause).__name__}: {cause.strerror or cause}"
        words = str(error).split(", with args")[0][:MOST_TOLD] if isinstance(error, RedisError) else ""
        secret = self._pool.connection_kwargs.get("password") or ""
        return type(error).__name__ + (f": {words}" if words and not (secret and secret in words) else "")

    def _make(self) -> Any:
        """A connection without a socket. RESP2 is all that is needed, and every server speaks it."""
        ours = {
            "socket_timeout": CONNECT_S, "socket_connect_timeout": CONNECT_S, "retry": Retry(NoBackoff(), 0),
            "protocol": 2, "decode_responses": False,
        }  # fmt: skip
        return self._pool.connection_class(**{**self._pool.connection_kwargs, **ours})

    async def _take(self) -> Any:
        while self._idle:
            connection = self._idle.pop()
            if await _usable(connection):
                self._busy.add(connection)
                return connection
            _end(connection)
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        self._open()
        try:
            return await waiting
        except asyncio.CancelledError:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
            elif not waiting.cancelled() and not waiting.exception():
                self._give(waiting.result(), True)
            raise

    def _give(self, connection: Any, intact: bool) -> None:
        if connection not in self._busy or not intact or not connection.is_connected:
            self._busy.discard(connection)
            _end(connection)
            self._open()
            return
        self._busy.discard(connection)
        self._hand(connection)

    def _hand(self, connection: Any) -> None:
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                self._busy.add(connection)
                waiting.set_result(connection)
                return
        self._idle.append(connection)

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

    async def _connected(self) -> Any:
        connection = self._make()
        try:
            if context := getattr(connection, "ssl_context", None):
                await asyncio.to_thread(context.get)  # reads certificates
            if host := getattr(connection, "host", ""):
                # without an end: a thread that looks up a name cannot be called back, and must not be joined by others
                await asyncio.get_running_loop().getaddrinfo(host, connection.port)
            async with asyncio.timeout(CONNECT_S):
                await connection.connect()
        except BaseException:
            _end(connection)
            raise
        return connection

    def _refuse(self, error: Exception) -> None:
        waiting, self._waiting = self._waiting, deque()
        for each in waiting:
            if not each.done():
                each.set_exception(error)


async def _usable(connection: Any) -> bool:
    """Whether the server has neither closed the connection nor sent what nobody asked for."""
    unread = getattr(connection, "can_read", None) or connection.can_read_destructive
    try:
        return connection.is_connected and not await unread()
    except Exception:
        return False


def _end(connection: Any) -> None:
    """Closes at once: what a server that is stopped does not take would keep the socket open."""
    if writer := connection._writer:
        writer.transport.abort()
    connection._parser.on_disconnect()
    connection._reader = connection._writer = None


def packed(name: str, *args: Any) -> bytes:
    """A command as the server reads it."""
    command: bytes = hiredis.pack_command((name, *args))
    return command
