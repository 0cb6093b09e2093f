"""``route_plan`` and ``stop_list``: routes on a transit map."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import re2

from rewardhub.errors import NoAnswer, ReferenceUnparseable
from rewardhub.registry import Example, verifier
from rewardhub.scorer import need
from rewardhub.types import Json, Response, Score, Status
from rewardhub.verifiers.geometry.reading import Wrong, answer_text, missing

Measure = Literal["correct", "detail", "total"]
Lines = Mapping[str, frozenset[str]]

_MOST_LINES, _MOST_STOPS, _MOST_SECTIONS = 200, 500, 20
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
_DETAIL, _TOTAL = {"measure": "detail"}, {"measure": "total"}
_EXAMPLES = (
    Example(_GOOD, _ONE, 1.0),
    Example(_GOOD, _ONE, 4.0, _DETAIL),
    Example(_GOOD, _ONE, 12.0, _TOTAL),
    Example(_GOOD, _TWO, 9.0, _DETAIL),
    Example(_GOOD, _TWO, 14.5, _TOTAL),
    Example(_BROKEN, _TWO, 0.0),
    Example(_BROKEN, _TWO, 8.0, _DETAIL),
    Example(_BROKEN, _TWO, 4.0, _TOTAL),
    Example(_section("1", "A", "D"), _DIRECT, 1.0, _DETAIL),
    Example(_section("1", "A", "D"), _DIRECT, 10.5, _TOTAL),
    Example(_section("2", "A", "D"), _DIRECT, 0.0),
    Example(_section("9", "A", "D"), _DIRECT, 0.0),
    Example(_section("1", "A", "C"), _DIRECT, 0.0),
    Example(_section(" Line 1 ", "a station", "d (north)"), {**_DIRECT, "lines": {"Line 1": _MAP["1"]}}, 1.0),
    Example("Route Name: 1\nDeparture Stop: A", _DIRECT, 0.0),
    Example("<answer>Take the bus.</answer>", _DIRECT, 0.0),
    Example("Take the bus.", _DIRECT, None, status=Status.NO_ANSWER),
)


@dataclass(frozen=True, slots=True)
class _Section:
    line: str
    departure: str
    arrival: str


@verifier(
    "route_plan",
    range=(-110.0, 20.0),
    examples=_EXAMPLES,
    libraries=("google-re2",),
    sources=("rewardhub.verifiers.geometry.reading", "rewardhub.verifiers.tags"),
)
def route_plan(response: Response, reference: Json, *, measure: Measure = "correct") -> Score:
    """Whether a planned route is possible, and RewardMap's points for its details.

    Reference: ``lines`` {name: stops in order}, ``from``, ``to``, and ``sections``, how many the plan may have
    (only ``correct`` does without it). The plan's sections stand between lines of ``--``, each with
    ``Route Name:``, ``Departure Stop:`` and ``Arrival Stop:``. Names are compared without case, blanks,
    brackets and the word for station.

    ``correct``: 1.0 where the ends match, every line is known and serves both stops of its section, and
    each section begins where the last ended. ``detail``: right ends +2; per known line +3, or +4 where a
    single section's line serves both ends of the trip; a change that fits +1; each section beyond
    ``sections`` -5; 10 at most. ``total`` is 10 · correct + 0.5 · detail. A response without a section is as
    low as none right. fscdc/RewardMap, where ``sections`` is fed the question's number of *transfers*; the
    difficulty factor and the 0.5 for questions with a transfer are the recipe's.
    """
    lines = _lines(reference)
    start, end = (_stop(reference, key) for key in ("from", "to"))
    allowed = _allowed(reference) if measure != "correct" or "sections" in reference else _MOST_SECTIONS
    try:
        sections = _sections(response)
    except Wrong as wrong:
        return wrong.score()
    reason = _fault(sections, lines, start, end)
    detail = _detail(sections, lines, start, end, allowed)
    value = {"correct": float(not reason), "detail": detail, "total": 10.0 * (not reason) + 0.5 * detail}[measure]
    details = {"correct": not reason, "detail": detail, "sections": len(sections)}
    return Score(value, details=details | ({"reason": reason} if reason else {}))


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
    folded = " ".join(_BRACKETS.sub("", name.casefold()).split()).strip(" .\"'`")
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
    range=(-250.0, 250.0),
    examples=_STOPS,
    libraries=("google-re2",),
    sources=("rewardhub.verifiers.geometry.reading", "rewardhub.verifiers.tags"),
)
def stop_list(response: Response, reference: Json) -> Score:
    """0.5 for each stop of the reference that is listed, -0.5 for each that is wrong or repeated.

    Reference: ``stops``, 1 to 500 names. The answer tag, else the whole response, lists names between
    commas or line ends, at most 500: more are -250. fscdc/RewardMap's dense reward for counting questions.
    """
    stops = need(reference, "stops", (list, tuple))
    if not 0 < len(stops) <= _MOST_STOPS or not all(isinstance(stop, str) and normal(stop) for stop in stops):
        raise ReferenceUnparseable(f"reference.stops must be 1 to {_MOST_STOPS} names", field="reference.stops")
    text, _ = answer_text(response)
    listed = _listed(text)
    if not listed:
        raise NoAnswer("no stop is listed")
    if len(listed) > _MOST_STOPS:
        return Score(-250.0, details={"reason": f"more than {_MOST_STOPS} stops"})
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
        if len(names) > _MOST_STOPS:
            break
    return names
