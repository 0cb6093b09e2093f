"""Speaks as a vLLM server does and scores a row, or each of its tokens, with the sum of its ids; with faults that a real
one cannot be made to show.

The file that FAKE_VLLM names says what becomes of rows over 30 tokens that are not blank: a status, "die", or a form of
answer. With "together N" texts are written once N are asked for at a time; "busy" refuses every row; "slow S" has them wait
S seconds, others pass them by and /metrics are not told, as with "blind"; "steps S" has the engine take as long for them,
whose /metrics move meanwhile. "version V" is told instead of its own, "serves NAME ROOT" instead of what it serves, by
whose name alone it is asked then.
"""

import base64
import ctypes
import http.server
import json
import os
import struct
import subprocess
import sys
import threading
import time
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

LONG = 30
steps = 0
FORMS = {
    "html": b"<html>length</html>", "list": b"[1]", "no usage": b'{"data": [{"data": [1.0]}]}',
    "no data": b'{"data": [], "usage": {"prompt_tokens": %d}}',
    "null": b'{"data": [{"data": [null]}], "usage": {"prompt_tokens": %d}}',
    "wide": b'{"data": [{"data": [1.0, 1.0]}], "usage": {"prompt_tokens": %d}}',
    "ragged": b'{"data": [{"data": [[1.0], [1.0, 2.0]]}], "usage": {"prompt_tokens": %d}}',
    "words": b'{"data": [{"data": ["high"]}], "usage": {"prompt_tokens": %d}}',
    "other count": b'{"data": [{"data": [1.0]}], "usage": {"prompt_tokens": 7}}',
}  # fmt: skip


def fault() -> str:
    path = Path(os.environ["FAKE_VLLM"])
    return path.read_text() if path.exists() else ""


def served(name: str) -> tuple[str, str]:
    """What the server says that it serves."""
    asked = fault().split()
    return (asked[1], asked[2]) if asked[:1] == ["serves"] else (name, sys.argv[sys.argv.index("--model") + 1])


def value(ids: list[int]) -> float:
    return sum(ids) % 997 / 997


def ids_of(parts: list[dict[str, Any]]) -> list[int]:
    """Text and PNGs in the chat form as the tiny model reads them: one token per 28 x 28 pixels."""
    text = ""
    for part in parts:
        if part["type"] == "text":
            text += part["text"]
        else:
            png = base64.b64decode(part["image_url"]["url"].partition(",")[2])
            width, height = struct.unpack(">II", png[16:24])
            text += "<|image_pad|>" * (width * height // 28**2)
    return tokenizer().encode(text, add_special_tokens=False).ids


@cache
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(f"{sys.argv[sys.argv.index('--model') + 1]}/tokenizer.json")


@cache
def engine() -> subprocess.Popen[bytes]:
    """A process that every row goes through, as it does in vLLM."""
    return subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


turn = threading.Lock()


def through_engine(seconds: float = 0.0) -> None:
    """In turn, one step in a tenth of a second."""
    with turn:
        until = time.monotonic() + seconds
        step()
        while time.monotonic() < until:
            time.sleep(0.1)
            step()


def step() -> None:
    global steps
    assert engine().stdin and engine().stdout
    engine().stdin.write(b".")
    engine().stdin.flush()
    engine().stdout.read(1)
    steps += 1


@cache
def gate(parties: int) -> threading.Barrier:
    return threading.Barrier(parties, timeout=5.0)


def written(ids: list[int], count: int, most: int) -> dict[str, object]:
    if (asked := fault().removeprefix("together ")) and most > 1:  # what asks for one token sees whether it lives
        gate(int(asked)).wait()
    texts = [{"text": f"<answer>{1 + (sum(ids) + vote) % 3 % 2}</answer>"} for vote in range(count)]
    return {"choices": texts, "usage": {"prompt_tokens": len(ids)}}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    name = "m"

    def refused(self) -> bool:
        """Whether a key is asked for and this is another, as a gateway does on every path."""
        key = os.environ.get("FAKE_VLLM_KEY")
        if key and self.headers["authorization"] != f"Bearer {key}":
            self.reply(401, b'{"error": "Unauthorized"}')
            return True
        return False

    def do_GET(self) -> None:
        if self.refused():
            return
        asked = fault()
        version = asked.removeprefix("version ") if asked.startswith("version ") else "0.32.0"
        if self.path == "/v1/models" and asked == "key":
            self.reply(401, b'{"error": "Unauthorized"}')
        elif self.path == "/metrics":
            known = not fault().startswith(("slow", "blind"))
            self.reply(200 if known else 404, b'vllm:iteration_tokens_total_count{engine="0"} %d\n' % steps * known)
        else:
            name, root = served(self.name)
            models = {"data": [{"id": name, "root": root, "max_model_len": 512}]}
            self.reply(200, json.dumps(models if self.path == "/v1/models" else {"version": version}).encode())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.refused():
            return
        if body["model"] != served(self.name)[0]:
            self.reply(404, b'{"error": "no such model"}')
            return
        how, _, seconds = fault().partition(" ")
        long = len(body.get("input") or body.get("prompt") or ()) > LONG
        if how == "slow" and long:
            time.sleep(float(seconds))
        through_engine(float(seconds) if how == "steps" and long else 0.0)
        if fault() == "busy":
            self.reply(429, b"{}")
        elif self.path == "/v1/completions":
            self.reply(200, json.dumps(written(body["prompt"], body.get("n", 1), body["max_tokens"])).encode())
        else:
            self.pool(body["input"] if "input" in body else ids_of(body["messages"][0]["content"]), body["task"])

    def pool(self, ids: list[int], task: str) -> None:
        asked = fault() if len(ids) > LONG and any(ids) else ""
        if asked == "die":
            os._exit(1)
        if asked.isdigit():
            self.reply(int(asked), b"length of content")
        elif asked in FORMS:
            self.reply(200, FORMS[asked].replace(b"%d", b"%d" % len(ids)))
        else:
            outputs = [value(ids)] * (2 if any('"rows"' in word for word in sys.argv) else 1)
            data = [outputs] * len(ids) if task == "token_classify" else outputs
            found = {"data": [{"data": data}], "usage": {"prompt_tokens": len(ids)}}
            self.reply(200, json.dumps(found).encode())

    def reply(self, code: int, body: bytes) -> None:
        self.send_response(code)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


if __name__ == "__main__":
    ctypes.CDLL(None).prctl(1, 15)  # as models/vllm_site does
    Handler.name = os.environ.get("FAKE_VLLM_NAME") or sys.argv[sys.argv.index("--served-model-name") + 1]
    engine()
    tokenizer()
    port = int(sys.argv[sys.argv.index("--port") + 1])
    http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
