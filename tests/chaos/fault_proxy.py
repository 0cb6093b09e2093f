"""A TCP proxy that misbehaves on request: latency, stalls, slices, resets, refusals, damage. Loopback only.

By hand: `.venv/bin/python -P tests/chaos/fault_proxy.py LISTEN_PORT UPSTREAM_PORT FAULT [SECONDS]`; ends by itself.
"""

import argparse
import asyncio
import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Faults:
    """What happens to bytes on their way. Rates are shares of chunks, from a seeded generator; a connection is reset
    where the caller says nothing for ``mute_s``, or the upstream for ``idle_s``.
    """

    latency_s: float = 0.0
    jitter_s: float = 0.0
    stall: bool = False
    refuse: bool = False
    slice_bytes: int = 0
    reset_rate: float = 0.0
    half_open: bool = False
    idle_s: float | None = None
    mute_s: float | None = None
    damage_rate: float = 0.0
    """Of chunks from upstream that are cut, doubled, changed, or exchanged with an earlier one of the same length."""


class FaultProxy:
    """Forwards 127.0.0.1:port to 127.0.0.1:upstream under the present ``faults``."""

    def __init__(self, upstream: int, *, seed: int = 0) -> None:
        self.upstream = upstream
        self._random = random.Random(seed)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._earlier: dict[int, bytes] = {}
        self.faults = Faults()
        self.port = 0

    async def __aenter__(self) -> "FaultProxy":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port or self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuses new connections and drops the present ones."""
        if self._server:
            self._server.close()
        self.drop()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def drop(self) -> None:
        """Resets every connection."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._writers.add(writer)
        upstream = None
        try:
            if self.faults.refuse:
                return
            source, upstream = await asyncio.open_connection("127.0.0.1", self.upstream)
            self._writers.add(upstream)
            await asyncio.gather(
                self._pipe(reader, upstream, lambda f: f.mute_s),
                self._pipe(source, writer, lambda f: f.idle_s, damaged=True),
            )
        except (OSError, asyncio.CancelledError):
            return
        finally:
            for each in filter(None, (writer, upstream)):
                self._writers.discard(each)
                with contextlib.suppress(OSError):
                    each.transport.abort()

    async def _pipe(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        limit: Callable[[Faults], float | None],
        *,
        damaged: bool = False,
    ) -> None:
        while data := await asyncio.wait_for(reader.read(65_536), limit(self.faults)):
            faults = self.faults
            if faults.latency_s:
                await asyncio.sleep(faults.latency_s + self._random.random() * faults.jitter_s)
            while self.faults.stall:
                await asyncio.sleep(0.02)
            if faults.reset_rate and self._random.random() < faults.reset_rate:
                raise ConnectionResetError
            if damaged and faults.damage_rate:
                data = self._damaged(data)
            size = faults.slice_bytes or len(data)
            for start in range(0, len(data), size):
                writer.write(data[start : start + size])
                await writer.drain()
        if not self.faults.half_open:
            writer.write_eof()

    def _damaged(self, data: bytes) -> bytes:
        earlier = self._earlier.get(len(data), data)
        self._earlier[len(data)] = data
        if self._random.random() >= self.faults.damage_rate:
            return data
        place = self._random.randrange(len(data))
        changed = data[:place] + bytes([data[place] ^ 1 << self._random.randrange(8)]) + data[place + 1 :]
        return self._random.choice([data[:place], data * 2, data + data[place:], changed, earlier, earlier])


FAULTS = {
    "latency": Faults(latency_s=0.5),
    "stall": Faults(stall=True),
    "refuse": Faults(refuse=True),
    "slice": Faults(slice_bytes=7),
    "reset": Faults(reset_rate=0.05),
    "none": Faults(),
}


async def main(port: int, upstream: int, fault: str, seconds: float) -> None:
    proxy = FaultProxy(upstream)
    await proxy.start(port)
    proxy.faults = FAULTS[fault]
    print(f"127.0.0.1:{proxy.port} -> 127.0.0.1:{upstream} {fault}", flush=True)
    await asyncio.sleep(seconds)
    await proxy.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int, help="to listen on; 0 is a free one")
    parser.add_argument("upstream", type=int, help="port to forward to")
    parser.add_argument("fault", choices=FAULTS)
    parser.add_argument("seconds", type=float, nargs="?", default=60.0)
    options = parser.parse_args()
    asyncio.run(main(options.port, options.upstream, options.fault, options.seconds))
