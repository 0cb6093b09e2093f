"""How much of one figure is in another: data, chart type, layout and texts."""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rapidfuzz.distance import Levenshtein

Point = tuple[float | None, float | None]


@dataclass(frozen=True, slots=True)
class Series:
    """One bar set, line, pie, …: points of x (None where the position in the list is all) and y."""

    kind: str
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Figure:
    """``types`` are the chart types of each pair of axes, ``places`` where those lie in their grid;
    ``texts`` are pairs of role and text; ``image`` is the PNG.
    """

    series: tuple[Series, ...]
    types: tuple[tuple[str, ...], ...]
    places: tuple[tuple[int, ...], ...]
    texts: tuple[tuple[str, str], ...]
    image: str = ""


def read_figure(told: bytes) -> Figure | None:
    """The figure that the probe told of, None where there is none; raises ``ValueError`` for another form."""
    try:
        said = json.loads(told)
        if said["axes"] is None:
            return None
        axes = said["axes"]
        texts = [("title", _text(said["title"]))] if said["title"] else []
        texts += [(_text(role), _text(text)) for each in axes for role, text in each["texts"]]
        return Figure(
            tuple(_series(each) for one in axes for each in one["series"]),
            tuple(sorted(_types(one) for one in axes)),
            tuple(sorted(tuple(map(_whole, one["place"] or ())) for one in axes)),
            tuple(texts), _text(said["image"]),
        )  # fmt: skip
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"no description of a figure: {type(error).__name__}") from None


def _series(said: Any) -> Series:
    y = [_number(each) for each in said["y"]]
    x: Sequence[float | None] = [None] * len(y) if said["x"] is None else [_number(each) for each in said["x"]]
    points = list(zip(x, y, strict=True))
    if said["kind"] == "scatter":
        points.sort(key=lambda point: tuple(math.inf if each is None else each for each in point))
    return Series(_text(said["kind"]), tuple(points))


def _types(axes: Any) -> tuple[str, ...]:
    kinds = {_text(each["kind"]) for each in axes["series"]}
    return (_text(axes["projection"]), *sorted(kinds))


def _number(value: Any) -> float | None:
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300):
        return None if value is None else float(value)
    raise ValueError("not a number")


def _whole(value: Any) -> int:
    if not isinstance(value, int):
        raise TypeError
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def compare(found: Figure, gold: Figure, tolerance: float) -> dict[str, float]:
    """``data``, ``type``, ``layout`` and ``text``, each in [0, 1] (MSRL, arXiv 2508.13587).

    Data: the share of points within ``tolerance`` of the reference's, relative, over the larger number of
    points; series of one type are paired so that most points agree. Type and layout: 1 where they are the
    same. Text: the mean of 1 - edit distance / longer length over pairs of the same role, over the larger
    number of texts. What neither figure has counts as the same.
    """
    return {
        "data": _data(found.series, gold.series, tolerance),
        "type": float(found.types == gold.types),
        "layout": float(found.places == gold.places),
        "text": _texts(found.texts, gold.texts),
    }


def _data(found: Sequence[Series], gold: Sequence[Series], tolerance: float) -> float:
    most = max(sum(len(each.points) for each in side) for side in (found, gold)) if found or gold else 0
    if not most:
        return 1.0
    agreed = 0.0
    for kind in {each.kind for each in gold}:
        mine = [each.points for each in found if each.kind == kind]
        theirs = [each.points for each in gold if each.kind == kind]
        agreed += _paired([[_agreed(one, other, tolerance) for other in theirs] for one in mine])
    return agreed / most


def _agreed(found: Sequence[Point], gold: Sequence[Point], tolerance: float) -> float:
    return float(sum(
        all(_near(one, other, tolerance) for one, other in zip(mine, theirs, strict=True))
        for mine, theirs in zip(found, gold, strict=False)
    ))  # fmt: skip


def _near(value: float | None, gold: float | None, tolerance: float) -> bool:
    if value is None or gold is None:
        return value is gold
    return math.isclose(value, gold, rel_tol=1e-12) or abs(value - gold) <= tolerance * abs(gold)


def _texts(found: Sequence[tuple[str, str]], gold: Sequence[tuple[str, str]]) -> float:
    most = max(len(found), len(gold))
    if not most:
        return 1.0
    sides: tuple[dict[str, list[str]], dict[str, list[str]]] = (defaultdict(list), defaultdict(list))
    for side, texts in zip(sides, (found, gold), strict=True):
        for role, text in texts:
            side[role].append(text)
    return sum(_alike(sides[0][role], sides[1][role]) for role in {*sides[0], *sides[1]}) / most


def _alike(found: Sequence[str], gold: Sequence[str]) -> float:
    same = Counter(found) & Counter(gold)
    rest = [list((Counter(each) - same).elements()) for each in (found, gold)]
    table = [[Levenshtein.normalized_similarity(one, other) for other in rest[1]] for one in rest[0]]
    return same.total() + _paired(table)


def _paired(table: Sequence[Sequence[float]]) -> float:
    """The largest sum of a pairing of rows and columns."""
    if not table or not table[0]:
        return 0.0
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(table, maximize=True)
    return float(sum(table[row][column] for row, column in _pairs(rows, columns)))


def _pairs(rows: Any, columns: Any) -> Iterator[tuple[int, int]]:
    return zip(rows.tolist(), columns.tolist(), strict=True)
