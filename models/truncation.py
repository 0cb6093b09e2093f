"""Rows that are too long for their model: an error, or the oldest text of the prompt left out, as the card says.

What a response loses depends on its own length alone, so that its score is the same in any company.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property

from rewardhub.errors import OverLimit
from rewardhub.models.card import TRUNCATED
from rewardhub.models.inputs import Encoded, Row
from rewardhub.models.model import Checkpoint
from rewardhub.models.text import TextTokenizer
from rewardhub.types import Media, Message, Score

STEPS = 16
"""Tokens are left out by this share of the limit: responses of like length lose the same, and share what is left."""


def fitted(checkpoint: Checkpoint, lay: Callable[[int], Row], ends: Callable[[], Sequence[int]], more: int = 0) -> Row:
    """The row that leaves room for ``more`` tokens behind it.

    ``lay`` makes it without so many characters of what may be left out, whose tokens end at ``ends``.
    Raises ``OverLimit`` where the row is too long and its card allows no truncation, or none suffices.
    """
    row, limit = lay(0), checkpoint.max_tokens - more
    over = len(row.encoded) - limit
    if over > 0 and checkpoint.card.truncation == "left":
        step = max(1, limit // STEPS)
        places = [0, *ends()]
        last = len(places) - 1
        for tokens in (*range(math.ceil(over / step) * step, last, step), last):
            cut = lay(places[tokens])
            if len(cut.encoded) <= limit:
                return replace(cut, truncated=len(row.encoded) - len(cut.encoded))
    if over > 0:
        raise OverLimit(f"{len(row.encoded) + more} tokens, over the model's limit of {checkpoint.max_tokens}")
    return row


def token_ends(tokenizer: TextTokenizer, text: str) -> list[int]:
    """The characters of a text behind which its tokens end."""
    return [end for _, end in tokenizer.offsets(text)]


def flagged(score: Score, truncated: int) -> Score:
    """The score with the detail that ``truncated`` tokens of its prompt were left out, if any were."""
    return replace(score, details={**score.details, TRUNCATED: truncated}) if truncated else score


class Prompt:
    """A group's prompt and media, encoded once for each number of characters that are left out of it.

    Raises ``InvalidInput`` for a prompt that leaves no room for the ``least`` tokens of any response, however much
    of it is left out.
    """

    def __init__(
        self, checkpoint: Checkpoint, prompt: str | Sequence[Message], media: Sequence[Media], least: int
    ) -> None:
        self.checkpoint = checkpoint
        self.prompt = prompt
        self.media = media
        self._known: dict[tuple[int, int], Encoded] = {}
        prefix = self.without(0)
        if checkpoint.card.truncation == "left" and len(prefix) + least > checkpoint.max_tokens:
            prefix = self.without(len(self._text))
        checkpoint.check_prompt(prefix, least)

    def without(self, characters: int, beside: int = 0) -> Encoded:
        """The prompt without its oldest text, in a conversation that shows ``beside`` further images."""
        encoder = self.checkpoint.encoder
        key = characters, beside if encoder.reader.several_differ else 0
        if key not in self._known:
            self._known[key] = encoder.prefix(self.prompt, self.media, key[1], characters)
        return self._known[key]

    def ends(self) -> list[int]:
        """Where the tokens end that may be left out, oldest first: all text but that of system messages."""
        return self._ends

    @cached_property
    def _text(self) -> str:
        return self.checkpoint.encoder.template.text(self.prompt, len(self.media))

    @cached_property
    def _ends(self) -> list[int]:
        return token_ends(self.checkpoint.encoder.tokenizer, self._text)
