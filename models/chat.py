"""From chat messages to pieces: text, control tokens and pictures, in the order the model reads them.

The layout is ChatML as Qwen2.5-VL's published chat template writes it. Checkpoints bring chat
templates as programs; those are not run.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rewardhub.errors import InvalidInput
from rewardhub.types import Message, Response

START, END = "<|im_start|>", "<|im_end|>"
VISION_START, VISION_END, IMAGE, VIDEO = "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"
CONTROLS = (START, END, VISION_START, VISION_END, IMAGE, VIDEO)
SYSTEM = "You are a helpful assistant."
ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True, slots=True)
class Control:
    """One control token."""

    token: str


@dataclass(frozen=True, slots=True)
class Picture:
    """The placeholder of one image, by its index among the media."""

    media: int


Piece = str | Control | Picture


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """ChatML; ``system`` is said first where the prompt has no system message, "" is none."""

    system: str = SYSTEM

    def prompt(self, prompt: str | Sequence[Message], media_count: int) -> list[Piece]:
        """The prompt's turns up to the start of the answer's turn, whose role follows as text.

        Raises ``InvalidInput`` for an unknown role or part, and where pictures and media differ in number.
        """
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
        pieces: list[Piece] = []
        if self.system and (not messages or messages[0].get("role") != "system"):
            pieces += self.turn("system", [self.system])
        for role, content in _turns(messages, media_count, 0, "prompt"):
            pieces += self.turn(role, content)
        return pieces

    def answer(self, response: Response, media_offset: int) -> list[Piece]:
        """The response's turns; pictures count from ``media_offset``."""
        messages: Sequence[Message] = response.messages or [{"role": "assistant", "content": response.text}]
        turns = _turns(messages, len(response.media), media_offset, "response")
        return [piece for role, content in turns for piece in self.turn(role, content)]

    def asking(self, content: Sequence[Piece]) -> list[Piece]:
        """One user turn of these pieces, after the system message."""
        system = self.turn("system", [self.system]) if self.system else []
        return [*system, *self.turn("user", content)]

    def opening(self) -> list[Piece]:
        """The start of the answer's turn, for a model that writes the answer itself."""
        return [Control(START), "assistant\n"]

    def turn(self, role: str, content: Sequence[Piece]) -> list[Piece]:
        """One turn of these pieces."""
        return [Control(START), f"{role}\n", *content, Control(END), "\n"]


def flat(content: str | Sequence[Message], media_count: int) -> list[Piece]:
    """The text and pictures of messages without their turns; more than one message is told by role."""
    messages = [{"role": "user", "content": content}] if isinstance(content, str) else list(content)
    turns = list(_turns(messages, media_count, 0, "content"))
    if len(turns) == 1:
        return turns[0][1]
    return [piece for role, pieces in turns for piece in (f"{role}: ", *pieces, "\n")]


def shifted(pieces: Sequence[Piece], offset: int) -> list[Piece]:
    """The pieces with their pictures renumbered from ``offset``."""
    return [Picture(piece.media + offset) if isinstance(piece, Picture) else piece for piece in pieces]


def _turns(messages: Sequence[Message], media_count: int, offset: int, field: str) -> Iterator[tuple[str, list[Piece]]]:
    if not all(isinstance(message, Mapping) for message in messages):
        raise InvalidInput("a message is not an object", field=field)
    contents = [_content(message, offset, field) for message in messages]
    used = {piece.media - offset for content in contents for piece in content if isinstance(piece, Picture)}
    if not used and media_count:
        first = next((i for i, message in enumerate(messages) if message.get("role") != "system"), None)
        if first is None:
            raise InvalidInput(f"{media_count} media and no message to show them in", field=f"{field}.media")
        contents[first][:0] = [Picture(offset + index) for index in range(media_count)]
    elif used != set(range(media_count)):
        named = sorted(used)
        raise InvalidInput(f"{media_count} media, but the parts name {named}", field=f"{field}.media")
    for message, content in zip(messages, contents, strict=True):
        yield _role(message, field), content


def _role(message: Message, field: str) -> str:
    role = message.get("role")
    if role not in ROLES:
        raise InvalidInput(f"unknown role {role!r}; known: {', '.join(ROLES)}", field=f"{field}.role")
    return str(role)


def _content(message: Message, offset: int, field: str) -> list[Piece]:
    content = message.get("content") or ""
    if isinstance(content, str):
        return [content]
    if not isinstance(content, Sequence):
        raise InvalidInput("content is neither text nor a list of parts", field=f"{field}.content")
    return [_part(part, offset, field) for part in content]


def _part(part: Any, offset: int, field: str) -> Piece:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    if kind == "image" and type(part.get("media")) is int and part["media"] >= 0:
        return Picture(offset + int(part["media"]))
    raise InvalidInput("a content part is neither text nor an image that names its media", field=f"{field}.content")
