"""Finds the boxes, points and JSON that a response states. Linear in the text, bounded in count."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from rewardhub.errors import NoAnswer
from rewardhub.types import Response, Score
from rewardhub.verifiers.boxes import find_boxes
from rewardhub.verifiers.tags import stated_answer

T = TypeVar("T")

MAX_ITEMS = 1_000
"""Boxes or points that a response or a reference may hold."""

_MAX_DIGITS = 40
_MAX_ATTEMPTS = 16
_BOX_KEYS = ("bbox_2d", "bbox", "box")
_LIST_KEYS = ("boxes", "objects", "detections")
_LABEL_KEYS = ("label", "class", "category")
_SCORE_KEYS = ("score", "confidence")
_CORNERS = ("x1", "y1", "x2", "y2")
_OPENING = re.compile(r"[{\[]")
_BRACKETS = re.compile(r"[\[(]([^\[\]()]*)[\])]")
_NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[-+]?[0-9]+)?|[-+]?(?:nan|inf|infinity)", re.IGNORECASE)
_DECODER = json.JSONDecoder(parse_int=float)


class Wrong(Exception):
    """The answer is malformed: a verdict on the response, not a failure."""

    def score(self, value: float = 0.0) -> Score:
        """The lowest score, with the reason."""
        return Score(value, details={"reason": str(self)})


@dataclass(frozen=True, slots=True)
class Item:
    """One stated box: its coordinates as written (None: not four numbers), label and confidence."""

    box: tuple[float, ...] | None
    label: str = ""
    score: float | None = 1.0


def answer_text(response: Response) -> tuple[str, bool]:
    """The answer tag or ``\\boxed{}`` where there is one, else the text; and whether there was one."""
    text = response.text
    stated = stated_answer(text)
    return (text, False) if stated is None else (stated, True)


def missing(what: str, stated: bool) -> Exception:
    """What to raise where ``what`` is not found: wrong in a stated answer, else nothing was answered."""
    return Wrong(f"no {what} in the answer") if stated else NoAnswer(f"no {what} in the response")


def find_json(text: str) -> Any:
    """The last JSON array or object in the text, or None; integers are read as floats.

    Anything after 16 openings that lead to none is not looked at.
    """
    found: Any = None
    opening, attempts = _OPENING.search(text), 0
    while opening and attempts < _MAX_ATTEMPTS:
        try:
            found, end = _DECODER.raw_decode(text, opening.start())
        except (ValueError, RecursionError):
            end, attempts = opening.end(), attempts + 1
        opening = _OPENING.search(text, end)
    return found


def json_object(response: Response) -> Mapping[str, Any]:
    """The JSON object that the response states; raises ``Wrong`` or ``NoAnswer``."""
    text, stated = answer_text(response)
    found = find_json(text)
    if found is None and "{" not in text:
        raise missing("JSON object", stated)
    if not isinstance(found, Mapping):
        raise Wrong("the answer is not a JSON object")
    return found


def stated_items(response: Response) -> list[Item]:
    """The boxes that a response states, as JSON or as lists in its text; raises ``Wrong`` or ``NoAnswer``."""
    text, stated = answer_text(response)
    found = find_json(text)
    if found == [] or _nested(found):
        return bounded(items_of(found))
    lists = find_boxes(text, MAX_ITEMS + 1)
    if not lists:
        raise missing("box", stated)
    return [Item(_floats(entries)) for entries in bounded(lists)]


def _nested(found: Any) -> bool:
    if isinstance(found, Mapping):
        return any(key in found for key in (*_BOX_KEYS, *_LIST_KEYS))
    return isinstance(found, list) and any(isinstance(each, Mapping) for each in found)


def items_of(found: Any, most: int = MAX_ITEMS) -> list[Item]:
    """The boxes in a JSON value: one box, a list of them, or an object that holds such a list.

    At most ``most`` + 1 are read. What is no box becomes an item without coordinates, which matches
    nothing but is counted.
    """
    if isinstance(found, Mapping) and not any(key in found for key in (*_BOX_KEYS, *_CORNERS)):
        inner = next((found[key] for key in _LIST_KEYS if key in found), None)
        return _labelled(_listed(inner, most), found)
    return _listed(found, most)


def _listed(found: Any, most: int) -> list[Item]:
    if isinstance(found, Mapping) or four_numbers(found):
        return [_item(found)]
    if not isinstance(found, Sequence) or isinstance(found, str):
        return [Item(None)]
    return [_item(each) for each in islice(found, most + 1)]


def _labelled(items: list[Item], found: Mapping[str, Any]) -> list[Item]:
    """The items with the parallel lists ``labels`` and ``scores``, where they are as long."""
    labels, scores = found.get("labels"), found.get("scores")
    if isinstance(labels, Sequence) and len(labels) == len(items):
        items = [Item(item.box, _label(label), item.score) for item, label in zip(items, labels, strict=True)]
    if isinstance(scores, Sequence) and len(scores) == len(items):
        items = [Item(item.box, item.label, _real(score)) for item, score in zip(items, scores, strict=True)]
    return items


def _item(found: Any) -> Item:
    if not isinstance(found, Mapping):
        return Item(four_numbers(found))
    corners = [found.get(key) for key in _CORNERS]
    box = four_numbers(next((found[key] for key in _BOX_KEYS if key in found), corners))
    label = next((found[key] for key in _LABEL_KEYS if key in found), "")
    score = next((found[key] for key in _SCORE_KEYS if key in found), 1.0)
    return Item(box, _label(label), _real(score))


def _label(value: Any) -> str:
    """The label for comparison: text without case, or a class number."""
    if isinstance(value, str):
        return value.strip().casefold()
    number = _real(value)
    return "" if number is None else f"{number:g}"


def _real(value: Any) -> float | None:
    """The number as a float; None where it is no JSON number or too large for one."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def four_numbers(value: Any) -> tuple[float, ...] | None:
    """The value as four floats, or None."""
    return numbers(value, 4)


def numbers(value: Any, count: int) -> tuple[float, ...] | None:
    """The value as ``count`` floats (finite or not), or None where it is not a list of so many numbers."""
    if not isinstance(value, list | tuple) or len(value) != count:
        return None
    found = [real for each in value if (real := _real(each)) is not None]
    return tuple(found) if len(found) == count else None


def find_points(text: str) -> list[tuple[float, float] | None]:
    """The innermost bracketed lists with a number in them; None for one that is not two numbers."""
    points: list[tuple[float, float] | None] = []
    for match in _BRACKETS.finditer(text):
        entries = match.group(1).replace(",", " ").split()
        if any(map(_is_numeral, entries)):
            pair = _floats(entries, 2)
            points.append((pair[0], pair[1]) if pair else None)
        if len(points) > MAX_ITEMS:
            break
    return points


def _floats(entries: list[str], count: int = 4) -> tuple[float, ...] | None:
    valid = len(entries) == count and all(map(_is_numeral, entries))
    return tuple(map(float, entries)) if valid else None


def _is_numeral(text: str) -> bool:
    return len(text) <= _MAX_DIGITS and _NUMBER.fullmatch(text) is not None


def bounded(found: list[T]) -> list[T]:
    """The list itself; raises ``Wrong`` where it is longer than ``MAX_ITEMS``."""
    if len(found) > MAX_ITEMS:
        raise Wrong(f"more than {MAX_ITEMS} boxes or points")
    return found
