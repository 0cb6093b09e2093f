"""``gui_action``: an action on a screen against the recorded one."""

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

from rapidfuzz.distance import LCSseq, Levenshtein

from rewardhub.errors import ReferenceUnparseable
from rewardhub.registry import Example, verifier
from rewardhub.types import Json, Response, Score, Status
from rewardhub.verifiers.boxes import Box, overlap
from rewardhub.verifiers.geometry.reading import Wrong, find_json, missing, numbers
from rewardhub.verifiers.repetition import most_frequent_window
from rewardhub.verifiers.tags import last_tagged

Style = Literal["osworld", "androidworld", "webvoyager"]
Action = Mapping[str, Any]
Points = Callable[[Action, Action], float]

_LONGEST = 5_000
_GRID = 999.0

_CLICK = {"action": {"action": "click", "point": [100, 100]}}
_TYPE = {"action": {"action": "type", "text": "abcd"}}
_DRAG = {"action": {"action": "drag", "start": [0, 0], "end": [100, 100]}}
_SCROLL = {"action": {"action": "scroll", "point": [100, 100], "direction": "down", "amount": 10}}
_KEYS = {"action": {"action": "hotkey", "keys": ["ctrl", "c"]}}
_BOX = {"action": {"action": "tap", "box_2d": [0, 0, 10, 10]}}
_LINK = {"action": {"action": "click", "point": [5, 5], "element": [0, 0, 10, 10]}}
_ENTER = {"action": {"action": "key", "text": "enter"}}
_FIELD = {"action": {"action": "type", "text": "abcd", "point": [5, 5]}}
_ANDROID, _WEB = {"style": "androidworld"}, {"style": "webvoyager"}
_EXAMPLES = (
    Example('{"action": "click", "point": [112, 116]}', _CLICK, 0.8),
    Example('<answer>{"action": "click", "point": [100, 100]}</answer>', _CLICK, 1.0),
    Example('{"action": "click", "point": [140, 100]}', _CLICK, 0.2),
    Example('{"action": "click", "point": [900, 100]}', _CLICK, 0.0),
    Example('{"action": "click", "point": [1e999, 100]}', _CLICK, 0.0),
    Example('{"action": "double_click", "point": [100, 100]}', _CLICK, 0.0),
    Example('{"action": "type", "text": "abce"}', _TYPE, 0.65),
    Example('{"action": "type", "text": "abcd"}', _TYPE, 1.0),
    Example('{"action": "type"}', _TYPE, 0.0),
    Example('{"action": "drag", "start": [0, 0], "end": [112, 116]}', _DRAG, math.sqrt(0.8)),
    Example('{"action": "scroll", "point": [100, 100], "direction": "down", "amount": 5}', _SCROLL, 0.5),
    Example('{"action": "scroll", "point": [100, 100], "direction": "up", "amount": 10}', _SCROLL, 0.0),
    Example('{"action": "hotkey", "keys": "Ctrl+C"}', _KEYS, 1.0),
    Example('{"action": "hotkey", "keys": ["ctrl", "v"]}', _KEYS, 0.0),
    Example('{"action": "tap", "box_2d": [0, 0, 10, 5]}', _BOX, 0.5, _ANDROID),
    Example('{"action": "swipe", "box_2d": [0, 0, 10, 10]}', _BOX, 0.0, _ANDROID),
    Example('{"action": "tap", "box_2d": [0, 0, 10, 10], "text": "x"}', _BOX, 0.0, _ANDROID),
    Example('{"action": "click", "point": [5, 5]}', _LINK, 1.0, _WEB),
    Example('{"action": "click", "point": [6, 5]}', _LINK, 0.05, _WEB),
    Example('{"action": "click", "point": [11, 5]}', _LINK, 0.0, _WEB),
    Example('{"action": "key", "text": "return"}', _ENTER, 0.05, _WEB),
    Example('{"action": "type", "text": "abce", "point": [9, 9]}', _FIELD, 0.7125, _WEB),
    Example("<answer>click there</answer>", _CLICK, 0.0),
    Example("click there", _CLICK, None, status=Status.NO_ANSWER),
    Example('{"action": "click", "point": [1, 1]}', {"action": {"action": "click"}}, None,
            status=Status.REFERENCE_UNPARSEABLE),
)  # fmt: skip


@verifier(
    "gui_action",
    examples=_EXAMPLES,
    libraries=("rapidfuzz", "numpy"),
    sources=(
        "rewardhub.verifiers.geometry.reading", "rewardhub.verifiers.boxes", "rewardhub.verifiers.repetition",
        "rewardhub.verifiers.tags",
    ),
)  # fmt: skip
def gui_action(response: Response, reference: Json, *, style: Style = "osworld") -> Score:
    """How near the stated action is to ``reference.action``, by one of GLM-4.1V-Thinking's three rules.

    An action is the response's JSON object, or the one in its answer tag, with ``action``, its name, and
    ``point``, ``start``, ``end`` (pixels, [x, y]), ``text``, ``direction``, ``amount``, ``keys``. Another name is 0;
    names without rules below are right as such.

    ``osworld``: a click at distance d is 1 - 0.2·d/20 up to 20 pixels, else max(0, 1 - d/50); drag is the root
    of both ends' product; scroll is point · direction · (1 - difference / larger amount); type is 0.6 edit
    similarity + 0.4 Jaccard of character pairs, times ratio/0.3 where one text has less than 0.3 of the
    other's length, times 0.3 where a 50-character window occurs ten times; hotkey is exact.
    ``androidworld``: the product over all keys, which must be the same: ``text`` longest common subsequence
    / longer length, ``box_2d`` IoU on the 0–999 grid, others equal or not.
    ``webvoyager``: the same point 1, another in the same ``element`` (a box) 0.05; type as the subsequence
    share, times 0.95 at another point; scroll as above without the point; return for enter 0.05.

    Coordinates are not rescaled. Texts over 5,000 characters are malformed. THUDM/GLM-4.1V-Thinking; the
    length factor and what counts as repetitive are not published in full.
    """
    gold = _expected(reference, style)
    text = response.text
    tagged = None if text.lstrip().startswith("{") else last_tagged(text, "answer")
    try:
        found = find_json(text if tagged is None else tagged)
        if found is None:
            raise missing("action", tagged is not None or "{" in text)
        value = _points(found, gold, style)
    except Wrong as wrong:
        return wrong.score()
    return Score(value)


def _points(found: Any, gold: Action, style: Style) -> float:
    if not isinstance(found, Mapping):
        raise Wrong("the action is no JSON object")
    if style == "androidworld":
        return _android(found, gold)
    if _name(found) != _name(gold):
        raise Wrong("another kind of action")
    rule = _RULES[style].get(_name(gold))
    return 1.0 if rule is None else rule(found, gold)


def _expected(reference: Json, style: Style) -> Action:
    gold = reference.get("action")
    try:
        if not isinstance(gold, Mapping) or not gold:
            raise Wrong("is no object")
        if style == "androidworld":
            _check_values(gold)
        elif not _name(gold):
            raise Wrong("has no name")
        _points(gold, gold, style)
    except Wrong as wrong:
        raise ReferenceUnparseable(f"reference.action: {wrong}", field="reference.action") from None
    assert isinstance(gold, Mapping)
    return gold


def _check_values(gold: Action) -> None:
    for key, value in gold.items():
        if key == "box_2d":
            _box(gold, key)
        elif not isinstance(value, str | int | float | bool | None) or value != value:  # noqa: PLR0124  # NaN
            raise Wrong(f"{key!s:.40} is neither text nor number")


def _name(action: Action) -> str:
    name = action.get("action")
    return name.strip().lower() if isinstance(name, str) else ""


def _point(action: Action, key: str = "point") -> tuple[float, ...]:
    found = numbers(action.get(key), 2)
    if found is None or not all(map(math.isfinite, found)):
        raise Wrong(f"{key} is not a pair of finite numbers")
    return found


def _box(action: Action, key: str) -> Box:
    found = numbers(action.get(key), 4)
    if found is None or not (0.0 <= found[0] < found[2] <= _GRID and 0.0 <= found[1] < found[3] <= _GRID):
        raise Wrong(f"{key} is not a box on the grid 0 to {_GRID:g}")
    return Box(*found)


def _text(action: Action) -> str:
    text = action.get("text")
    if not isinstance(text, str) or len(text) > _LONGEST:
        raise Wrong(f"text is no text of at most {_LONGEST} characters")
    return text


def _click(found: Action, gold: Action, key: str = "point") -> float:
    distance = math.dist(_point(found, key), _point(gold, key))
    return 1.0 - 0.2 * distance / 20.0 if distance <= 20.0 else max(0.0, 1.0 - distance / 50.0)


def _drag(found: Action, gold: Action) -> float:
    return math.sqrt(_click(found, gold, "start") * _click(found, gold, "end"))


def _amounts(found: Action, gold: Action) -> float:
    """How near two scrolls are: 0 in another direction, else 1 - difference / larger amount."""
    one, other = (numbers([action.get("amount")], 1) for action in (found, gold))
    if one is None or other is None or not (0.0 < one[0] < math.inf and 0.0 < other[0] < math.inf):
        raise Wrong("amount is not a positive number")
    directions = [str(action.get("direction", "")).strip().lower() for action in (found, gold)]
    if not all(directions):
        raise Wrong("there is no direction")
    return (1.0 - abs(one[0] - other[0]) / max(one[0], other[0])) * (directions[0] == directions[1])


def _scroll(found: Action, gold: Action) -> float:
    return _click(found, gold) * _amounts(found, gold)


def _typed(found: Action, gold: Action) -> float:
    one, other = _text(found), _text(gold)
    longer, shorter = max(len(one), len(other)), min(len(one), len(other))
    if not longer:
        return 1.0
    pairs, others = ({text[place : place + 2] for place in range(len(text) - 1)} for text in (one, other))
    jaccard = len(pairs & others) / len(pairs | others) if pairs | others else float(one == other)
    value = 0.6 * Levenshtein.normalized_similarity(one, other) + 0.4 * jaccard
    value *= min(1.0, shorter / longer / 0.3)
    return value * (0.3 if one != other and most_frequent_window(one, 50) >= 10 else 1.0)


def _keys(action: Action) -> list[str]:
    keys = action.get("keys")
    parts = keys.split("+") if isinstance(keys, str) else keys
    if not isinstance(parts, list | tuple) or not parts or not all(isinstance(part, str) for part in parts):
        raise Wrong("keys are no list of names")
    return [part.strip().lower() for part in parts]


def _hotkey(found: Action, gold: Action) -> float:
    return float(_keys(found) == _keys(gold))


def _share(one: str, other: str) -> float:
    """The longest common subsequence over the longer length; two empty texts are the same."""
    return LCSseq.normalized_similarity(one, other)


def _android(found: Action, gold: Action) -> float:
    if found.keys() != gold.keys():
        raise Wrong("the action has other fields")
    value = 1.0
    for key, wanted in gold.items():
        if key == "text":
            value *= _share(_text(found), _text(gold))
        elif key == "box_2d":
            value *= overlap(_box(found, key), _box(gold, key))
        else:
            value *= bool(found[key] == wanted)
    return value


def _web_click(found: Action, gold: Action) -> float:
    x, y = _point(found)
    if (x, y) == _point(gold):
        return 1.0
    if "element" not in gold:
        return 0.0
    element = numbers(gold["element"], 4)
    if element is None:
        raise Wrong("element is not a box")
    return 0.05 * (element[0] <= x <= element[2] and element[1] <= y <= element[3])


def _web_type(found: Action, gold: Action) -> float:
    moved = "point" in gold and ("point" not in found or _point(found) != _point(gold))
    return _share(_text(found), _text(gold)) * (0.95 if moved else 1.0)


def _web_key(found: Action, gold: Action) -> float:
    one, other = _text(found).strip().lower(), _text(gold).strip().lower()
    return 1.0 if one == other else 0.05 * ({one, other} == {"return", "enter"})


_RULES: Mapping[str, Mapping[str, Points]] = {
    "osworld": {
        "click": _click, "double_click": _click, "right_click": _click, "drag": _drag, "scroll": _scroll,
        "type": _typed, "hotkey": _hotkey,
    },
    "webvoyager": {"click": _web_click, "type": _web_type, "scroll": _amounts, "key": _web_key},
}  # fmt: skip
