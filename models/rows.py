"""What the kinds share that read each response by itself: rows, their batches, the columns of scores."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from rewardhub.errors import ConfigError, ReferenceUnparseable, ScoringError
from rewardhub.media.decode import encoded
from rewardhub.models.card import Card
from rewardhub.models.engine import EngineModel
from rewardhub.models.head import Reads
from rewardhub.models.inputs import Encoded, Row
from rewardhub.models.memory import memory_errors
from rewardhub.models.model import finite
from rewardhub.models.truncation import Prompt, fitted, flagged
from rewardhub.raised import failure
from rewardhub.scorer import digest_of
from rewardhub.types import Column, Group, Media, Message, Response, Score


class RowModel(EngineModel):
    """Scores each response by itself; the order and company of responses change nothing.

    A kind overrides :meth:`row`, which lays a response out, and :meth:`read`, which reads the outputs.
    """

    reads: Reads = "head"
    has_language_head = False
    """Whether the language head is loaded beside the reward head."""
    room = 0
    """Tokens that are left free behind a row, for what is written there."""
    asks = False
    """Whether the model is asked something behind the response."""

    def __init__(self, card: Card) -> None:
        super().__init__(card, self.reads, language=self.has_language_head)
        self.encoder = self.checkpoint.encoder
        self.behind = len(self.encoder.pieces([self.encoder.template.style.behind], ()))  # tokens behind a turn's end
        self.back = self.behind if card.head.reads == "end" else 0

    @property
    def least(self) -> int:
        """Tokens that stand behind a prompt where the response is empty."""
        return len(self.encoder.answer(Response(), asked=self.asks)) + self.room

    def check_outputs(self, *counts: int) -> None:
        """Raises ``ConfigError`` where what is read has another number of outputs."""
        if self.engine.width not in counts:
            self.close()
            expected = " or ".join(map(str, counts))
            raise ConfigError(f"the head has {self.engine.width} outputs, expected {expected}", field="head")

    def score(self, groups: Sequence[Group]) -> list[Column]:
        """One column per group; see :class:`~rewardhub.models.model.RewardModel`."""
        laid_out = [self.rows(group) for group in groups]
        ready: list[Row] = []
        kin: dict[tuple[str, int], list[int]] = defaultdict(list)
        for group, rows in zip(groups, laid_out, strict=True):
            for row in rows:
                if isinstance(row, Row):
                    kin[_prompt_key(prompt_of(self.card, group), group), row.truncated].append(len(ready))
                    ready.append(row)
        with memory_errors():
            found = iter(self.readings(ready, list(kin.values()), groups))
        return [
            Column.of(
                [flagged(next(found), row.truncated) if isinstance(row, Row) else row for row in rows],
                self.fingerprint,
            )
            for rows in laid_out
        ]

    def rows(self, group: Group) -> list[Row | Score]:
        """One row per response, or the score that says why there is none."""
        try:
            prompt = Prompt(self.checkpoint, prompt_of(self.card, group), group.media, self.least)
        except ScoringError as error:
            return [failure(error)] * len(group.responses)
        found = [self._attempt(prompt, group, response) for response in group.responses]
        refused = self.engine.refused(group)
        return [refused.get(index, row) if isinstance(row, Row) else row for index, row in enumerate(found)]

    def row(self, prefix: Encoded, group: Group, response: Response) -> Row:
        """The response behind its prompt, read where its turn ends; raises ``ScoringError``."""
        encoded = prefix + self.encoder.answer(response, len(group.media), asked=self.asks)
        return Row(encoded, (len(encoded) - 1 - self.back,))

    def readings(self, rows: Sequence[Row], kin: Sequence[Sequence[int]], groups: Sequence[Group]) -> list[Score]:
        """The scores of the groups' rows, of which those of like prompt are named together in ``kin``."""
        outputs = self.engine.outputs(rows, kin, media_of(groups))
        return [self._reading(row, found) for row, found in zip(rows, outputs, strict=True)]

    def read(self, row: Row, outputs: Tensor) -> Score:
        """The score, from the outputs [K, O] at the row's places, which are all finite."""
        raise NotImplementedError

    def calibrated(self, value: float) -> Score:
        """The score of a raw value by the card's calibration; never a NaN."""
        return finite(self.card.calibration(value))

    def _reading(self, row: Row, found: Tensor | Score) -> Score:
        if isinstance(found, Score):
            return found
        # A sigmoid or a softmax makes a number of an infinity.
        return self.read(row, found) if found.isfinite().all() else finite(math.nan)

    def _attempt(self, prompt: Prompt, group: Group, response: Response) -> Row | Score:
        def lay(without: int) -> Row:
            # The response's own images may cut the prompt's otherwise.
            prefix = prompt.without(without, len(response.media) if group.media else 0)
            return self.row(prefix, group, response)

        try:
            return fitted(self.checkpoint, lay, prompt.ends, self.room)
        except ScoringError as error:
            return failure(error)


def prompt_of(card: Card, group: Group) -> str | Sequence[Message]:
    """The group's prompt with the card's context; raises ``ReferenceUnparseable`` where a field is missing."""
    return with_context(group.prompt, card.context, group.reference)


def media_of(groups: Sequence[Group]) -> list[Media]:
    """All media of groups and of their responses."""
    prompts = [media for group in groups for media in group.media]
    return prompts + [media for group in groups for response in group.responses for media in response.media]


def with_context(prompt: str | Sequence[Message], context: str, reference: Mapping[str, Any]) -> Any:
    """The prompt with ``context``, if any, behind the text of its last user message, its {markers} filled."""
    if not context:
        return prompt
    filled = _filled(context, reference)
    if isinstance(prompt, str):
        return prompt + filled
    messages = list(prompt)
    last = max((index for index, each in enumerate(messages) if each.get("role") == "user"), default=None)
    if last is None:
        return [*messages, {"role": "user", "content": filled}]
    content = messages[last].get("content") or ""
    more = content + filled if isinstance(content, str) else [*content, {"type": "text", "text": filled}]
    messages[last] = {**messages[last], "content": more}
    return messages


def _filled(context: str, reference: Mapping[str, Any]) -> str:
    """Single pass: text that comes from the reference is not looked at for markers."""
    pieces = context.split("{")
    text = pieces[0]
    for piece in pieces[1:]:
        name, closed, rest = piece.partition("}")
        if not closed or not name.isidentifier():
            text += "{" + piece
            continue
        text += _field(name, reference) + rest
    return text


def _field(name: str, reference: Mapping[str, Any]) -> str:
    value = reference.get(name)
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple) and all(isinstance(each, str) for each in value):
        return "\n".join(value)
    found = "is missing" if name not in reference else f"is {type(value).__name__}"
    raise ReferenceUnparseable(f"reference.{name} {found}, expected text", field=f"reference.{name}")


def _prompt_key(prompt: object, group: Group) -> str:
    """Groups with this key in common have prompt and media in common, single calls of one prompt among them."""
    return digest_of(repr(prompt), *(data for media in group.media for data in encoded(media)))
