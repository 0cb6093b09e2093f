"""Process reward models: the chance of each step to be right, and one number for all of them."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from rewardhub.errors import InvalidInput, NoAnswer
from rewardhub.models.card import Card
from rewardhub.models.chat import Control, Joined, Piece
from rewardhub.models.inputs import Encoded, Row
from rewardhub.models.rows import RowModel
from rewardhub.models.thoughts import EMPTY, END
from rewardhub.types import Group, Response, Score

Span = tuple[int, int]

AGGREGATES: dict[str, Callable[[Sequence[float]], float]] = {
    "min": min,
    "mean": lambda chances: sum(chances) / len(chances),
    "product": math.prod,
    "last": lambda chances: chances[-1],
}


class ProcessModel(RowModel):
    """The value is the aggregate of the steps' chances, which are the score's ``steps``.

    A chance is the sigmoid of a head with one output, the last class of a head with two (Qwen2.5-Math-PRM,
    arXiv 2501.07301), or, where the card names choices, the first reply against the second by the
    language head at the step's end (Math-Shepherd, arXiv 2312.08935).
    """

    def __init__(self, card: Card) -> None:
        self.reads = "head" if card.choices is None else "replies"
        super().__init__(card)
        self.check_outputs(1, 2)
        self.step_token = self.encoder.tokenizer.control(card.steps.token) if card.steps.token else None

    def row(self, prefix: Encoded, group: Group, response: Response) -> Row:
        text, spans = self._said(response.text, steps_of(response, self.card.steps.separator))
        encoder = self.encoder
        if self.step_token is None:
            encoded = prefix + encoder.pieces(self._turn(text), ())
            return Row(encoded, self._ends(len(prefix), text, spans))
        *lead, _, end, behind = self._turn(text)
        encoded, places, at = prefix, [], 0
        for start, stop in spans:
            shown: list[Piece] = [*lead, self._between(text[at:start]), text[start:stop]]
            encoded = encoded + encoder.pieces([*shown, Control(self.card.steps.token)], ())
            places.append(len(encoded) - 1)
            lead, at = [], stop
        return Row(encoded + encoder.pieces([self._between(text[at:]), end, behind], ()), tuple(places))

    def _turn(self, text: str) -> list[Piece]:
        """The answer's turn, the text its last piece but two; thoughts of its own stay where steps are counted."""
        template = self.encoder.template
        *opened, said, end, behind = template.turn("assistant", [text])
        block = [] if END in text or not template.style.thinks else [EMPTY]
        return [*opened, *block, said, end, behind]

    def _said(self, text: str, spans: Sequence[Span]) -> tuple[str, list[Span]]:
        """The text as the family's style writes it, and its steps there."""
        template = self.encoder.template
        (said,) = template.said([text])
        shown = str(said).lstrip("\n") if template.style.thinks else str(said)
        cut = text.find(shown)
        return shown, [
            (min(max(start - cut, 0), len(shown)), min(max(stop - cut, 0), len(shown))) for start, stop in spans
        ]

    def _between(self, text: str) -> str:
        """What is shown of the text between two steps: nothing of a separator, for which the token stands."""
        steps = self.card.steps
        return text if steps.keep_separator or text.replace(steps.separator, "").strip() else ""

    def read(self, row: Row, outputs: Tensor) -> Score:
        chances = [float(chance) for chance in self._chances(outputs)]
        return Score(AGGREGATES[self.card.steps.aggregate](chances), steps=tuple(chances))

    def _chances(self, outputs: Tensor) -> Tensor:
        if outputs.shape[1] == 1:
            return torch.sigmoid(outputs[:, 0])
        return torch.softmax(outputs, -1)[:, 0 if self.reads == "replies" else 1]

    def _ends(self, start: int, text: str, spans: Sequence[Span]) -> tuple[int, ...]:
        """The last token of each span of the answer's turn, whose opening ends in text of its own."""
        encoder = self.encoder
        *opened, _, _, _ = self._turn(text)
        last = max((index for index, piece in enumerate(opened) if isinstance(piece, Control)), default=-1)
        before, lead = opened[: last + 1], "".join(map(str, opened[last + 1 :]))
        joined = isinstance(opened[last + 1], Joined) if opened[last + 1 :] else False
        begins = [begin for begin, _ in encoder.tokenizer.offsets(lead + text, joined=joined)]
        first = start + len(encoder.pieces(before, ())) - 1
        return tuple(first + sum(begin < len(lead) + stop for begin in begins) for _, stop in spans)


def steps_of(response: Response, separator: str) -> list[Span]:
    """The response's own spans, else the pieces of text between separators, blank ones left out.

    Raises ``NoAnswer`` where there is no step and ``InvalidInput`` for a trajectory, images or spans out of order.
    """
    if response.messages:
        raise InvalidInput("a process model reads text, not a trajectory", field="response.messages")
    if response.media:
        raise InvalidInput("a process model reads text, not a response's images", field="response.media")
    text = response.text
    if response.steps:
        edges = [edge for span in response.steps for edge in span]
        if edges != sorted(edges) or edges[0] < 0 or edges[-1] > len(text) or any(a == b for a, b in response.steps):
            raise InvalidInput("steps are not spans of the text in order", field="response.steps")
        return list(response.steps)
    spans: list[Span] = []
    at = 0
    for piece in text.split(separator):
        if piece.strip():
            spans.append((at, at + len(piece)))
        at += len(piece) + len(separator)
    if not spans:
        raise NoAnswer("the response holds no step")
    return spans
