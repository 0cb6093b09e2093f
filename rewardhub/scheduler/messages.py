"""The typed messages between the hub and its worker processes, framed by length.

Groups travel as protobuf (``rewardhub.wire.proto``), score rows as MessagePack: nothing is ever
unpickled.
"""

import asyncio
import math
import socket
import struct
from contextlib import suppress
from typing import Any

import msgspec

from rewardhub.types import Column, Score, Status
from rewardhub.wire.lines import loads, to_bytes

MAX_FRAME = 512 * 1024 * 1024
DEAF_S = 4.0
"""How long a worker may read nothing of what it is sent: somebody stopped it, or it hangs."""
SILENT_S = 4.0
"""How long a model's worker may leave pings unanswered: it is stopped, or says so that it does not get on."""
_LENGTH = struct.Struct("!I")


class Beginning(msgspec.Struct, tag="beginning"):
    """A long group without its responses, which the tasks that follow name by ``key``: until another one comes."""

    key: int
    group: bytes


class PoolTask(msgspec.Struct, tag="task"):
    """Score the responses of one group with the verifier of this fingerprint, none after ``deadline``.

    ``beginning`` is the key of what stands before ``group``; 0 where it is whole.
    ``deadline`` is in ``time.monotonic`` seconds, which all processes of a machine count alike.
    """

    id: int
    scorer: str
    params: bytes
    group: bytes
    fingerprint: str = ""
    deadline: float = math.inf
    beginning: int = 0


class Load(msgspec.Struct, tag="load"):
    """Load a reward model from its card (JSON). ``seat`` here and below is the model's number in its process."""

    card: bytes
    seat: int = 0


class Unload(msgspec.Struct, tag="unload"):
    """Give the memory of a model back."""

    seat: int


class Loaded(msgspec.Struct, tag="loaded"):
    """``token_budget`` is what a batch may hold as measured (0: not measured).

    ``attention`` is the path that prefixes are shared on, ``drift`` how far its states are from those of
    full rows, as a share of their length.
    """

    fingerprint: str
    seconds: float
    token_budget: int = 0
    attention: str = ""
    drift: float = 0.0
    seat: int = 0


class Picture(msgspec.Struct, tag="picture"):
    """An image or frame that groups of the next batch name by its hash."""

    sha256: str
    data: bytes
    seat: int = 0


class ScoreBatch(msgspec.Struct, tag="score"):
    """Score these groups in one batch; their pictures came before it."""

    id: int
    groups: list[bytes]
    seat: int = 0


class Probe(msgspec.Struct, tag="probe"):
    """Score one row of so many tokens, of nothing, answered as a batch without groups: the heartbeat is of one."""

    tokens: int
    seat: int = 0


class InHand(msgspec.Struct, tag="in_hand"):
    """The worker has taken a load, a batch or a probe in hand."""

    seat: int


class Ping(msgspec.Struct, tag="ping"):
    seat: int = 0


class Pong(msgspec.Struct, tag="pong"):
    seat: int = 0


class Failed(msgspec.Struct, tag="failed"):
    """Loading or a batch failed as a whole; ``memory`` says that it did not fit, ``never`` that a row of it would not
    if the device had nothing else to hold.
    """

    id: int
    reason: str
    memory: bool = False
    seat: int = 0
    never: bool = False


class Begun(msgspec.Struct, tag="begun"):
    """The task was received whole: what ends the worker from now on may be the task's doing. Told once more when what
    it begins with is read, from when on its rows' time counts.
    """

    id: int


class HandedBack(msgspec.Struct, tag="handed_back"):
    """The rest of the task was not begun: its deadline passed, or others waited long enough."""

    id: int


class Row(msgspec.Struct, tag="row"):
    """One scored response; ``row`` counts from 0 within the task."""

    id: int
    row: int
    value: float | None
    status: str
    confidence: float | None = None
    steps: list[float | None] = []
    details: bytes = b""

    @classmethod
    def of(cls, task: int, row: int, score: Score) -> "Row":
        details = to_bytes(dict(score.details)) if score.details else b""
        steps = list(score.steps)
        return cls(task, row, score.value, str(score.status), score.confidence, steps, details)

    def score(self) -> Score:
        return Score(
            self.value,
            Status(self.status),
            self.confidence,
            steps=tuple(self.steps),
            details=loads(self.details) if self.details else {},
        )


class Scored(msgspec.Struct, tag="scored"):
    """The columns of a batch, one list of rows per group; ``tokens`` went through the layers, ``padding`` of them
    as such (0 and 0: not counted).
    """

    id: int
    columns: list[list[Row]]
    tokens: int = 0
    padding: int = 0
    seat: int = 0

    @classmethod
    def of(cls, batch: int, columns: list[Column], tokens: int = 0, padding: int = 0, seat: int = 0) -> "Scored":
        rows = [[Row.of(batch, row, column.row(row)) for row in range(len(column))] for column in columns]
        return cls(batch, rows, tokens, padding, seat)


Message = (
    Beginning | PoolTask | Begun | HandedBack | Row
    | Load | Unload | Loaded | Picture | ScoreBatch | Probe | InHand | Ping | Pong | Failed | Scored
)  # fmt: skip
_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    body = _encoder.encode(message)
    return _LENGTH.pack(len(body)) + body


def send(sock: socket.socket, message: Message) -> None:
    """Blocking send, for the worker's side."""
    sock.sendall(encode(message))


def receive(sock: socket.socket) -> Message | None:
    """Blocking receive, for the worker's side; None when the hub is gone."""
    head = _exactly(sock, _LENGTH.size)
    body = _exactly(sock, _LENGTH.unpack(head)[0]) if head else None
    return _decoder.decode(body) if body is not None else None


def _exactly(sock: socket.socket, size: int) -> bytes | None:
    chunks = bytearray()
    while len(chunks) < size:
        chunk = sock.recv(min(size - len(chunks), 1 << 20))
        if not chunk:
            return None
        chunks += chunk
    return bytes(chunks)


class Channel:
    """The hub's side of a worker's socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, sock: socket.socket) -> "Channel":
        reader, writer = await asyncio.open_unix_connection(sock=sock, limit=1 << 20)
        return cls(reader, writer)

    async def send(self, message: Message) -> None:
        """Raises ``TimeoutError`` where the worker does not read, ``ConnectionError`` where it is gone."""
        await self.send_encoded(encode(message))

    async def send_encoded(self, message: bytes) -> None:
        """A message as :func:`encode` gives it; raises like :meth:`send`."""
        self._writer.write(message)
        unread = math.inf
        while (size := self._writer.transport.get_write_buffer_size()) < unread:
            unread = size
            with suppress(TimeoutError):
                async with asyncio.timeout(DEAF_S):
                    return await self._writer.drain()
        raise TimeoutError("the worker reads nothing")

    async def receive(self) -> Any:
        """The next message; raises ``ConnectionError`` when the worker is gone."""
        try:
            size = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))[0]
            if size > MAX_FRAME:
                raise ConnectionError(f"a frame of {size} bytes")
            return _decoder.decode(await self._reader.readexactly(size))
        except (asyncio.IncompleteReadError, msgspec.MsgspecError) as error:
            raise ConnectionError("the worker is gone") from error

    def close(self) -> None:
        self._writer.close()
