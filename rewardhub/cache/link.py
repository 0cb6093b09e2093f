"""One connection to a Redis server: commands go out, their replies come back in the same order."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import hiredis

MOST_BYTES = 64 << 20
"""Bytes of the replies to one call; a server that sends more is left."""
_MORE = object()


class Refused(Exception):
    """An error that the server replied, in its words."""

    @property
    def code(self) -> str:
        """The first word, which says what kind of error it is."""
        return str(self).partition(" ")[0]


class NotRedis(Exception):
    """Bytes that are no reply, or a reply to something else."""


class Link(asyncio.Protocol):
    """Serves one call at a time. Whatever goes wrong ends it: what comes on it later may answer another call."""

    def __init__(self) -> None:
        self.usable = False
        self._transport: asyncio.Transport | None = None
        self._reader = hiredis.Reader(
            protocolError=NotRedis, replyError=Refused, errors="replace", notEnoughData=_MORE
        )  # fmt: skip
        self._replies: list[Any] = []
        self._wanted = self._bytes = 0
        self._answer: asyncio.Future[list[Any]] | None = None

    async def ask(self, commands: Sequence[bytes]) -> list[Any]:
        """The replies to packed commands, :class:`Refused` in the place of one; raises why there are none."""
        if self._transport is None or not self.usable:
            raise ConnectionResetError("the connection is closed")
        self._replies, self._wanted, self._bytes = [], len(commands), 0
        answer: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._answer = answer
        try:
            self._transport.writelines(commands)
            return await answer
        except BaseException:
            self.end()
            raise
        finally:
            self._answer = None

    def end(self, error: Exception | None = None) -> None:
        """Closes at once: what a server that is stopped does not take would keep the socket open."""
        self.usable = False
        if self._transport:
            self._transport.abort()
        if self._answer and not self._answer.done():
            self._answer.set_exception(error or ConnectionAbortedError("the connection was left"))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport, self.usable = cast("asyncio.Transport", transport), True

    def connection_lost(self, exc: Exception | None) -> None:
        self.end(exc or ConnectionResetError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        self._bytes += len(data)
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not _MORE:
                self._replies.append(reply)
        except Exception as error:
            self.end(error)
            return
        left = self._wanted - len(self._replies)
        if self._answer is None or left < 0 or self._bytes > MOST_BYTES or (not left and self._reader.has_data()):
            self.end(NotRedis("more than was asked for"))
        elif not left and not self._answer.done():
            self._answer.set_result(self._replies)
            self._answer = None
