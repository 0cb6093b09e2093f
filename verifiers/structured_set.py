"""``structured_set``: a set of (index, attribute, value) changes with partial credit and penalties."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import re2
from pydantic import Field

from rewardhub.errors import ReferenceUnparseable
from rewardhub.registry import Example, verifier
from rewardhub.scorer import need
from rewardhub.types import Json, Response, Score
from rewardhub.verifiers.geometry.reading import answer_text, find_json

Triple = tuple[str, str, str]
Credit = Annotated[float, Field(ge=0.0, le=5.0)]
Penalty = Annotated[float, Field(ge=0.0, le=1.0)]

_MOST_EXPECTED, _MOST_STATED = 100, 1_000
_KEYS = (("index", "id", "object"), ("attribute", "attr", "property"), ("value", "to", "new_value"))
_GROUP = re2.compile(r"[\[(]([^\[\]()]*)[\])]")

_TWO = {"items": [[0, "color", "red"], [3, "size", "small"]]}
_EXACT = '[0, "color", "red"]'
_BOTH = '[0, "color", "red"], [3, "size", "small"]'
_JUNK = ", ".join(f'[{index}, "shape", "cube"]' for index in range(10, 30))
_EXAMPLES = (
    Example(f"<answer>[{_BOTH}]</answer>", _TWO, 10.0),
    Example(f"[{_EXACT}]", _TWO, 4.0),
    Example(f'[{_BOTH}, [9, "shape", "cube"]]', _TWO, 9.0),
    Example(f"[{_BOTH}, {_JUNK}]", _TWO, -10.0),
    Example('[[0, "color", "blue"], [3, "shape", "cube"]]', _TWO, 2.0),
    Example('[[0, "color", "blue"], [3, "shape", "cube"]]', _TWO, 0.0, {"punish_partial": True}),
    Example("[" + ", ".join([_EXACT] * 5) + "]", _TWO, 1.0),
    Example("<answer>(0, Color, red), (3, size, small)</answer>", _TWO, 10.0),
    Example('[{"index": 0, "attribute": "color", "value": "red"}]', _TWO, 4.0),
    Example("<answer>[]</answer>", _TWO, -2.0),
    Example("<answer>nothing</answer>", _TWO, -2.0),
    Example("no idea", _TWO, -2.0),
)  # fmt: skip


@verifier(
    "structured_set",
    range=(-1100.0, 500.0),
    examples=_EXAMPLES,
    libraries=("google-re2",),
    sources=("rewardhub.verifiers.geometry.reading", "rewardhub.verifiers.tags"),
)
def structured_set(
    response: Response,
    reference: Json,
    *,
    exact: Credit = 5.0,
    attribute: Credit = 1.5,
    index: Credit = 0.5,
    wrong: Penalty = 1.0,
    lacking: Penalty = 1.0,
    punish_partial: bool = False,
) -> Score:
    """The credit of the predicted triples, minus a penalty for each wrong one and each that is lacking.

    Reference: ``items``, up to 100 triples (index, attribute, value). A prediction earns ``exact``, else
    ``attribute`` (index and attribute right), else ``index``; each reference triple pays once, so
    repeating a right triple, or listing everything, costs. ``punish_partial``: whether partly right ones
    cost ``wrong`` too, which STAR-R1 leaves open. ``lacking`` is per triple fewer than the reference has.
    Defaults: STAR-R1 (2025); its format point is a recipe's.

    Triples are JSON lists or objects, or bracketed texts; case and blanks do not count. A response without
    a triple is an empty prediction, so silence never pays; more than 1,000 triples cost as if all were
    wrong. Range: -1100 to 500. Details: counts of each kind.
    """
    gold = _expected(reference)
    stated = _stated(response)
    if len(stated) > _MOST_STATED:
        reason = f"more than {_MOST_STATED} triples"
        return Score(-wrong * _MOST_STATED - lacking * len(gold), details={"reason": reason})
    found = _matched(gold, stated)
    errors = found["none"] + (found["attribute"] + found["index"] if punish_partial else 0)
    credit = exact * found["exact"] + attribute * found["attribute"] + index * found["index"]
    value = credit - wrong * errors - lacking * max(0, len(gold) - len(stated))
    return Score(value, details=dict(found) | {"expected": len(gold), "stated": len(stated)})


def _matched(gold: list[Triple], stated: list[Triple]) -> dict[str, int]:
    """How many predictions match exactly, by index and attribute, by index, not at all; one to one."""
    counts = {}
    theirs, ours = Counter(stated), Counter(gold)
    for name, width in (("exact", 3), ("attribute", 2), ("index", 1)):
        theirs_cut, ours_cut = _cut(theirs, width), _cut(ours, width)
        counts[name] = (theirs_cut & ours_cut).total()
        theirs, ours = theirs_cut - ours_cut, ours_cut - theirs_cut
    return counts | {"none": theirs.total()}


def _cut(triples: Counter[Any], width: int) -> Counter[Any]:
    found: Counter[Any] = Counter()
    for triple, count in triples.items():
        found[triple[:width]] += count
    return found


def _expected(reference: Json) -> list[Triple]:
    items = need(reference, "items", (list, tuple))
    triples = [_triple(item) for item in items]
    if not 0 < len(triples) <= _MOST_EXPECTED or None in triples:
        raise ReferenceUnparseable(
            f"reference.items must be 1 to {_MOST_EXPECTED} triples (index, attribute, value)", field="reference.items"
        )
    return [triple for triple in triples if triple]


def _stated(response: Response) -> list[Triple]:
    """The stated triples; what is no triple matches nothing but is counted."""
    text, _ = answer_text(response)
    found = find_json(text)
    if isinstance(found, Mapping):
        found = next((value for value in found.values() if isinstance(value, list)), [found])
    if not isinstance(found, list):
        found = [part.split(",") for part in _GROUP.findall(text)]
    if len(found) == 3 and not any(isinstance(each, list | Mapping) for each in found):
        found = [found]
    return [_triple(each) or ("", "", "") for each in found[: _MOST_STATED + 1]]


def _triple(item: Any) -> Triple | None:
    if isinstance(item, Mapping):
        item = [next((item[key] for key in keys if key in item), None) for keys in _KEYS]
    if not isinstance(item, Sequence) or isinstance(item, str) or len(item) != 3:
        return None
    parts = [_name(part) for part in item]
    return (parts[0], parts[1], parts[2]) if all(parts) else None


def _name(part: Any) -> str:
    """The part as a name: a text without quotes and case, a whole number; empty where it is neither."""
    if isinstance(part, bool):
        return str(part).lower()
    if isinstance(part, int | float):
        if not abs(part) < 1e15:  # also where it is NaN
            return ""
        return str(int(part)) if part == int(part) else str(part)
    return part.strip(" \t\r\n\"'").casefold() if isinstance(part, str) else ""
