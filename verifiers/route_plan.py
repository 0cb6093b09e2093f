"""``route_plan``, ``route_detail`` and ``stop_list``: routes on a transit map."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import re2

from rewardhub.errors import NoAnswer, ReferenceUnparseable
from rewardhub.registry import Example, verifier
from rewardhub.scorer import need
from rewardhub.types import Json, Response, Score, Status
from rewardhub.verifiers.geometry.reading import Wrong, answer_text, missing

Lines = Mapping[str, frozenset[str]]

_MOST_LINES, _MOST_STOPS, _MOST_SECTIONS = 200, 500, 20
_MOST_LISTED = 100
_FIELD = re2.compile(r"(?im)^[\s*>#-]*(route name|departure stop|arrival stop)[\s*]*[:：][\s*]*([^\n]*?)[\s*]*$")
_SECTION = re2.compile(r"\n[\s>]*--[\s-]*(?:\n|$)")
_BRACKETS = re2.compile(r"[(（\[【][^()（）\[\]【】]*[)）\]】]")
_SUFFIXES = ("metro station", "subway station", "station", "stop", "地铁站", "车站", "站")


def _section(line: str, departure: str, arrival: str) -> str:
    return f"Route Name: {line}\nDeparture Stop: {departure}\nArrival Stop: {arrival}\nNumber of Via Stops: 1\n"


_MAP = {"1": ["A", "B", "C", "D"], "2": ["C", "E", "F"]}
_ONE = {"lines": _MAP, "from": "A", "to": "F", "sections": 1}
_TWO = {"lines": _MAP, "from": "A", "to": "F", "sections": 2}
_DIRECT = {"lines": _MAP, "from": "A", "to": "D", "sections": 0}
_GOOD = _section("1", "A", "C") + "--\n" + _section("2", "C", "F")
_BROKEN = _section("1", "A", "B") + "--\n" + _section("2", "C", "F")
_TRIP, _STRAIGHT = ({key: value for key, value in each.items() if key != "sections"} for each in (_ONE, _DIRECT))
_EXAMPLES = (
    Example(_GOOD, _TRIP, 1.0),
    Example(_BROKEN, _TRIP, 0.0),
    Example(_section("1", "A", "D"), _STRAIGHT, 1.0),
    Example(_section("2", "A", "D"), _STRAIGHT, 0.0),
    Example(_section("9", "A", "D"), _STRAIGHT, 0.0),
    Example(_section("1", "A", "C"), _STRAIGHT, 0.0),
    Example(_section(" Line 1 ", "a station", "d (north)"), {**_STRAIGHT, "lines": {"Line 1": _MAP["1"]}}, 1.0),
    Example("Route Name: 1\nDeparture Stop: A", _STRAIGHT, 0.0),
    Example("<answer>Take the bus.</answer>", _STRAIGHT, 0.0),
    Example("Take the bus.", _STRAIGHT, None, status=Status.NO_ANSWER),
)
_DETAILS = (
    Example(_GOOD, _ONE, 4.0),
    Example(_GOOD, _TWO, 9.0),
    Example(_BROKEN, _TWO, 8.0),
    Example(_section("1", "A", "D"), _DIRECT, 1.0),
    Example("Route Name: 1\nDeparture Stop: A", _DIRECT, 0.0),
    Example("Take the bus.", _DIRECT, None, status=Status.NO_ANSWER),
)
_SOURCES = ("rewardhub.verifiers.geometry.reading", "rewardhub.verifiers.tags")


@dataclass(frozen=True, slots=True)
class _Section:
    line: str
    departure: str
    arrival: str


@verifier("route_plan", examples=_EXAMPLES, libraries=("google-re2",), sources=_SOURCES)
def route_plan(response: Response, reference: Json) -> Score:
    """1.0 where a planned route is possible on the map, else 0.0 with the reason.

    Reference: ``lines`` {name: stops in order}, ``from``, ``to``. The plan's sections stand between lines of
    ``--``, each with ``Route Name:``, ``Departure Stop:`` and ``Arrival Stop:``; at most 20. Names are compared
    without case, blanks, brackets and the word for station. The ends must be the question's, every line known
    and serving both stops of its section, and each section begin where the last ended.

    fscdc/RewardMap: difficulty · (10 · route_plan + 0.5 · route_detail), where the difficulty factor and its 0.5 for
    questions with a transfer are the recipe's.
    """
    lines, start, end = _map(reference)
    try:
        sections = _sections(response)
    except Wrong as wrong:
        return wrong.score()
    reason = _fault(sections, lines, start, end)
    details = {"sections": len(sections)} | ({"reason": reason} if reason else {})
    return Score(float(not reason), details=details)


@verifier("route_detail", range=(-100.0, 10.0), examples=_DETAILS, libraries=("google-re2",), sources=_SOURCES)
def route_detail(response: Response, reference: Json) -> Score:
    """RewardMap's points for the details of a planned route, right or not: -100 to 10.

    Reference and plan as ``route_plan`` has them, and ``sections``, how many the plan may have. Right ends
    +2; per known line +3, or +4 where a single section's line serves both ends of the trip; a change that
    fits +1; each section beyond ``sections`` -5; 10 at most. fscdc/RewardMap feeds ``sections`` the question's
    number of *transfers*, so that its plans lose 5 points per trip; state what is meant. A malformed plan is 0.
    """
    lines, start, end = _map(reference)
    allowed = _allowed(reference)
    try:
        sections = _sections(response)
    except Wrong as wrong:
        return wrong.score()
    return Score(_detail(sections, lines, start, end, allowed), details={"sections": len(sections)})


def _map(reference: Json) -> tuple[Lines, str, str]:
    return _lines(reference), _stop(reference, "from"), _stop(reference, "to")


def _fault(sections: list[_Section], lines: Lines, start: str, end: str) -> str:
    if (sections[0].departure, sections[-1].arrival) != (start, end):
        return "the ends are not those of the question"
    for number, section in enumerate(sections, 1):
        stops = lines.get(section.line)
        if stops is None:
            return f"the line of section {number} is unknown"
        if not {section.departure, section.arrival} <= stops or section.departure == section.arrival:
            return f"the line of section {number} does not serve its stops"
    if any(one.arrival != other.departure for one, other in pairwise(sections)):
        return "a section does not begin where the last one ended"
    return ""


def _detail(sections: list[_Section], lines: Lines, start: str, end: str, allowed: int) -> float:
    points = 2.0 * ((sections[0].departure, sections[-1].arrival) == (start, end))
    direct = len(sections) == 1 and {start, end} <= lines.get(sections[0].line, frozenset())
    points += sum(4.0 if direct else 3.0 for section in sections if section.line in lines)
    points += sum(one.arrival == other.departure for one, other in pairwise(sections))
    return min(10.0, points - 5.0 * max(0, len(sections) - allowed))


def _sections(response: Response) -> list[_Section]:
    text, stated = answer_text(response)
    found = _FIELD.findall(text[:200_000])
    if not found:
        raise missing("route section", stated)
    parts = _SECTION.split("\n" + text[:200_000])
    sections = [fields for part in parts if (fields := dict(_pairs(part)))]
    if len(sections) > _MOST_SECTIONS:
        raise Wrong(f"more than {_MOST_SECTIONS} sections")
    if any(len(fields) < 3 or not all(fields.values()) for fields in sections):
        raise Wrong("a section lacks its route name, departure stop or arrival stop")
    return [_Section(fields["route name"], fields["departure stop"], fields["arrival stop"]) for fields in sections]


def _pairs(part: str) -> list[tuple[str, str]]:
    return [(name.lower(), normal(value)) for name, value in _FIELD.findall(part)]


def normal(name: str) -> str:
    """A line or stop without case, blanks, brackets and the word for station."""
    clean = name.encode("utf-8", "replace").decode()
    folded = " ".join(_BRACKETS.sub("", clean.casefold()).split()).strip(" .\"'`")
    for suffix in _SUFFIXES:
        if folded != suffix and folded.endswith(suffix):
            folded = folded.removesuffix(suffix)
            break
    return "".join(folded.split())


def _lines(reference: Json) -> Lines:
    given = need(reference, "lines", dict)
    lines: dict[str, frozenset[str]] = {}
    for name, stops in given.items() if len(given) <= _MOST_LINES else ():
        good = isinstance(stops, list | tuple) and 2 <= len(stops) <= _MOST_STOPS
        if not good or not all(isinstance(stop, str) and normal(stop) for stop in stops) or not normal(str(name)):
            raise ReferenceUnparseable(f"reference.lines.{name!s:.40} must be a list of stops", field="reference.lines")
        lines[normal(str(name))] = frozenset(map(normal, stops))
    if not lines or len(lines) < len(given):
        raise ReferenceUnparseable(f"reference.lines must be 1 to {_MOST_LINES} lines", field="reference.lines")
    return lines


def _stop(reference: Json, key: str) -> str:
    found = normal(need(reference, key))
    if not found:
        raise ReferenceUnparseable(f"reference.{key} is empty", field=f"reference.{key}")
    return found


def _allowed(reference: Json) -> int:
    allowed: int = need(reference, "sections", int)
    if not 0 <= allowed <= _MOST_SECTIONS:
        raise ReferenceUnparseable(f"reference.sections must be 0 to {_MOST_SECTIONS}", field="reference.sections")
    return allowed


_VIA = {"stops": ["B", "C"]}
_STOPS = (
    Example("(B, C)", _VIA, 1.0),
    Example("B,B,X", _VIA, -0.5),
    Example("<answer>B station</answer>", _VIA, 0.5),
    Example("X, Y", _VIA, -1.0),
    Example("", _VIA, None, status=Status.NO_ANSWER),
)


@verifier(
    "stop_list",
    range=(-50.0, 50.0),
    examples=_STOPS,
    libraries=("google-re2",),
    sources=("rewardhub.verifiers.geometry.reading", "rewardhub.verifiers.tags"),
)
def stop_list(response: Response, reference: Json) -> Score:
    """0.5 for each stop of the reference that is listed, -0.5 for each that is wrong or repeated.

    Reference: ``stops``, 1 to 100 names. The answer tag, else the whole response, lists names between
    commas or line ends, at most 100: more are -50. fscdc/RewardMap's dense reward for counting questions.
    """
    stops = need(reference, "stops", (list, tuple))
    if not 0 < len(stops) <= _MOST_LISTED or not all(isinstance(stop, str) and normal(stop) for stop in stops):
        raise ReferenceUnparseable(f"reference.stops must be 1 to {_MOST_LISTED} names", field="reference.stops")
    text, _ = answer_text(response)
    listed = _listed(text)
    if not listed:
        raise NoAnswer("no stop is listed")
    if len(listed) > _MOST_LISTED:
        return Score(-50.0, details={"reason": f"more than {_MOST_LISTED} stops"})
    right = len(set(listed) & set(map(normal, stops)))
    return Score(0.5 * right - 0.5 * (len(listed) - right), details={"right": right, "listed": len(listed)})


def _listed(text: str) -> list[str]:
    """The listed names, one more than allowed at most."""
    items = text.strip(" \t\r\n()[]（）【】").replace("，", ",").replace("、", ",").replace("\n", ",").split(",")
    names: list[str] = []
    for item in items:
        name = normal(item[:200])
        if name:
            names.append(name)
        if len(names) > _MOST_LISTED:
            break
    return names
