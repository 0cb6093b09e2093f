"""From chat messages to pieces: text, control tokens and pictures, in the order the model reads them.

A family's turns are written in its :class:`~rewardhub.models.style.Style`, as its published chat template writes
them. Checkpoints bring chat templates as programs; those are not run.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

from rewardhub.errors import InvalidInput
from rewardhub.models.style import CHATML, END, INST, INST_END, START, Style
from rewardhub.models.thoughts import with_thoughts, without_thoughts
from rewardhub.models.tools import BEFORE, BEHIND, with_calls
from rewardhub.types import Message, Response

VISION_START, VISION_END, IMAGE, VIDEO = "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"
CONTROLS = (START, END, VISION_START, VISION_END, IMAGE, VIDEO)
SYSTEM = "You are a helpful assistant."
ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True, slots=True)
class Control:
    """One control token; with ``or_text`` it is its own text where the tokenizer has no such token."""

    token: str
    or_text: bool = False


@dataclass(frozen=True, slots=True)
class Picture:
    """The placeholder of one image, by its index among the media."""

    media: int


class Joined(str):
    """Text that goes on from the text before it: a tokenizer that begins a text with a space adds none."""

    __slots__ = ()


Piece = str | Control | Picture
Turn = tuple[str, list[Piece]]
"""A role and what it says."""


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """Turns in a style; ``system`` is said first where the prompt has no system message, "" is none."""

    system: str = SYSTEM
    style: Style = CHATML

    def prompt(self, prompt: str | Sequence[Message], media_count: int, without: int = 0) -> list[Piece]:
        """The prompt's turns up to the start of the answer's turn, whose role follows as text.

        ``without`` characters of its :meth:`text` are left out. Raises ``InvalidInput`` for an unknown role or
        part, and where pictures and media differ in number.
        """
        said = list(_without(self._prompt_turns(prompt, media_count), without))
        turns = self._begun(_from_user(said) if without and self.style.tags else said)
        return self._written(self._answered(self._thought(turns, ends=False)))

    def text(self, prompt: str | Sequence[Message], media_count: int) -> str:
        """The text of the prompt's messages but the system's, in their order: what may be left out of it."""
        turns = self._prompt_turns(prompt, media_count)
        return "".join(text_of(content) for role, content in turns if role != "system")

    def answer(self, response: Response, media_offset: int, *, asked: bool = False) -> list[Piece]:
        """The response's turns; pictures count from ``media_offset``. ``asked`` says that a user's turn follows."""
        messages: Sequence[Message] = response.messages or [{"role": "assistant", "content": response.text}]
        turns = list(_turns(messages, len(response.media), media_offset, "response", self.style))
        if self.style.tags:
            _check_order([role for role, _ in turns], "assistant", "response.role")
        said = [(role, self.said(content, role)) for role, content in turns]
        thought = self._thought(said, ends=not asked, asked=asked)
        return [piece for role, content in self._answered(thought) for piece in self.turn(role, content)]

    def said(self, content: Sequence[Piece], role: str = "assistant") -> list[Piece]:
        """A message's pieces as this style writes them."""
        if role == "tool" and self.style.answers == "quoted":
            return [json.dumps(text_of(content), ensure_ascii=False)]
        pieces = list(content)
        if self.style.trimmed == "each":
            return [piece.strip() if isinstance(piece, str) else piece for piece in pieces]
        if self.style.trimmed == "answers":
            return [piece.strip() if isinstance(piece, str) and role == "assistant" else piece for piece in pieces]
        if self.style.trimmed == "whole" and pieces:
            if isinstance(pieces[0], str):
                pieces[0] = pieces[0].lstrip()
            if isinstance(pieces[-1], str):
                pieces[-1] = pieces[-1].rstrip()
        return pieces

    def asking(self, content: Sequence[Piece]) -> list[Piece]:
        """One user turn of these pieces, after the system message."""
        return self._written(self._begun([("user", _run_together(content))]))

    def question(self, text: str) -> list[Piece]:
        """A user's turn of this text."""
        return self.turn("user", self.said([text], "user"))

    def opening(self, role: str = "assistant") -> list[Piece]:
        """The start of a turn: the answer's, for a model that writes the answer itself."""
        style = self.style
        if style.tags:
            return self._tagged(role)
        name = style.header.format(role=dict(style.names).get(role, role))
        pieces = [Control(style.start) if style.start else "", name]
        pieces += [Control(style.header_end), style.behind_header] if style.header_end else []
        return [piece for piece in pieces if piece]

    def turn(self, role: str, content: Sequence[Piece]) -> list[Piece]:
        """One turn of these pieces."""
        if self.style.tags and role != "assistant":
            return [*self.opening(role), *content]
        space = [" "] if self.style.spaced and content and isinstance(content[0], str) else []
        return [*self.opening(role), *space, *content, Control(self.style.end), self.style.behind]

    def _begun(self, turns: Iterable[Turn]) -> list[Turn]:
        """The turns as this style writes them, behind a system message."""
        found, lead = list(turns), self.style.lead
        if self.system and (not found or found[0][0] != "system"):
            found.insert(0, ("system", [self.system.removeprefix(lead)]))
        # What stands in front of a user's text is not trimmed.
        raw = self.style.system != "turn"
        said = [(role, content if raw and role == "system" else self.said(content, role)) for role, content in found]
        if lead and said and said[0][0] == "system":
            said[0] = ("system", [lead, *said[0][1]])
        return said

    def _tagged(self, role: str) -> list[Piece]:
        """Mistral's openings: an answer's ends the user's turn, so that prompts end with their text."""
        tags = self.style.tags
        assert tags is not None
        before, behind = tags.inner
        if tags.controls:
            found: list[Piece] = [behind, Control(INST_END)] if role == "assistant" else [Control(INST), before]
            return [piece for piece in found if piece]
        return [Joined(behind + INST_END) if role == "assistant" else tags.before + INST + before]

    def _thought(self, turns: list[Turn], *, ends: bool, asked: bool = False) -> list[Turn]:
        """The turns with thoughts as this style writes them, and whether the conversation ends with them.

        ``asked`` says that a user's turn follows.
        """
        style = self.style
        if not style.thinks:
            return turns
        question = max((index for index, turn in enumerate(turns) if _asks(turn)), default=-1)
        question = len(turns) if asked else question
        found: list[Turn] = []
        for index, (role, content) in enumerate(turns):
            said = content
            if role == "assistant" and index < question:
                said = without_thoughts(content)
            elif role == "assistant":
                empty = style.thinks == "every" or (ends and index == len(turns) - 1)
                said = with_thoughts(content, empty=empty, trimmed=bool(style.trimmed))
            found.append((role, said))
        return found

    def _answered(self, turns: Iterable[Turn]) -> list[Turn]:
        """The turns, those of tools as this style writes them: as a user's, several behind one another as one."""
        if self.style.answers != "user":
            return list(turns)
        found: list[Turn] = []
        for of_tools, each in groupby(turns, lambda turn: turn[0] == "tool"):
            if not of_tools:
                found += each
                continue
            told = [piece for _, content in each for piece in ("\n", BEFORE, *content, BEHIND)]
            found.append(("user", told[1:]))
        return found

    def _prompt_turns(self, prompt: str | Sequence[Message], media_count: int) -> list[Turn]:
        return list(_turns(_messages(prompt, "prompt"), media_count, 0, "prompt", self.style))

    def _written(self, turns: Sequence[Turn]) -> list[Piece]:
        """The turns from the very beginning."""
        style = self.style
        pieces: list[Piece] = [Control(style.begin)] if style.begin else []
        if turns and turns[0][0] == "system" and style.system != "turn":
            users = [index for index, (role, _) in enumerate(turns) if role == "user"]
            if not users:
                turns = [("user", turns[0][1]), *turns[1:]]
            else:
                at = users[-1 if style.system == "last" else 0]
                merged: list[Piece] = [*turns[0][1], "\n\n", *turns[at][1]]
                turns = [*turns[1:at], ("user", merged), *turns[at + 1 :]]
        if style.tags:
            _check_order([role for role, _ in turns], "user", "prompt.role")
        for role, content in turns:
            pieces += self.turn(role, content)
        return pieces


def _from_user(turns: list[Turn]) -> list[Turn]:
    """The turns without the answers to what was left out in front of them."""
    gone = next((index for index, (role, _) in enumerate(turns) if role == "user"), 0)
    return [turn for index, turn in enumerate(turns) if index >= gone or turn[0] == "system"]


def _check_order(roles: Sequence[str], ends: Literal["user", "assistant"], field: str) -> None:
    """Raises ``InvalidInput`` where user and assistant do not take turns, ``ends`` being the first and the last."""
    other = "assistant" if ends == "user" else "user"
    if not len(roles) % 2 or any(role != (ends, other)[index % 2] for index, role in enumerate(roles)):
        raise InvalidInput("the model's own chat template has user and assistant take turns", field=field)


def _run_together(content: Sequence[Piece]) -> list[Piece]:
    """The pieces, neighbouring texts as one."""
    found: list[Piece] = []
    for piece in content:
        before = found[-1] if found else None
        if isinstance(piece, str) and isinstance(before, str):
            found[-1] = before + piece
        else:
            found.append(piece)
    return found


def _asks(turn: Turn) -> bool:
    """Whether a user says something, rather than a tool in a user's turn."""
    role, content = turn
    text = text_of(content)
    return role == "user" and not (text.startswith(BEFORE.strip()) and text.endswith(BEHIND.strip()))


def flat(content: str | Sequence[Message], media_count: int) -> list[Piece]:
    """The text and pictures of messages without their turns; more than one message is told by role."""
    turns = list(_turns(_messages(content, "content"), media_count, 0, "content"))
    if len(turns) == 1:
        return turns[0][1]
    return [piece for role, pieces in turns for piece in (f"{role}: ", *pieces, "\n")]


def _messages(content: str | Sequence[Message], field: str) -> Sequence[Message]:
    if not isinstance(content, Sequence):
        raise InvalidInput(f"neither text nor a list of messages but {type(content).__name__}", field=field)
    return [{"role": "user", "content": content}] if isinstance(content, str) else content


def text_of(pieces: Sequence[Piece]) -> str:
    """The text of pieces, in their order."""
    return "".join(piece for piece in pieces if isinstance(piece, str))


def without_first(pieces: Sequence[Piece], characters: int) -> list[Piece]:
    """The pieces without the first characters of their text."""
    found: list[Piece] = []
    for piece in pieces:
        if not isinstance(piece, str):
            found.append(piece)
            continue
        found.append(piece[characters:])
        characters = max(0, characters - len(piece))
    return found


def shifted(pieces: Sequence[Piece], offset: int) -> list[Piece]:
    """The pieces with their pictures renumbered from ``offset``."""
    return [Picture(piece.media + offset) if isinstance(piece, Picture) else piece for piece in pieces]


def _without(turns: Sequence[Turn], characters: int) -> Iterator[Turn]:
    """The turns without the first characters of their text; what is said by the system stays, and so do pictures.

    A turn of which nothing is left is left out, but for the last.
    """
    for number, (role, content) in enumerate(turns):
        if role == "system" or not characters:
            yield role, content
            continue
        shown = without_first(content, characters)
        if any(shown) or number == len(turns) - 1:
            yield role, shown
        characters = max(0, characters - len(text_of(content)))


def _turns(
    messages: Sequence[Message], media_count: int, offset: int, field: str, style: Style = CHATML
) -> Iterator[Turn]:
    if not all(isinstance(message, Mapping) for message in messages):
        raise InvalidInput("a message is not an object", field=field)
    contents = [_content(message, offset, field, style) for message in messages]
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
        yield _role(message, field, style), content


def _role(message: Message, field: str, style: Style) -> str:
    role = message.get("role")
    if role not in ROLES:
        raise InvalidInput(f"unknown role {role!r}; known: {', '.join(ROLES)}", field=f"{field}.role")
    if role == "system" and style.system == "none":
        raise InvalidInput("the model's own chat template has no system message", field=f"{field}.role")
    if role == "tool" and style.answers == "none":
        raise InvalidInput("the model's own chat template has no turn of a tool", field=f"{field}.role")
    return str(role)


def _content(message: Message, offset: int, field: str, style: Style) -> list[Piece]:
    content = message.get("content") or ""
    if not isinstance(content, Sequence):
        raise InvalidInput("content is neither text nor a list of parts", field=f"{field}.content")
    pieces: list[Piece] = [content] if isinstance(content, str) else [_part(part, offset, field) for part in content]
    if not message.get("tool_calls"):
        return pieces
    said = pieces.pop() if pieces and isinstance(pieces[-1], str) else ""
    said = str(said).strip() if style.trimmed else str(said)
    return [*pieces, with_calls(said, message["tool_calls"], style.calls, f"{field}.tool_calls")]


def _part(part: Any, offset: int, field: str) -> Piece:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    if kind == "image" and type(part.get("media")) is int and part["media"] >= 0:
        return Picture(offset + int(part["media"]))
    raise InvalidInput("a content part is neither text nor an image that names its media", field=f"{field}.content")
