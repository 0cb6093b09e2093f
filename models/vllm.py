"""The vLLM backend: outputs of rows from ``/pooling``, written votes from the completions of OpenAI's form."""

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from rewardhub.errors import ConfigError, InternalError, RewardHubError
from rewardhub.models.budget import blank
from rewardhub.models.card import Card
from rewardhub.models.digest import tree_stamp
from rewardhub.models.head import Reads, softcapped
from rewardhub.models.inputs import Encoded, Row
from rewardhub.models.model import Checkpoint, encoder_of, fingerprint_of, folder_of
from rewardhub.models.progress import progress
from rewardhub.models.vllm_client import CONCURRENT, FIRST_S, VllmClient
from rewardhub.models.vllm_heads import check_served, served_heads
from rewardhub.models.vllm_pulse import Pulse
from rewardhub.raised import failure
from rewardhub.types import Group, Media, Score

KINDS = ("scalar", "cost", "outcome", "safety", "objectives", "process", "yes_no", "listwise", "pairwise")
EVERY_TOKEN = frozenset({"process", "listwise"})
"""Kinds that read many places of one row: all tokens in one request. The others ask for the end of what they read,
which lets vLLM remember prompts."""

NEUTRAL = {
    "top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}  # fmt: skip
"""Where nothing is asked for, vLLM samples as the checkpoint's generation_config.json says."""


def check_kind(card: Card) -> None:
    """Raises ``ConfigError`` for a kind that vLLM does not serve."""
    if card.kind not in KINDS:
        known = ", ".join(KINDS)
        raise ConfigError(f"{card.name}: the vllm backend serves {known}, not {card.kind}", field="backend")


class VllmEngine:
    """A checkpoint behind a vLLM server; see :class:`~rewardhub.models.engine.Engine`."""

    runner = None

    def __init__(self, card: Card, reads: Reads) -> None:
        check_kind(card)
        path = folder_of(card)
        self.stamp = tree_stamp(path)
        encoder = encoder_of(card, path)
        positions = check_served(path, encoder)
        self.card = card
        self.task = "token_classify" if card.kind in EVERY_TOKEN else "classify"
        self.writes = card.kind == "pairwise" and card.votes.count > 0
        replies = Checkpoint(card, path, encoder, 0).replies() if reads == "replies" else []
        self.cap: float | None = None
        if self.writes:
            arguments, self.width = ["--runner", "generate"], 0
        else:
            heads = served_heads(card, path, reads, replies)
            pooler = f'{{"task": "{self.task}"}}'
            arguments, self.width = ["--runner", "pooling", "--pooler-config", pooler, *heads.arguments], heads.width
            self.cap = heads.cap
        limit = min(card.max_tokens or positions, positions)
        self.client = VllmClient(card, path, encoder, ["--max-model-len", str(limit), *arguments])
        self.checkpoint = Checkpoint(card, path, encoder, min(limit, self.client.served.max_tokens))
        self.pool = ThreadPoolExecutor(CONCURRENT)
        self.short = encoder.encode("Hi")
        self.pulse = Pulse(self.client.figures, self._beat)
        self._check()

    @cached_property
    def fingerprint(self) -> str:
        """Of the weights, the card, the version of vLLM, what it says that it serves and how it is asked."""
        server, path, limit = self.client.server, self.checkpoint.path, str(self.checkpoint.max_tokens)
        told = self.client.served.other_than(self.card.name, path)
        return fingerprint_of("vllm", self.card, path, self.stamp, server.version, limit, *told, *server.spec.arguments)

    def refused(self, group: Group) -> dict[int, Score]:
        return self.client.refused(group)

    def outputs(
        self, rows: Sequence[Row], kin: Iterable[Sequence[int]], media: Sequence[Media]
    ) -> list[Tensor | Score]:
        with progress.elsewhere(), self.pulse.watched():
            shown = self.client.shown([row.encoded for row in rows], media, self.pool)
            asked: dict[bytes, Future[Any]] = {}
            parts = [self._asked(row, shown, asked) for row in rows]
            found = [self._gathered(row, each) for row, each in zip(rows, parts, strict=True)]
            self.client.check_same()
            return found

    def texts(self, rows: Sequence[Encoded], count: int, media: Sequence[Media]) -> list[list[str] | Score]:
        with progress.elsewhere(), self.pulse.watched():
            shown = self.client.shown(rows, media, self.pool)
            asked = [self._sent(self._texts, row, count, shown) for row in rows]
            found = [_told(each) for each in asked]
            self.client.check_same()
            return found

    def probe(self, tokens: int) -> int:
        tokens = max(1, min(tokens, self.checkpoint.max_tokens - 1))
        with progress.elsewhere(), self.pulse.watched():
            started = time.monotonic()
            if self._beat(blank(tokens)):
                self.pulse.measured(tokens, time.monotonic() - started)
        return tokens

    @property
    def alive(self) -> bool:
        """False where the server that we started has ended or was stopped, or one has rows in flight and hangs."""
        return self.client.server.alive and not self.pulse.lost

    def close(self) -> None:
        self.client.close()
        self.pool.shutdown(wait=False, cancel_futures=True)  # a server that hangs would be waited for

    def _check(self) -> None:
        """Raises ``ConfigError`` where a short row has no outputs: vLLM may load what it cannot compute."""
        row = self.short
        read: Callable[[Any], Any] = _written if self.writes else _pooled
        try:
            found = self.client.post(*self._question(row), len(row), read, FIRST_S)
            expected = self.width * (len(row) if self.task == "token_classify" else 1)
            if self.writes or len(found) == expected:
                return
            reason = f"{len(found)} outputs, expected {expected}"
        except (RewardHubError, SystemExit) as error:
            reason = str(error)
        reason = f"{reason} {self.client.server.last_error}"
        self.close()
        raise ConfigError(f"{self.card.name}: vLLM serves no scores: {reason}", field="vllm")

    def _asked(self, row: Row, shown: Mapping[bytes, str], asked: dict[bytes, "Future[Any]"]) -> list["Future[Any]"]:
        """The requests of a row: one for all of its tokens, or one that ends at each place; equal ones are one."""
        ends = [len(row.encoded)] if self.task == "token_classify" else [place + 1 for place in row.places]
        found = []
        for end in ends:
            cut = row.encoded.until(end)
            key = hashlib.sha256(cut.ids.tobytes() + b"".join(image.digest for image in cut.images)).digest()
            if key not in asked:
                asked[key] = self._sent(self._pooled, cut, shown)
            found.append(asked[key])
        return found

    def _sent(self, ask: Callable[..., Any], *about: Any) -> "Future[Any]":
        """The request that ``ask`` makes; its answer is a sign of life."""
        asked = self.pool.submit(ask, *about)
        asked.add_done_callback(self.pulse.sign)
        return asked

    def _texts(self, row: Encoded, count: int, shown: Mapping[bytes, str]) -> list[str]:
        """What vLLM writes behind a row, ``count`` times."""
        votes, tokenizer, style = self.card.votes, self.checkpoint.encoder.tokenizer, self.checkpoint.encoder.family
        end = tokenizer.control(style.style.end)
        drawn = count if votes.temperature else 1
        controls = {tokenizer.control(token) for token in style.tokens} - {end}
        body: dict[str, Any] = NEUTRAL | {
            "n": drawn, "max_tokens": votes.max_tokens, "temperature": votes.temperature,
            "stop_token_ids": [end], "logit_bias": {str(index): -100.0 for index in controls},
            "seed": int.from_bytes(hashlib.sha256(row.ids.tobytes()).digest()[:4], "big") >> 1,
        }  # fmt: skip
        if row.images:
            message = {"role": "user", "content": self.client.parts(row, shown)}
            texts = self.client.post("/v1/chat/completions", body | {"messages": [message]}, len(row), _said)
        else:
            texts = self.client.post("/v1/completions", body | {"prompt": row.ids.tolist()}, len(row), _written)
        if len(texts) != drawn:
            raise InternalError(f"vLLM gives {len(texts)} texts, asked for {drawn}")
        return texts * (count // drawn)

    def _pooled(self, row: Encoded, shown: Mapping[bytes, str]) -> Tensor:
        """What the pooler gives for a row: [O] of its last token, or [L, O] of all."""
        path, body = self._question(row)
        if row.images:
            del body["input"]
            body["messages"] = [{"role": "user", "content": self.client.parts(row, shown)}]
        return self.client.post(path, body, len(row), _pooled)

    def _question(self, row: Encoded) -> tuple[str, dict[str, Any]]:
        """Where and what is asked for a row of text: what the pooler gives, or one token behind it."""
        ids = row.ids.tolist()
        if self.writes:
            return "/v1/completions", {"prompt": ids, "max_tokens": 1}
        return "/pooling", {"task": self.task, "use_activation": False, "input": ids}

    def _beat(self, row: Encoded | None = None) -> bool:
        """Whether the server scores a row, of a few tokens where none is given."""
        row = row or self.short
        return self.client.beat(*self._question(row), len(row))

    def _gathered(self, row: Row, parts: Sequence["Future[Any]"]) -> Tensor | Score:
        try:
            found = [part.result() for part in parts]
        except RewardHubError as error:
            return failure(error)
        every = self.task == "token_classify"
        expected = self.width * (len(row.encoded) if every else 1)
        if wrong := [len(part) for part in found if len(part) != expected]:
            return failure(InternalError(f"vLLM gives {wrong[0]} outputs, expected {expected}"))
        outputs = found[0].reshape(-1, self.width)[list(row.places)] if every else torch.stack(found)
        return softcapped(outputs, self.cap)


def _told(texts: "Future[list[str]]") -> list[str] | Score:
    try:
        return texts.result()
    except RewardHubError as error:
        return failure(error)


def _pooled(answer: Any) -> Tensor:
    """The outputs behind one another."""
    return torch.tensor(_numbers(answer["data"][0]["data"]), dtype=torch.float32).flatten()


def _written(answer: Any) -> list[str]:
    return [str(each["text"]) for each in answer["choices"]]


def _said(answer: Any) -> list[str]:
    return [str(each["message"]["content"] or "") for each in answer["choices"]]


def _numbers(data: Any) -> Any:
    """JSON has no NaN: it comes as null."""
    return [_numbers(each) for each in data] if isinstance(data, list) else math.nan if data is None else float(data)
