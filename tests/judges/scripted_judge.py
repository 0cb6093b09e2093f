"""An OpenAI-compatible chat server that does what a script says: well, badly, late or not at all.

``python scripted_judge.py`` serves on a free loopback port, printed as the first line, and grades a
response by its length, so that other processes can use a judge without a model.
"""

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Ask:
    """A request as the server saw it; ``number`` counts from 1 over the server's life."""

    number: int
    body: dict
    headers: dict

    @property
    def system(self) -> str:
        return self.body["messages"][0]["content"]

    @property
    def parts(self) -> list[dict]:
        content = self.body["messages"][-1]["content"]
        return [{"type": "text", "text": content}] if isinstance(content, str) else content

    @property
    def text(self) -> str:
        return "".join(part["text"] for part in self.parts if part["type"] == "text")

    @property
    def nonce(self) -> str:
        return re.findall(r'(?:VERDICT\[|"nonce" is ")([0-9a-f]{16})', self.text)[-1]

    def block(self, name: str = "RESPONSE") -> str:
        """The text inside the block of this name."""
        found = re.search(rf"<<<{name} (\w+)>>>\n(.*?)\n<<<END {name} \1>>>", self.text, re.DOTALL)
        return found.group(2) if found else ""


@dataclass
class Reply:
    """What the server does: an HTTP answer, after ``delay_s``, or a broken one."""

    status: int = 200
    body: bytes = b""
    headers: dict = field(default_factory=dict)
    delay_s: float = 0.0
    hang_up: bool = False
    endless: bool = False


def completion(text: str | None, model: str = "judge-model-1", finish: str = "stop") -> bytes:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    usage = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
    return json.dumps(
        {"id": "x", "object": "chat.completion", "model": model, "choices": [choice], "usage": usage}
    ).encode()


def says(text: str, **options) -> Callable[[Ask], Reply]:
    """Replies with ``text``, in which {nonce} is the nonce of the request."""
    return lambda ask: Reply(body=completion(text.replace("{nonce}", ask.nonce), **options))


def verdict(value: object, **options) -> Callable[[Ask], Reply]:
    return says(f"It was checked.\nVERDICT[{{nonce}}]: {value}", **options)


def answers(status: int, **headers: str) -> Callable[[Ask], Reply]:
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return lambda ask: Reply(status=status, body=b'{"error": {"message": "no"}}', headers=named)


def raw(body: bytes) -> Callable[[Ask], Reply]:
    return lambda ask: Reply(body=body)


def late(delay_s: float, then: Callable[[Ask], Reply]) -> Callable[[Ask], Reply]:
    def act(ask: Ask) -> Reply:
        reply = then(ask)
        reply.delay_s = delay_s
        return reply

    return act


def in_turn(*actions: Callable[[Ask], Reply]) -> Callable[[Ask], Reply]:
    """The first action for the first request and so on; the last one stays."""
    return lambda ask: actions[min(ask.number, len(actions)) - 1](ask)


def hangs_up(ask: Ask) -> Reply:
    return Reply(hang_up=True)


def streams_for_ever(ask: Ask) -> Reply:
    return Reply(endless=True)


def grades_length(ask: Ask) -> Reply:
    return verdict(min(10, 1 + len(ask.block()) // 10))(ask)


class ScriptedJudge:
    """The server. ``asks`` are the requests it has seen; ``most_at_once`` their highest concurrency."""

    def __init__(self, script: Callable[[Ask], Reply]) -> None:
        self.script = script
        self.asks: list[Ask] = []
        self.at_once = 0
        self.most_at_once = 0
        self.broken_off = 0
        self.connections = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task] = set()

    @property
    def url(self) -> str:
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"http://{host}:{port}/v1"

    async def __aenter__(self) -> "ScriptedJudge":
        self._server = await asyncio.start_server(self._connection, "127.0.0.1", 0, backlog=2048)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._tasks.add(task)
        self.connections += 1
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            self.broken_off += 1
        except asyncio.CancelledError:
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        body = json.loads(await reader.readexactly(int(headers["content-length"])))
        ask = Ask(len(self.asks) + 1, body, headers)
        self.asks.append(ask)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return await self._reply(self.script(ask), reader, writer)
        finally:
            self.at_once -= 1

    async def _reply(self, reply: Reply, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        if reply.delay_s:
            gone = asyncio.create_task(reader.read(1))
            done, _ = await asyncio.wait({gone}, timeout=reply.delay_s)
            if done:
                raise ConnectionResetError
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)
        if reply.hang_up:
            return False
        if reply.endless:
            await self._stream(writer)
        headers = {"content-type": "application/json", "content-length": str(len(reply.body))} | reply.headers
        head = "".join(f"{key}: {value}\r\n" for key, value in headers.items())
        writer.write(f"HTTP/1.1 {reply.status} X\r\n{head}\r\n".encode() + reply.body)
        await writer.drain()
        return True

    async def _stream(self, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"1000\r\n" + b" " * 0x1000 + b"\r\n")
            await writer.drain()


async def _serve() -> None:
    async with ScriptedJudge(grades_length) as judge:
        print(judge.url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve())
