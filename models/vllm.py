"""Reward models served by vLLM: ``/classify`` for heads, one constrained token for yes and no.

Text goes as token ids, tokenised here as for our own backend, so that no response spells a control token.
Images go through the chat form, which tokenises there; a response that spells a control token beside an
image has no score (``no_answer``).
"""

import base64
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import httpx

from rewardhub.errors import ConfigError, InternalError, NoAnswer, OverLimit, RewardHubError, Unavailable
from rewardhub.models.card import Card
from rewardhub.models.chat import CHATML, CONTROLS
from rewardhub.models.checkpoint import check_checkpoint, download
from rewardhub.models.digest import tree_digest
from rewardhub.models.inputs import Encoder
from rewardhub.models.model import NOT_READ, finite, sources
from rewardhub.models.rows import with_context
from rewardhub.models.vllm_server import POOLING, VllmServer
from rewardhub.scorer import digest_of, failure
from rewardhub.types import Column, Group, Response, Score

KINDS = POOLING | {"yes_no"}
CONCURRENT = 16


class VllmModel:
    """A card with ``backend = "vllm"``; see :class:`~rewardhub.models.model.RewardModel`."""

    def __init__(self, card: Card) -> None:
        if card.kind not in KINDS:
            raise ConfigError(f"{card.name}: vLLM serves {', '.join(sorted(KINDS))}, not {card.kind}", field="kind")
        self.card = card
        self.path: Path = card.path if card.path is not None else download(card.repository, card.revision)
        check_checkpoint(self.path)
        self.encoder = Encoder(self.path, system=card.system, max_pixels=card.max_pixels)
        self.choices = [] if card.kind in POOLING else [self._choice(text) for text in card.replies]
        self.server = VllmServer(card, self.path)
        self.client = httpx.Client(base_url=self.server.url, timeout=600.0)
        self.name, self.max_tokens = self._served()
        self.pool = ThreadPoolExecutor(CONCURRENT)

    @cached_property
    def fingerprint(self) -> str:
        """Of the weights, the card, the version of vLLM and how it is asked."""
        read = self.card.model_dump_json(exclude=NOT_READ | {"vllm"})
        arguments = self.server.spec.arguments
        return digest_of("vllm", self.server.version, tree_digest(self.path), read, *arguments, *sources())

    def score(self, groups: Sequence[Group]) -> list[Column]:
        if not self.server.alive:
            # The worker ends with its server, and the lane starts both anew.
            raise SystemExit("vLLM has ended")
        asked = [[self.pool.submit(partial(self._one, group, each)) for each in group.responses] for group in groups]
        return [Column.of([each.result() for each in rows], self.fingerprint) for rows in asked]

    def close(self) -> None:
        self.pool.shutdown(cancel_futures=True)
        self.client.close()
        self.server.close()

    def _one(self, group: Group, response: Response) -> Score:
        try:
            return self._read(self._outputs(group, response))
        except RewardHubError as error:
            return failure(error)

    def _read(self, outputs: Sequence[float]) -> Score:
        card = self.card
        if card.kind in {"scalar", "cost"}:
            sign = -1.0 if card.positive_is == "safe" else 1.0
            return finite(card.calibration(sign * outputs[0]))
        chances = [math.exp(each - max(outputs)) for each in outputs]
        index = card.classes.index(card.positive) if card.kind == "outcome" else 0
        return finite(chances[index] / sum(chances))

    def _outputs(self, group: Group, response: Response) -> list[float]:
        """The head's raw outputs, or the log-probabilities of the card's two replies."""
        media = bool(group.media or response.media)
        asked = {"messages": self._messages(group, response)} if media else {"ids": self._ids(group, response)}
        if self.card.kind in POOLING:
            body = {"input": asked["ids"]} if not media else {**asked, "add_generation_prompt": False}
            found = self._post("/classify", body | {"use_activation": False})["data"][0]["probs"]
            expected = len(self.card.classes) or 1
            if len(found) != expected:
                raise InternalError(f"vLLM gives {len(found)} outputs, expected {expected}")
            return [float(each) for each in found]
        one = {"max_tokens": 1, "temperature": 0.0, "allowed_token_ids": [index for index, _ in self.choices]}
        if media:
            body = {**asked, **one, "logprobs": True, "top_logprobs": 2, "return_tokens_as_token_ids": True}
            entries = self._post("/v1/chat/completions", body)["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
            found = {entry["token"]: entry["logprob"] for entry in entries}
        else:
            body = {"prompt": asked["ids"], **one, "logprobs": 2, "return_tokens_as_token_ids": True}
            found = self._post("/v1/completions", body)["choices"][0]["logprobs"]["top_logprobs"][0]
        try:
            return [float(found[f"token_id:{index}"]) for index, _ in self.choices]
        except KeyError as error:
            raise InternalError(
                f"vLLM's answer misses {error}; start it with --logprobs-mode processed_logprobs"
            ) from None

    def _ids(self, group: Group, response: Response) -> list[int]:
        encoder = self.encoder
        encoded = encoder.prefix(self._prompt(group)) + encoder.answer(response)
        if self.choices:
            turn = encoder.template.turn("user", [self.card.question])
            encoded = encoded + encoder.pieces([*turn, *encoder.template.opening()], ())
        if len(encoded) > self.max_tokens:
            raise OverLimit(f"{len(encoded)} tokens, over the model's limit of {self.max_tokens}")
        ids: list[int] = encoded.ids.tolist()
        return ids

    def _messages(self, group: Group, response: Response) -> list[dict[str, Any]]:
        """The conversation in OpenAI's form, its media inside as data URLs."""
        if self.encoder.family.style is not CHATML:
            raise NoAnswer("images go to vLLM in ChatML only, which this family does not write")
        prompt = self._prompt(group)
        turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
        system = self.encoder.template.system
        if system and turns[0].get("role") != "system":
            turns.insert(0, {"role": "system", "content": system})
        # Checks roles, parts and numbers of media as our own backend does.
        self.encoder.template.prompt(prompt, len(group.media))
        self.encoder.template.answer(response, len(group.media))
        messages = [*_shown(turns, group.media), *_shown(
            list(response.messages) or [{"role": "assistant", "content": response.text}], response.media)]  # fmt: skip
        if self.choices:
            messages.append({"role": "user", "content": self.card.question})
        if any(token in str(message["content"]) for message in messages for token in CONTROLS):
            raise NoAnswer("the text spells a control token, which vLLM would read as one beside an image")
        return messages

    def _prompt(self, group: Group) -> Any:
        return with_context(group.prompt, self.card.context, group.reference) if self.card.context else group.prompt

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        try:
            answer = self.client.post(path, json={"model": self.name, **body})
        except httpx.HTTPError as error:
            raise Unavailable(f"vLLM does not answer: {type(error).__name__}", retry_after_s=5.0) from error
        if answer.status_code == 400 and "length" in answer.text:
            raise OverLimit(f"over the model's limit of {self.max_tokens} tokens")
        if not answer.is_success:
            raise InternalError(f"vLLM answers {answer.status_code}: {answer.text[:200]}")
        return answer.json()

    def _served(self) -> tuple[str, int]:
        served = self.client.get("/v1/models").json()["data"][0]
        return str(served["id"]), int(served["max_model_len"])

    def _choice(self, text: str) -> tuple[int, str]:
        ids = self.encoder.tokenizer.encode(text)
        if len(ids) != 1:
            raise ConfigError(f"{self.card.name}: the choice {text!r} is {len(ids)} tokens, not one", field="choices")
        return ids[0], text


def _shown(turns: Sequence[Any], media: Sequence[Any]) -> list[dict[str, Any]]:
    """Turns with their pictures as image parts; those that no part names stand before the first one's text."""
    found: list[dict[str, Any]] = []
    named = any(isinstance(turn.get("content"), list | tuple) and any("media" in part for part in turn["content"])
                for turn in turns)  # fmt: skip
    waiting = [] if named else list(media)
    for turn in turns:
        content = turn.get("content") or ""
        parts: list[Any] = [{"type": "text", "text": content}] if isinstance(content, str) else list(content)
        shown = [_image(media[part["media"]]) if part["type"] == "image" else dict(part) for part in parts]
        if waiting and turn.get("role") != "system":
            shown = [*map(_image, waiting), *shown]
            waiting = []
        found.append({"role": turn["role"], "content": shown})
    return found


def _image(media: Any) -> dict[str, Any]:
    data = base64.b64encode(media.data or b"").decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
