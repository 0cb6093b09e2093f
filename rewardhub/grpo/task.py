"""What is trained on: a task gives prompts with references, and knows the truth apart from any reward.

The built-in one is colour naming: a synthetic image of one coloured shape, and the question which of
eight colours it has.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from rewardhub.models.colours import answer, colour_items
from rewardhub.types import Json, Media, Message

STREAMS = 1000
"""Streams per seed; the last one is reserved for evaluation."""


@dataclass(frozen=True, slots=True)
class Example:
    """One prompt; ``target`` is the text that supervised training teaches."""

    prompt: tuple[Message, ...]
    media: tuple[Media, ...]
    reference: Json
    target: str


class Task(Protocol):
    """An endless stream of examples for training, and others that are reserved for evaluation."""

    def examples(self, stream: int) -> Iterator[Example]:
        """An endless stream, the same for the same number, other examples for another."""
        ...

    def reserved(self, count: int) -> Sequence[Example]:
        """Examples that no stream ever yields."""
        ...

    def is_right(self, example: Example, text: str) -> bool:
        """The truth, which no reward can be talked out of: evaluation does not ask what is optimised."""
        ...


class ColourTask:
    """Colour naming on 56-pixel images; ``<answer>red</answer>`` is right where the shape is red."""

    def __init__(self, seed: int, reserved: int) -> None:
        self._seed = seed
        items = itertools.islice(colour_items(seed * STREAMS + STREAMS - 1), reserved)
        self._reserved = {item.media.sha256: _example(item.question, item.media, item.colour) for item in items}

    def examples(self, stream: int) -> Iterator[Example]:
        for item in colour_items(self._seed * STREAMS + stream):
            if item.media.sha256 not in self._reserved:
                yield _example(item.question, item.media, item.colour)

    def reserved(self, count: int) -> Sequence[Example]:
        return list(self._reserved.values())[:count]

    def is_right(self, example: Example, text: str) -> bool:
        inside = text.partition("<answer>")[2].partition("</answer>")[0]
        return inside.strip() == example.reference["answer"]


def _example(question: str, media: Media, colour: str) -> Example:
    content = [{"type": "image", "media": 0}, {"type": "text", "text": question}]
    prompt = ({"role": "user", "content": content},)
    return Example(prompt, (media,), {"answer": colour}, answer(colour))
