"""The verdict parser: one anchored last line, or no verdict at all.

A judge reasons first and ends its reply with ``VERDICT[nonce]: …``. The nonce is fresh for each call,
so nothing written before the call can stand in for the verdict. Whatever is out of range, doubled,
missing or garbled raises ``JudgeUnparseable``: it never becomes a number.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import re2

from rewardhub.errors import JudgeUnparseable

MOST_CHOICES = 128
_THINKS, _THOUGHT = "<think>", "</think>"
_WHOLE = re2.compile(r"-?[0-9]{1,6}")
_DECIMAL = re2.compile(r"-?[0-9]{1,6}(\.[0-9]{1,6})?")


@dataclass(frozen=True, slots=True)
class Form:
    """How a verdict is written: ``hint`` tells the judge, ``read`` parses or raises ``JudgeUnparseable``.

    ``choices`` are all verdicts there are, where they can be listed.
    """

    hint: str
    read: Callable[[str], Any]
    choices: tuple[str, ...] = ()


def read_verdict(reply: str, nonce: str, form: Form) -> tuple[Any, str]:
    """The verdict on the last line of ``reply``, which must be the only one with this nonce behind its thoughts, and
    the reasoning before it, thoughts included.
    """
    marker = f"VERDICT[{nonce}]"
    thoughts, said = _thought_and_said(reply)
    found = said.count(marker)
    if found != 1:
        raise JudgeUnparseable("the reply holds no verdict" if found == 0 else f"the reply holds {found} verdicts")
    reasoning, _, last = said.rstrip().rpartition("\n")
    head, _, body = last.partition(": ")
    if head != marker:
        raise JudgeUnparseable("the verdict is not the last line in the form asked for")
    return form.read(body), _reasoning(thoughts, reasoning)


def read_structured(reply: str, nonce: str, form: Form) -> tuple[Any, str]:
    """Verdict and reasoning of a reply held to :func:`structured_schema`: the same forms, the same refusals."""
    thoughts, said = _thought_and_said(reply)
    try:
        fields = msgspec.convert(json.loads(said, object_pairs_hook=_once), dict[str, str])
    except (ValueError, RecursionError):
        raise JudgeUnparseable("the reply is not the JSON object asked for") from None
    if set(fields) != {"reasoning", "nonce", "verdict"} or fields["nonce"] != nonce:
        raise JudgeUnparseable("the reply is not the JSON object asked for")
    return form.read(fields["verdict"]), _reasoning(thoughts, fields["reasoning"])


def _thought_and_said(reply: str) -> tuple[str, str]:
    """The thoughts that a reply begins with, whose opening tag may have stood in the prompt, and what is said behind
    them: a model drafts verdicts there.
    """
    thoughts, end, said = reply.partition(_THOUGHT)
    if not end and reply.lstrip().startswith(_THINKS):
        raise JudgeUnparseable("the reply ends among its thoughts")
    return (thoughts.strip().removeprefix(_THINKS), said) if end else ("", reply)


def _reasoning(thoughts: str, said: str) -> str:
    return f"{thoughts.strip()}\n\n{said.strip()}".strip()


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose names come once each: of two verdicts a mapping would keep the last."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("a name comes twice")
    return fields


def structured_schema(nonce: str, form: Form, reasoning_chars: int = 0) -> dict[str, Any]:
    """The ``response_format`` that makes an endpoint reason first, in ``reasoning_chars`` at most where that is not
    0, and then give this nonce and a verdict.
    """
    verdict: dict[str, Any] = {"type": "string"} | ({"enum": list(form.choices)} if form.choices else {})
    reasoning: dict[str, Any] = {"type": "string"} | ({"maxLength": reasoning_chars} if reasoning_chars else {})
    properties = {"reasoning": reasoning, "nonce": {"type": "string", "enum": [nonce]}, "verdict": verdict}
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return {"type": "json_schema", "json_schema": {"name": "verdict", "strict": True, "schema": schema}}


def whole(low: int, high: int) -> Form:
    """An integer from ``low`` to ``high``."""
    allowed = range(low, high + 1)
    choices = tuple(map(str, allowed)) if len(allowed) <= MOST_CHOICES else ()
    return Form(f"<a whole number from {low} to {high}>", lambda text: _integer(text, allowed), choices)


def level(*levels: int) -> Form:
    """One of the given integers."""
    names = ", ".join(map(str, levels))
    return Form(f"<one of {names}>", lambda text: _integer(text, levels), tuple(map(str, levels)))


def choice(*words: str) -> Form:
    """One of the given words, as written."""
    return Form(f"<one of {', '.join(words)}>", lambda text: _word(text, words), words)


def flags(count: int) -> Form:
    """``count`` zeros and ones, separated by commas."""
    hint = f"<{count} values 0 or 1, one per item in order, separated by commas>"
    return Form(hint, lambda text: [_integer(part, (0, 1)) for part in _parts(text, count)])


def numbers(count: int, low: float, high: float) -> Form:
    """``count`` decimal numbers from ``low`` to ``high``, separated by commas."""
    hint = f"<{count} numbers from {low:g} to {high:g}, in order, separated by commas>"
    return Form(hint, lambda text: [_decimal(part, low, high) for part in _parts(text, count)])


def wholes(count: int, low: int, high: int) -> Form:
    """``count`` integers from ``low`` to ``high``, separated by commas."""
    hint = f"<{count} whole numbers from {low} to {high}, in order, separated by commas>"
    allowed = range(low, high + 1)
    return Form(hint, lambda text: [_integer(part, allowed) for part in _parts(text, count)])


def tagged(low: int, high: int, tags: Sequence[str]) -> Form:
    """An integer from ``low`` to ``high`` and the tags that apply: ``7; none`` or ``4; this, that``."""

    def read(text: str) -> tuple[int, list[str]]:
        number, separator, named = text.partition("; ")
        found = [] if named == "none" else [_word(part.strip(" "), tags) for part in named.split(",")]
        if not separator or len(set(found)) != len(found):
            raise JudgeUnparseable("the verdict is not a number and its tags")
        return _integer(number, range(low, high + 1)), found

    return Form(f"<a whole number from {low} to {high}>; <the tags that apply, separated by commas, or none>", read)


def level_and_share(levels: Sequence[str], most: float) -> Form:
    """One of the words and a decimal number from 0 to ``most``: ``city, 0.25``."""

    def read(text: str) -> tuple[str, float]:
        word, number = _parts(text, 2)
        return _word(word, levels), _decimal(number, 0.0, most)

    return Form(f"<one of {', '.join(levels)}>, <a number from 0 to {most:g}>", read)


def ranking(count: int) -> Form:
    """The numbers 1…``count``, each once, best first."""
    hint = f"<the numbers 1 to {count}, each once, best first, separated by commas>"

    def read(text: str) -> list[int]:
        order = [_integer(part, range(1, count + 1)) for part in _parts(text, count)]
        if len(set(order)) != count:
            raise JudgeUnparseable("the ranking names a response twice")
        return order

    return Form(hint, read)


def claims(limit: int) -> Form:
    """``total, false``: how many claims the answer makes and how many of them are false."""

    def read(text: str) -> tuple[int, int]:
        total, false = (_integer(part, range(limit + 1)) for part in _parts(text, 2))
        if false > total:
            raise JudgeUnparseable(f"{false} false claims of {total}")
        return total, false

    return Form("<number of claims, number of false claims>", read)


def _parts(text: str, count: int) -> list[str]:
    parts = [part.strip(" ") for part in text.split(",")]
    if len(parts) != count:
        raise JudgeUnparseable(f"the verdict holds {len(parts)} values, expected {count}")
    return parts


def _integer(text: str, allowed: Sequence[int]) -> int:
    if not _WHOLE.fullmatch(text):
        raise JudgeUnparseable("the verdict is not a whole number")
    if int(text) not in allowed:
        raise JudgeUnparseable("the verdict is out of range")
    return int(text)


def _decimal(text: str, low: float, high: float) -> float:
    if not _DECIMAL.fullmatch(text):
        raise JudgeUnparseable("the verdict is not a decimal number")
    if not low <= float(text) <= high:
        raise JudgeUnparseable("the verdict is out of range")
    return float(text)


def _word(text: str, words: Sequence[str]) -> str:
    if text not in words:
        raise JudgeUnparseable("the verdict is not one of the words asked for")
    return text
