"""Models that write: a reply to a conversation, or a critique of a response, greedily, as JSON where asked for.

A reply held to a JSON schema is written field by field: free text is generated, and of stated values the
likeliest is taken, so that the reply has the form whatever the model.
"""

import json
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch

from rewardhub.errors import InternalError, InvalidInput, RewardHubError
from rewardhub.models.budget import blank
from rewardhub.models.card import Card
from rewardhub.models.inputs import Encoded
from rewardhub.models.memory import memory_errors
from rewardhub.models.model import Loaded, RewardModel, open_checkpoint
from rewardhub.models.runner import Runner
from rewardhub.models.schema import TextField, text_fields
from rewardhub.models.writing import Writer
from rewardhub.raised import failure
from rewardhub.types import Column, Group, Response, Score


class GenerativeModel(RewardModel):
    """Writes what follows the prompt, or, where the response has text, what the card's ``question`` asks of it.

    The value is 1.0 and ``details.text`` what was written, for other terms of a recipe to score and for the
    chat door; ``prompt_tokens``, ``completion_tokens`` and ``finish`` ("stop" or "length") stand beside it.
    The group's metadata may hold ``max_tokens`` and ``schema``, a JSON schema of an object of texts; see
    :mod:`~rewardhub.models.schema`.
    """

    def __init__(self, card: Card) -> None:
        self.card = card
        self.loaded: Loaded = open_checkpoint(card, head=False)
        self.runner = self.loaded.runner()
        self.writer = Writer(self.loaded, max_tokens=card.max_reply_tokens, temperature=0.0)

    @property
    def runners(self) -> Sequence[Runner]:
        return (self.runner,)

    @cached_property
    def fingerprint(self) -> str:
        return self.loaded.fingerprint(self.runner.attention)

    def score(self, groups: Sequence[Group]) -> list[Column]:
        """One column per group; see :class:`~rewardhub.models.model.RewardModel`."""
        with memory_errors(), torch.inference_mode():
            return [
                Column.of([self._one(group, each) for each in group.responses], self.fingerprint) for group in groups
            ]

    def probe(self, tokens: int) -> int:
        """See :class:`~rewardhub.models.model.RewardModel`: writes a token behind the text."""
        tokens = max(1, min(tokens, self.loaded.max_tokens - 2))
        with memory_errors():
            self.writer.write(blank(tokens), 1, 1)
        return tokens

    def _one(self, group: Group, response: Response) -> Score:
        try:
            prompt = self._prompt(group, response)
            most = min(self.card.max_reply_tokens, _most(group.metadata))
            if len(prompt) + most > self.loaded.max_tokens:
                raise InvalidInput(
                    f"{len(prompt)} tokens and a reply of {most} are over the model's {self.loaded.max_tokens}",
                    field="prompt",
                )
            fields = text_fields(group.metadata.get("schema"))
            if fields:
                text, count, ended = self._filled(prompt, fields, most)
            else:
                (written,) = self.writer.write(prompt, 1, most)
                text, count, ended = written.text, written.tokens + written.ended, written.ended
        except RewardHubError as error:
            return failure(error)
        counts = {"prompt_tokens": len(prompt), "completion_tokens": count, "finish": "stop" if ended else "length"}
        return Score(1.0, details={"text": text, **counts})

    def _prompt(self, group: Group, response: Response) -> Encoded:
        encoder = self.loaded.encoder
        if not response.text and not response.messages:
            return encoder.encode(group.prompt, group.media)
        asked = encoder.pieces([*encoder.template.question(self.card.question), *encoder.template.opening()], ())
        return encoder.encode(group.prompt, group.media, response, asked=True) + asked

    def _filled(self, prompt: Encoded, fields: Mapping[str, TextField], most: int) -> tuple[str, int, bool]:
        """A JSON object with these fields, each one of the stated texts, or free where none are stated.

        Its tokens, and whether each free text came to its own end. Where the last one did not, the object stays open as
        its text is: the 1 of a 10 that was cut would be another number.
        """
        filled: dict[str, str] = {}
        before, count, cut = prompt, 0, False
        ended = True
        for name, field in fields.items():
            lead = f'{", " if filled else "{"}{json.dumps(name, ensure_ascii=False)}: "'
            before = before + self._text(lead)
            self._check_room(len(before) + (0 if field.options else max(1, most - count)))
            if field.options:
                filled[name], cut = self._likeliest(before, field.options), False
            elif field.longest == 0:
                filled[name], cut = "", False
            else:
                (written,) = self.writer.write(before, 1, max(1, most - count), field.complete)
                filled[name] = field.cut(written.text)
                count, cut = count + written.tokens, not written.ended
                ended = ended and not cut
            before = before + self._text(json.dumps(filled[name])[1:])
        text = json.dumps(filled, ensure_ascii=False)
        return text[:-2] if cut else text, len(before) - len(prompt), ended

    def _likeliest(self, before: Encoded, options: Sequence[str]) -> str:
        """The option that the model is most likely to write before the closing quotation mark."""
        ends = [self._text(json.dumps(option)[1:]) for option in options]
        rows = [before + end for end in ends]
        self._check_room(max(map(len, rows)))
        places = [range(len(before) - 1, len(row) - 1) for row in rows]
        states = self.runner.states(rows, [range(len(rows))], places)
        chances = []
        for end, state in zip(ends, states, strict=True):
            logs = torch.log_softmax(self.loaded.backbone.logits(state), -1)
            ids = torch.from_numpy(end.ids).to(logs.device)
            chances.append(float(logs.gather(1, ids[:, None]).sum()))
        if not all(map(math.isfinite, chances)):
            raise InternalError("the model computed a non-finite number")
        return options[max(range(len(options)), key=chances.__getitem__)]

    def _check_room(self, tokens: int) -> None:
        most = self.loaded.max_tokens
        if tokens > most:
            raise InvalidInput(f"the form takes {tokens} tokens, over the model's {most}", field="metadata.schema")

    def _text(self, text: str) -> Encoded:
        return self.loaded.encoder.pieces([text], ())


def _most(metadata: Mapping[str, Any]) -> int:
    most = metadata.get("max_tokens", 1 << 20)
    if isinstance(most, bool) or not isinstance(most, int) or most < 1:
        raise InvalidInput("max_tokens must be a whole number from 1", field="metadata.max_tokens")
    return most
