"""Rows on their way to a vLLM server, and what it answers.

Text goes as token ids. A row with images goes through the chat form, whose template here writes nothing of its own:
what vLLM tokenises is the row's own text, checked to give the row's own ids, and the number of tokens that vLLM read is
compared. So a response that spells a control token beside an image has no score (``no_answer``), and none has it behind
a prompt that does (``invalid_input``).
"""

import base64
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx

from rewardhub.errors import ConfigError, InternalError, InvalidInput, NoAnswer, OverLimit, Unavailable
from rewardhub.media.decode import encoded
from rewardhub.models.card import Card
from rewardhub.models.chat import flat
from rewardhub.models.inputs import Encoded, Encoder
from rewardhub.models.pictures import NoImages, QwenImages
from rewardhub.models.text import TextTokenizer
from rewardhub.models.vllm_server import VllmServer
from rewardhub.raised import failure
from rewardhub.types import Group, Media, Message, Score

T = TypeVar("T")
CONCURRENT = 16
FIRST_S = 30.0
"""How long a server may take for the first row, which is of a few tokens."""
LOOK_S = 2.0
"""How long its figures may take to be told."""
STEPS = ("vllm:iteration_tokens", "vllm:generation_tokens", "vllm:prompt_tokens", "vllm:num_requests", "vllm:kv_cache")
"""Figures of /metrics that nothing but a step of the engine moves."""
SHOWN_CHARS = 64 * 1024 * 1024
"""Of images in the form that vLLM reads, which are kept for later batches."""
BUSY = frozenset({429, 502, 503, 504})
"""Answers of a server that is overloaded, or of a proxy before one that is not there."""
TEMPLATE = (
    "{% for message in messages %}{% for part in message['content'] %}{% if part['type'] == 'text' %}"
    "{{ part['text'] }}{% else %}<|image_pad|>{% endif %}{% endfor %}{% endfor %}"
)
"""Parts behind one another, so that no template of a checkpoint runs there."""


@dataclass(frozen=True)
class Served:
    """What a server says of its model: its name, the folder or repository it is from, the longest sequence it takes."""

    name: str
    root: str
    max_tokens: int

    def other_than(self, name: str, path: Path) -> tuple[str, str]:
        """The name and the root, "" for what a server of ours says that serves the folder ``path`` as ``name``."""
        return "" if self.name == name else self.name, "" if self.root == str(path) else self.root


class VllmClient:
    """A server and what it served at first."""

    def __init__(self, card: Card, path: Path, encoder: Encoder, arguments: Sequence[str]) -> None:
        self.encoder = encoder
        self.tokenizer = TextTokenizer(path)
        self._shown: OrderedDict[bytes, str] = OrderedDict()
        self.server = VllmServer(card, path, ["--chat-template", TEMPLATE, *arguments])
        limits = httpx.Limits(max_connections=CONCURRENT, max_keepalive_connections=CONCURRENT)
        known: dict[str, Any] = {
            "base_url": self.server.url, "trust_env": self.server.trust_env, "headers": self.server.headers,
        }  # fmt: skip
        self.http = httpx.Client(timeout=600.0, limits=limits, **known)
        self.beside = httpx.Client(timeout=600.0, **known)
        try:
            self.served = self._served()
        except BaseException:
            self.close()
            raise

    def check_alive(self) -> None:
        """Ends this process where the server that it started can do no more: the lane starts both anew.

        What was asked for is tried again then.
        """
        if not self.server.healthy:
            raise SystemExit("vLLM has ended")

    def check_same(self) -> None:
        """Ends this process where an operator's server is of another version, or of another model, than at first.

        The lane loads it anew. Asked behind answers, it vouches for them: who gave them is still there.
        """
        if self.server.changed:
            raise SystemExit("vLLM is another version now")
        if self.server.process is None:
            with suppress(httpx.HTTPError, ConfigError):
                if (now := self._served()) != self.served:
                    raise SystemExit(f"vLLM serves {now.name!r} of {now.root!r} now")

    def close(self) -> None:
        self.server.close()
        self.http.close()
        self.beside.close()

    def refused(self, group: Group) -> dict[int, Score]:
        """The responses that vLLM cannot be asked for, by their places, each with the score that says why.

        Text alone it reads as we do, and images of Qwen's families beside text that spells no control token.
        """
        images = [bool(group.media or each.media) for each in group.responses]
        if self.server.card.scope != "response":
            images = [any(images)] * len(images)
        beside = [index for index, image in enumerate(images) if image]
        if not beside or isinstance(self.encoder.reader, NoImages):
            return {}
        if not isinstance(self.encoder.reader, QwenImages):
            error = InvalidInput("images of this family are not sent to vLLM", field="media")
            return dict.fromkeys(beside, failure(error))
        if self._spells(group.prompt, group.media):
            error = InvalidInput("beside an image vLLM would read the control token that this spells", field="prompt")
            return dict.fromkeys(beside, failure(error))
        spelt = failure(NoAnswer("beside an image vLLM would read the control token that the response spells"))
        answers = ((index, group.responses[index]) for index in beside)
        return {index: spelt for index, each in answers if self._spells(each.messages or each.text, each.media)}

    def _spells(self, content: str | Sequence[Message], media: Sequence[Media]) -> bool:
        """Whether a text spells a control token; what cannot be shown at all is for those who lay it out."""
        try:
            texts = [piece for piece in flat(content, len(media)) if isinstance(piece, str)]
        except InvalidInput:
            return False
        return any(self.tokenizer.encode_controls(text) != self.encoder.tokenizer.encode(text) for text in texts)

    def shown(self, rows: Iterable[Encoded], media: Iterable[Media], pool: Executor) -> dict[bytes, str]:
        """The images of rows as data URLs by their digests: resized here, so that vLLM reads what we would."""
        reader = self.encoder.reader
        if not isinstance(reader, QwenImages):
            return {}
        images = {image.digest: image for row in rows for image in row.images}
        fresh = {digest: image for digest, image in images.items() if digest not in self._shown}
        if fresh:
            known = by_digest(media)
            resized = pool.map(reader.resized, [known[digest] for digest in fresh], fresh.values())
            for digest, data in zip(fresh, resized, strict=True):
                self._shown[digest] = f"data:image/png;base64,{base64.b64encode(data).decode()}"
        for digest in images:
            self._shown.move_to_end(digest)
        found = {digest: self._shown[digest] for digest in images}
        while sum(map(len, self._shown.values())) > SHOWN_CHARS:
            self._shown.popitem(last=False)
        return found

    def parts(self, row: Encoded, shown: Mapping[bytes, str]) -> list[dict[str, Any]]:
        """The row's text and images in OpenAI's form; raises ``InvalidInput`` where vLLM would read it otherwise."""
        found: list[dict[str, Any]] = []
        at = 0
        for (start, stop), image in zip(row.spans, row.images, strict=True):
            found += [self._text(row.ids[at:start].tolist()),
                      {"type": "image_url", "image_url": {"url": shown[image.digest]}}]  # fmt: skip
            at = stop
        return [*found, self._text(row.ids[at:].tolist())]

    def post(
        self, path: str, body: dict[str, Any], tokens: int, read: Callable[[Any], T], timeout_s: float = 600.0
    ) -> T:
        """What ``read`` takes from the answer to a row of so many tokens; raises ``RewardHubError``."""
        try:
            answer = self.http.post(path, json={"model": self.served.name, **body}, timeout=timeout_s)
        except httpx.HTTPError as error:
            self.check_alive()
            raise Unavailable(f"vLLM does not answer: {type(error).__name__}", retry_after_s=5.0) from error
        self._check(answer, tokens + body.get("max_tokens", 0))
        try:
            found = answer.json()
            seen, result = int(found["usage"]["prompt_tokens"]), read(found)
        except (ValueError, TypeError, LookupError) as error:
            raise InternalError(f"vLLM answers in a form that is not known: {type(error).__name__}") from error
        if seen != tokens:
            raise InternalError(f"vLLM read {seen} tokens of a row of {tokens}")
        return result

    def beat(self, path: str, body: dict[str, Any], tokens: int) -> bool:
        """Whether the server scores a row of a few tokens, or says that it is busy, which shows that it lives.

        One of an operator that is away comes back: rows are ``unavailable``. Raises ``InternalError`` where it refuses.
        """
        try:
            self._check(self.beside.post(path, json={"model": self.served.name, **body}), tokens)
        except httpx.HTTPError:
            self.check_alive()
            return False
        except Unavailable:
            pass
        return True

    def figures(self) -> str:
        """What moves with the engine's steps; "" where the server does not tell."""
        try:
            told = self.beside.get("/metrics", timeout=LOOK_S).text
        except (httpx.HTTPError, RuntimeError):  # the client may be closed meanwhile
            return ""
        return "\n".join(line for line in told.splitlines() if line.startswith(STEPS))

    def _check(self, answer: httpx.Response, tokens: int) -> None:
        """Raises for all but success; only our count of ``tokens`` makes it the input's fault."""
        if answer.status_code == 400 and tokens > self.served.max_tokens:
            raise OverLimit(f"over the model's limit of {self.served.max_tokens} tokens")
        if answer.is_server_error:
            self.check_alive()
        if answer.status_code in BUSY:
            raise Unavailable(f"vLLM answers {answer.status_code}", retry_after_s=5.0)
        if not answer.is_success:
            raise InternalError(f"vLLM answers {answer.status_code}: {answer.text[:200]}")

    def _served(self) -> Served:
        """What is served now; raises ``ConfigError``, and ``httpx.HTTPError`` where the server is gone."""
        card = self.server.card
        answer = self.http.get("/v1/models")
        try:
            told = answer.json()["data"][0]
            served = Served(str(told["id"]), str(told.get("root") or ""), int(told["max_model_len"]))
        except (ValueError, TypeError, LookupError) as error:
            raise ConfigError(
                f"{card.name}: {self.server.url} does not say what it serves: {answer.status_code}", field="vllm"
            ) from error
        if self.server.process is not None and served.name != card.name:
            raise ConfigError(f"{card.name}: {self.server.url} serves {served.name!r}: two have one port", field="vllm")
        return served

    def _text(self, ids: list[int]) -> dict[str, Any]:
        text = self.encoder.tokenizer.decode(ids, skip_controls=False)
        if self.tokenizer.encode_controls(text) != ids:
            # No response spells one, see `refused`: the card's or the reference's words do.
            raise InvalidInput("beside an image vLLM would read a control token that this spells", field="prompt")
        return {"type": "text", "text": text}


def by_digest(media: Iterable[Media]) -> dict[bytes, bytes]:
    """The bytes of every image and frame by their SHA-256; what has none has failed the rows that show it."""
    found: dict[bytes, bytes] = {}
    for each in media:
        with suppress(InvalidInput):
            found |= {hashlib.sha256(data).digest(): data for data in encoded(each)}
    return found
