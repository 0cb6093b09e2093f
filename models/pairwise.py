"""Generative pairwise models: the next token after the question which answer is better, or votes written out.

Votes: R1-Reward, arXiv 2505.02835, writes its reasons and then ``<answer>1</answer>`` or 2; several are
sampled in both orders and their share is the probability.
"""

import math
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from itertools import permutations

import torch
from torch import Tensor

from rewardhub.errors import InvalidInput, OverLimit, ScoringError
from rewardhub.models.card import MARKERS, TRUNCATED, Card
from rewardhub.models.chat import Piece, flat, shifted, text_of, without_first
from rewardhub.models.engine import EngineModel
from rewardhub.models.inputs import Encoded, Row, Shown
from rewardhub.models.memory import memory_errors
from rewardhub.models.model import finite
from rewardhub.models.rows import media_of, prompt_of
from rewardhub.models.truncation import fitted, flagged, token_ends
from rewardhub.raised import failure
from rewardhub.types import Column, Group, Media, Message, Response, Score, Status

Pair = tuple[int, int]

MOST_COMPARED = 128
"""Responses of one group: comparisons grow with their square."""


@dataclass
class Content:
    """Text and pictures, and the media that the pictures name, each with what it shows alone."""

    pieces: list[Piece]
    media: Sequence[Media] = ()
    images: Sequence[Shown] = ()
    tokens: int = 0

    def text(self) -> str:
        return text_of(self.pieces)

    def without(self, characters: int) -> "Content":
        """Without the first characters of its text; media stay."""
        return replace(self, pieces=without_first(self.pieces, characters))


NOTHING = Content([])


@dataclass
class Comparisons:
    """A group's responses that cannot be shown, and the sequences of all ordered pairs of the others."""

    failures: dict[int, Score] = field(default_factory=dict)
    rows: dict[Pair, Row | Score] = field(default_factory=dict)
    share_first: bool = False
    """Whether sequences share their first answer, not the prompt alone: fewer tokens where answers are long."""

    def kin(self, offset: int) -> list[list[int]]:
        """The sequences that begin alike, numbered from ``offset``."""
        found: dict[Pair, list[int]] = defaultdict(list)
        ready = [(first, row.truncated) for (first, _), row in self.rows.items() if isinstance(row, Row)]
        for index, (first, truncated) in enumerate(ready):
            found[first if self.share_first else 0, truncated].append(offset + index)
        return list(found.values())


class PairwiseModel(EngineModel):
    """The value of a response is the probability that it is preferred, a mean over its opponents.

    Each pair is shown in both orders, which cancels a liking for the first or second place
    (RLHFlow, pair preference models). A group of G costs G·(G-1) sequences, and may hold 128. A response may fill half
    of the room that the prompt leaves in the context, or would leave without its text where the card allows
    truncation; a longer one is ``over_limit``, so that no response loses its comparison to another's length.
    """

    def __init__(self, card: Card) -> None:
        super().__init__(card, "replies")
        self.reply = card.votes.max_tokens + 1 if card.votes.count else 0

    def score(self, groups: Sequence[Group]) -> list[Column]:
        encoded = [self.encode(group) for group in groups]
        ready: list[Row] = []
        kin: list[list[int]] = []
        for each in encoded:
            kin += each.kin(len(ready))
            ready += [row for row in each.rows.values() if isinstance(row, Row)]
        with memory_errors():
            values = iter(self.first_wins(ready, kin, media_of(groups)))
        columns = []
        for group, each in zip(groups, encoded, strict=True):
            wins = {
                pair: flagged(next(values), row.truncated) if isinstance(row, Row) else row
                for pair, row in each.rows.items()
            }
            merits = [
                each.failures.get(index) or _merit(index, len(group.responses), wins)
                for index in range(len(group.responses))
            ]
            columns.append(Column.of(merits, self.fingerprint))
        return columns

    def encode(self, group: Group) -> Comparisons:
        count = len(group.responses)
        try:
            if count > MOST_COMPARED:
                reason = (
                    f"{count} responses are {count * (count - 1)} comparisons; at most {MOST_COMPARED} are compared"
                )
                raise InvalidInput(reason, field="responses")
            prompt = self._shown(prompt_of(self.card, group), group.media)
            least = prompt.without(len(prompt.text())) if self.card.truncation == "left" else prompt
            empty = len(self.checkpoint.check_prompt(self._sequence(least, NOTHING, NOTHING), self.reply))
            room = max(0, self.checkpoint.max_tokens - empty - self.reply)
        except ScoringError as error:
            return Comparisons(dict.fromkeys(range(count), failure(error)))
        ends = cache(partial(token_ends, self.checkpoint.encoder.tokenizer, prompt.text()))
        answers: dict[int, Content] = {}
        found = Comparisons()
        refused = self.engine.refused(group)
        for index, response in enumerate(group.responses):
            try:
                shown = self._answer(response, least, empty, room // 2)
            except ScoringError as error:
                found.failures[index] = failure(error)
                continue
            if index in refused:
                found.failures[index] = refused[index]
            else:
                answers[index] = shown
        # Sharing the first answer too costs G(P + R) tokens in place of P + 2(G - 1)R, R being all answers.
        spent = sum(answer.tokens for answer in answers.values())
        found.share_first = empty * (len(answers) - 1) < spent * (len(answers) - 2)
        for first, second in permutations(answers, 2):
            found.rows[first, second] = self._row(prompt, answers[first], answers[second], ends)
        return found

    def first_wins(self, rows: Sequence[Row], kin: Sequence[Sequence[int]], media: Sequence[Media]) -> list[Score]:
        """The probability that the first answer of each sequence is named the better one."""
        if count := self.card.votes.count:
            return [_share(each) for each in self.engine.texts([row.encoded for row in rows], count, media)]
        found = self.engine.outputs(rows, kin, media)
        return [each if isinstance(each, Score) else _chance(each) for each in found]

    def _answer(self, response: Response, prompt: Content, empty: int, room: int) -> Content:
        """The answer, of as many tokens as it adds to ``empty`` ones in either place: alone it may have fewer."""
        shown = self._shown(response.messages or response.text, response.media)
        places = self._sequence(prompt, shown, NOTHING), self._sequence(prompt, NOTHING, shown)
        shown.tokens = max(map(len, places)) - empty
        if shown.tokens > room:
            raise OverLimit(f"{shown.tokens} tokens, over the {room} that a compared answer may fill")
        return shown

    def _shown(self, content: str | Sequence[Message], media: Sequence[Media]) -> Content:
        return Content(flat(content, len(media)), media, [self.checkpoint.encoder.patches(each) for each in media])

    def _row(self, prompt: Content, first: Content, second: Content, ends: Callable[[], list[int]]) -> Row | Score:
        def lay(without: int) -> Row:
            encoded = self._sequence(prompt.without(without), first, second)
            return Row(encoded, (len(encoded) - 1,))

        try:
            return fitted(self.checkpoint, lay, ends, self.reply)
        except ScoringError as error:
            return failure(error)

    def _sequence(self, prompt: Content, first: Content, second: Content) -> Encoded:
        encoder, text = self.checkpoint.encoder, self.card.instruction
        parts = dict(zip(MARKERS, (prompt, first, second), strict=True))
        media: list[Media] = []
        images: list[Shown] = []
        pieces: list[Piece] = []
        for marker in sorted(MARKERS, key=text.index):
            before, text = text.split(marker, 1)
            pieces += [before, *shifted(parts[marker].pieces, len(media))]
            media += parts[marker].media
            images += parts[marker].images
        if encoder.reader.several_differ:
            images = encoder.shown(media)
        asked = encoder.template.asking([*pieces, text])
        opening = encoder.template.opening() if self.card.votes.count else self.checkpoint.reply_opening()
        return encoder.pieces([*asked, *opening], images)


def _share(texts: list[str] | Score) -> Score:
    """The share of votes for the first answer among those that name one."""
    if isinstance(texts, Score):
        return texts
    votes = [vote for vote in map(verdict, texts) if vote]
    if not votes:
        return Score(None, Status.JUDGE_UNPARSEABLE, details={"reason": "no vote names an answer"})
    return Score(votes.count(1) / len(votes))


def _chance(logits: Tensor) -> Score:
    """Of the first reply against the second, from their logits [1, 2]."""
    return finite(float(torch.sigmoid(logits[0, 0] - logits[0, 1])) if logits.isfinite().all() else math.nan)


VERDICT = re.compile(r"<answer>\s*([12])\s*</answer>\s*\Z")


def verdict(text: str) -> int:
    """The answer that a written comparison names at its very end, 1 or 2; 0 for none."""
    found = VERDICT.search(text)
    return int(found[1]) if found else 0


def _merit(index: int, count: int, wins: dict[Pair, Score]) -> Score:
    """The mean over opponents of the mean over both orders."""
    chances: list[float] = []
    failed: list[Score] = []
    truncated = 0
    for other in range(count):
        ahead, behind = wins.get((index, other)), wins.get((other, index))
        if ahead is None or behind is None:
            continue
        if ahead.value is None or behind.value is None:
            failed.append(ahead if ahead.value is None else behind)
        else:
            truncated = max(truncated, ahead.details.get(TRUNCATED, 0), behind.details.get(TRUNCATED, 0))
            chances.append((ahead.value + 1.0 - behind.value) / 2)
    if failed:
        return failed[0]
    if not chances:
        return Score(None, Status.INCOMPLETE_GROUP, details={"reason": "no response to compare this one with"})
    return flagged(Score(sum(chances) / len(chances), details={"opponents": len(chances)}), truncated)
