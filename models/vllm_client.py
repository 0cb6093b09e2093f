"""Rows on their way to a vLLM server, and what it answers.

Text goes as token ids. A row with images goes through the chat form, whose template here writes nothing of its own:
what vLLM tokenises is the row's own text, checked to give the row's own ids, so that a response that spells a control
token beside an image has no score (``no_answer``), and the number of tokens that vLLM read is compared.
"""

import base64
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import httpx

from rewardhub.errors import ConfigError, InternalError, InvalidInput, NoAnswer, OverLimit, Unavailable
from rewardhub.media.decode import encoded
from rewardhub.models.card import Card
from rewardhub.models.inputs import Encoded, Encoder
from rewardhub.models.pictures import QwenImages
from rewardhub.models.text import TextTokenizer
from rewardhub.models.vllm_server import VllmServer
from rewardhub.types import Media

T = TypeVar("T")
CONCURRENT = 16
BUSY = frozenset({429, 502, 503, 504})
"""Answers of a server that is overloaded, or of a proxy before one that is not there."""
TEMPLATE = (
    "{% for message in messages %}{% for part in message['content'] %}{% if part['type'] == 'text' %}"
    "{{ part['text'] }}{% else %}<|image_pad|>{% endif %}{% endfor %}{% endfor %}"
)
"""Parts behind one another, so that no template of a checkpoint runs there."""


class VllmClient:
    """A server and the name of what it serves; ``max_tokens`` is the longest sequence it takes."""

    def __init__(self, card: Card, path: Path, encoder: Encoder, arguments: Sequence[str]) -> None:
        self.encoder = encoder
        self.tokenizer = TextTokenizer(path)
        self.server = VllmServer(card, path, ["--chat-template", TEMPLATE, *arguments])
        limits = httpx.Limits(max_connections=CONCURRENT, max_keepalive_connections=CONCURRENT)
        self.http = httpx.Client(
            base_url=self.server.url, timeout=600.0, limits=limits, trust_env=self.server.trust_env,
            headers=self.server.headers,
        )  # fmt: skip
        try:
            self.name, self.max_tokens = self._served()
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
        """Ends this process where an operator's server has become another version: the lane loads it anew."""
        if self.server.changed:
            raise SystemExit("vLLM is another version now")

    def close(self) -> None:
        self.server.close()
        self.http.close()

    def shown(self, rows: Iterable[Encoded], media: Iterable[Media], pool: Executor) -> dict[bytes, str]:
        """The images of rows as data URLs by their digests: resized here, so that vLLM reads what we would."""
        reader = self.encoder.reader
        if not isinstance(reader, QwenImages):
            return {}
        known = by_digest(media)
        images = {image.digest: image for row in rows for image in row.images}
        resized = pool.map(reader.resized, [known[digest] for digest in images], images.values())
        return {
            digest: f"data:image/png;base64,{base64.b64encode(data).decode()}"
            for digest, data in zip(images, resized, strict=True)
        }

    def parts(self, row: Encoded, shown: Mapping[bytes, str]) -> list[dict[str, Any]]:
        """The row's text and images in OpenAI's form; raises ``NoAnswer`` where vLLM would read its text otherwise."""
        if not isinstance(self.encoder.reader, QwenImages):
            raise NoAnswer(f"images of {type(self.encoder.reader).__name__} are not sent to vLLM")
        found: list[dict[str, Any]] = []
        at = 0
        for (start, stop), image in zip(row.spans, row.images, strict=True):
            found += [self._text(row.ids[at:start].tolist()),
                      {"type": "image_url", "image_url": {"url": shown[image.digest]}}]  # fmt: skip
            at = stop
        return [*found, self._text(row.ids[at:].tolist())]

    def post(self, path: str, body: dict[str, Any], tokens: int, read: Callable[[Any], T]) -> T:
        """What ``read`` takes from the answer to a row of so many tokens; raises ``RewardHubError``."""
        try:
            answer = self.http.post(path, json={"model": self.name, **body})
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

    def _check(self, answer: httpx.Response, tokens: int) -> None:
        """Raises for all but success; only our count of ``tokens`` makes it the input's fault."""
        if answer.status_code == 400 and tokens > self.max_tokens:
            raise OverLimit(f"over the model's limit of {self.max_tokens} tokens")
        if answer.is_server_error:
            self.check_alive()
        if answer.status_code in BUSY:
            raise Unavailable(f"vLLM answers {answer.status_code}", retry_after_s=5.0)
        if not answer.is_success:
            raise InternalError(f"vLLM answers {answer.status_code}: {answer.text[:200]}")

    def _served(self) -> tuple[str, int]:
        """The name of what is served, and its longest sequence; raises ``ConfigError``."""
        card = self.server.card
        answer = self.http.get("/v1/models")
        try:
            served = answer.json()["data"][0]
            name, longest = str(served["id"]), int(served["max_model_len"])
        except (ValueError, TypeError, LookupError) as error:
            raise ConfigError(
                f"{card.name}: {self.server.url} does not say what it serves: {answer.status_code}", field="vllm"
            ) from error
        if self.server.process is not None and name != card.name:
            raise ConfigError(f"{card.name}: {self.server.url} serves {name!r}: two have one port", field="vllm")
        return name, longest

    def _text(self, ids: list[int]) -> dict[str, Any]:
        text = self.encoder.tokenizer.decode(ids, skip_controls=False)
        if self.tokenizer.encode_controls(text) != ids:
            raise NoAnswer("the text is read otherwise beside an image, as where it spells a control token")
        return {"type": "text", "text": text}


def by_digest(media: Iterable[Media]) -> dict[bytes, bytes]:
    """The bytes of every image and frame by their SHA-256; what has none has failed the rows that show it."""
    found: dict[bytes, bytes] = {}
    for each in media:
        with suppress(InvalidInput):
            found |= {hashlib.sha256(data).digest(): data for data in encoded(each)}
    return found
