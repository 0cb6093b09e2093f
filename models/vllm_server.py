"""A vLLM server in an environment of its own, started from a card and ended with this process.

vLLM's pins and ours do not mix: it is an interpreter named by the card, spoken to over HTTP on the loopback.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import httpx

from rewardhub.errors import ConfigError
from rewardhub.models.card import Card, VllmSpec
from rewardhub.process_state import process_state

VERSIONS = ((0, 32), (0, 33))
"""The first and the last minor version whose answers were read as they are read here."""

QUANTIZATION = {"int8": "rewardhub_int8"}
"""What the plugin calls it; the others are vLLM's own names."""

SETTINGS = {
    "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1",  # of the model's positions; else the tokenizer's settings may shorten them
}  # fmt: skip

ERROR = re.compile(r"\b\w+Error: (?!Engine core initialization failed|EngineCore encountered an issue)")
REFUSED = frozenset({401, 403})
LONGEST = 600
"""Characters of the log that an error tells."""

LOG_END = 1 << 20
"""Bytes at the end of the log in which an error is looked for."""

# Becomes the interpreter, in a process that ends with this one from the very first on.
START = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 15)
if os.getppid() == int(sys.argv[1]):
    os.execvp(sys.argv[2], sys.argv[2:])
"""

SITE = Path(__file__).parent / "vllm_site"


class VllmServer:
    """The server of a card: at ``url``, of ``version``; a process of ours where the card names an interpreter."""

    def __init__(self, card: Card, path: Path, arguments: Sequence[str]) -> None:
        assert card.vllm is not None
        self.card = card
        self.spec: VllmSpec = card.vllm
        self.headers = _authorization(self.spec.api_key_env)
        self.process: subprocess.Popen[bytes] | None = None
        self.url = self.spec.url
        if not self.url:
            self._start([*command_of(card, path), *arguments, *self.spec.arguments])
        try:
            self._wait()
            self.version = self._checked_version()
        except BaseException:
            self.close()
            raise

    @property
    def trust_env(self) -> bool:
        """Whether a proxy that the environment names is used: not to reach a process of ours."""
        return self.process is None

    @property
    def alive(self) -> bool:
        """False where the process that we started has ended, or a signal has stopped it or one that it started.

        Their states tell that at once. A row that is sent to see whether it is scored would not: it waits its turn
        behind those in flight, which may take minutes.
        """
        return self.process is None or (
            self.process.poll() is None and all(process_state(each).code != "T" for each in _family(self.process.pid))
        )

    @property
    def healthy(self) -> bool:
        """False where the process that we started has ended, or says that it cannot go on."""
        if self.process is None:
            return True
        try:
            return self.alive and self._get("/health").is_success
        except httpx.HTTPError:
            return False

    @property
    def changed(self) -> bool:
        """Whether an operator's server tells another version than at first."""
        if self.process is not None:
            return False
        try:
            return str(self._get("/version").json()["version"]) != self.version
        except (httpx.HTTPError, ValueError, TypeError, KeyError):
            return False

    @property
    def last_error(self) -> str:
        """What the log of a process of ours says last of an error."""
        if self.process is None:
            return ""
        written = os.fstat(self.log.fileno()).st_size
        return reason_of(os.pread(self.log.fileno(), LOG_END, max(0, written - LOG_END)).decode(errors="replace"))

    def close(self) -> None:
        """Ends the process, and what it started, if it is ours."""
        if self.process is not None and self.process.poll() is None:
            # What was stopped has to go on in order to end, and to give its shared memory back.
            for number in (signal.SIGTERM, signal.SIGCONT):
                os.killpg(self.process.pid, number)
            try:
                self.process.wait(10.0)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        if self.process is not None:
            self.log.close()
            self.place.close()

    def _start(self, arguments: Sequence[str]) -> None:
        # Bound and deaf: until vLLM listens, which takes a while, nobody who asks for any port is given this one.
        self.place = socket.socket()
        self.place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.place.bind(("127.0.0.1", 0))
        port = self.place.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        start = [sys.executable, "-I", "-S", "-c", START, str(os.getpid())]
        command = [*start, self.spec.python, *arguments, "--host", "127.0.0.1", "--port", str(port)]
        # A file without a name is gone with the processes that have it open, however they end.
        self.log = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT, start_new_session=True,
            env=SETTINGS | os.environ | {"PYTHONPATH": str(SITE), "PYTHONSAFEPATH": ""},
        )  # fmt: skip

    def _wait(self) -> None:
        """Until it answers; raises ``ConfigError`` where it ends or stays silent for ``startup_s``."""
        until = time.monotonic() + (self.spec.startup_s if self.process else 10.0)
        while time.monotonic() < until:
            if not self.alive:
                raise ConfigError(f"{self.card.name}: vLLM ended while starting: {self.last_error}", field="vllm")
            try:
                answer = self._get("/health", timeout=2.0)
                if answer.is_success:
                    return
                if answer.status_code in REFUSED:
                    reason = f"{self.card.name}: {self.url} answers {answer.status_code}, is it the key?"
                    raise ConfigError(reason, field="vllm.api_key_env")
            except httpx.HTTPError:
                pass
            time.sleep(0.25)
        raise ConfigError(f"{self.card.name}: no vLLM answers at {self.url}", field="vllm.url")

    def _get(self, path: str, timeout: float = 10.0) -> httpx.Response:
        return httpx.get(self.url + path, headers=self.headers, timeout=timeout, trust_env=self.trust_env)

    def _checked_version(self) -> str:
        try:
            version = str(self._get("/version").json()["version"])
            minor = tuple(int(part) for part in version.split(".")[:2])
        except (httpx.HTTPError, ValueError, TypeError, KeyError) as error:
            raise ConfigError(f"{self.url} tells no version of vLLM: {error}", field="vllm.url") from error
        first, last = VERSIONS
        if not first <= minor <= last:
            known = f"{first[0]}.{first[1]} to {last[0]}.{last[1]}"
            raise ConfigError(f"{self.url} is vLLM {version}; answers of {known} are known", field="vllm")
        return version


def _authorization(variable: str) -> dict[str, str]:
    """The header with the key that an environment variable holds; raises ``ConfigError``, which does not tell it."""
    key = os.environ.get(variable, "").strip()
    if variable and not (key and key.isascii() and key.isprintable()):
        state = "holds no key that a header takes" if key else "is not set"
        raise ConfigError(f"the environment variable {variable} {state}", field="vllm.api_key_env")
    return {"authorization": f"Bearer {key}"} if variable else {}


def _family(pid: int) -> list[int]:
    """The process and all that come from it."""
    found = [pid]
    for each in found:
        for task in Path(f"/proc/{each}/task").glob("*/children"):
            with suppress(OSError):
                found += map(int, task.read_text().split())
    return found


def reason_of(log: str) -> str:
    """The last error in a server's log and what follows it, but for that which says to look for another above."""
    found = [match.start() for match in ERROR.finditer(log)]
    return log[found[-1] :][:LONGEST] if found else log[-LONGEST:]


def command_of(card: Card, path: Path) -> list[str]:
    """What vLLM's interpreter is started with for a card."""
    named = QUANTIZATION.get(card.quantization, card.quantization)
    quantized = [] if card.quantization == "none" else ["--quantization", named]
    return [
        "-m", "vllm.entrypoints.openai.api_server", "--model", str(path), "--served-model-name", card.name,
        "--dtype", card.dtype, "--enable-prefix-caching", "--disable-uvicorn-access-log",
        "--generation-config", "vllm",  # not the checkpoint's, which may bound the length of what is written
        "--config-format", "hf", "--load-format", "safetensors",  # not Mistral's own, where a folder holds both
        *quantized,
    ]  # fmt: skip
