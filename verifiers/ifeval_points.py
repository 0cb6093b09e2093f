"""``ifeval_points``: all-or-nothing plus points per constraint, the dense reward of Light-IF."""

from collections.abc import Mapping
from typing import Any, Literal

from rewardhub.errors import ReferenceUnparseable, nearest
from rewardhub.registry import Example, verifier
from rewardhub.scorer import need
from rewardhub.types import Json, Response, Score, Status
from rewardhub.verifiers.ifeval_rules import SOURCES, arguments
from rewardhub.verifiers.ifeval_rules.points import TABLES, Constraint
from rewardhub.verifiers.ifeval_rules.reading import Reading

_MOST = 20
_CLOSE = "</think>"

_ENGLISH = {
    "language": "en",
    "constraints": [
        {"type": "sentences", "exact": 3}, {"type": "end_phrase", "text": "The end"},
        {"type": "words", "min": 3, "max": 10},
    ],
}  # fmt: skip
_CHINESE = {
    "language": "zh",
    "constraints": [
        {"type": "sentences", "exact": 2}, {"type": "keyword", "text": "猫", "min": 1},
        {"type": "title_style", "text": "《》"}, {"type": "title_length", "max": 4},
    ],
}  # fmt: skip
_UNSET = {"language": "zh", "constraints": [{"type": "end_with", "text": "。"}]}
_CODE = {"language": "en", "constraints": [{"type": "check_code", "text": "def check(x): return True"}]}
_EXAMPLES = (
    Example("<think>x</think>Cats sleep. Dogs run. The end", _ENGLISH, 1.4),
    Example("<think>x</think>Cats sleep. Dogs run.", _ENGLISH, 0.1),
    Example("<think>x</think>Cats sleep. Dogs run.", _ENGLISH, 0.0, {"part": "all"}),
    Example("<think>x</think>Cats sleep. Dogs run. The end", _ENGLISH, 0.4, {"part": "points"}),
    Example("Cats sleep. Dogs run. The end", _ENGLISH, 0.0),
    Example("Cats sleep. Dogs run. The end", _ENGLISH, 1.4, {"reasoning": False}),
    Example("<think>x</think>《小猫》\n\n猫在睡觉。它很可爱！", _CHINESE, 1.32),
    Example("<think>x</think>小猫\n\n猫在睡觉。它很可爱！", _CHINESE, 0.3),
    Example("<think>x</think>好。", _UNSET, 1.02),
    Example("<think>x</think>hi", _CODE, None, status=Status.REFERENCE_UNPARSEABLE),
)  # fmt: skip


@verifier(
    "ifeval_points",
    lane="pool",
    fast=lambda response, reference, **given: (
        _score(response, reference, **given) if len(response.text) <= 10_000 else None
    ),
    range=(0.0, 5.0),
    libraries=("py3langid",),
    sources=(*SOURCES, "rewardhub.verifiers.ifeval_rules.points"),
    examples=_EXAMPLES,
)
def ifeval_points(
    response: Response,
    reference: Json,
    *,
    part: Literal["sum", "all", "points"] = "sum",
    reasoning: bool = True,
) -> Score:
    """1 where the answer meets all constraints, plus the points of each constraint that it meets.

    Reference: ``language`` (``en`` or ``zh``) and ``constraints``, 1 to 20 objects with a ``type`` of that
    language's table and its arguments: ``exact``, ``min`` and ``max`` (inclusive counts; ``exact`` 0 is
    "absent"), ``text``, ``letter``, ``number``. ``part`` is the sum, or one of its two terms alone. The
    answer is what stands behind ``</think>``; without one the value is 0, unless ``reasoning`` is off.
    A constraint that the reference does not name earns nothing and fails nothing. Details: ``met``, one
    boolean per constraint, ``all`` and ``points``.

    Points and tables: Light-IF (arXiv 2508.03178), 0.02 to 0.2 for each constraint; see
    ``ifeval_rules.points``. The value is at most 1 plus the sum of the points stated, so at most 5.
    """
    return _score(response, reference, part=part, reasoning=reasoning)


def _score(
    response: Response, reference: Json, *, part: Literal["sum", "all", "points"] = "sum", reasoning: bool = True
) -> Score:
    constraints = constraints_of(reference)
    head, closed, tail = response.text.partition(_CLOSE)
    answer = tail.strip() if closed else "" if reasoning else head.strip()
    reading = Reading(answer)
    met = [bool(answer) and each.met_by(reading) for each in constraints]
    points = round(sum(each.points for each, is_met in zip(constraints, met, strict=True) if is_met), 9)
    complete = float(all(met))
    value = {"sum": complete + points, "all": complete, "points": points}[part]
    return Score(value, details={"met": met, "all": complete, "points": points})


def constraints_of(reference: Json) -> list[Constraint]:
    """The constraints of a reference; raises ``ReferenceUnparseable`` that names what is wrong."""
    language, stated = need(reference, "language"), need(reference, "constraints", list)
    if language not in TABLES:
        message = f"unknown language {language[:40]!r}{nearest(language[:40], TABLES)}"
        raise ReferenceUnparseable(message, field="reference.language")
    if not 0 < len(stated) <= _MOST:
        raise ReferenceUnparseable(f"1 to {_MOST} constraints are expected", field="reference.constraints")
    return [_constraint(raw, language) for raw in stated]


def _constraint(raw: Any, language: str) -> Constraint:
    kind = raw.get("type") if isinstance(raw, Mapping) else None
    if not isinstance(kind, str):
        raise ReferenceUnparseable("a constraint is an object with a type", field="reference.constraints")
    table = TABLES[language]
    if kind not in table:
        message = f"unknown constraint {kind[:100]!r}{nearest(kind[:100], table)}"
        raise ReferenceUnparseable(message, field="reference.constraints")
    rest = {key: value for key, value in raw.items() if key != "type"}
    entry = table[kind]
    given = arguments.read_arguments(rest, entry.needed, entry.optional, kind)
    points = entry.points(given)
    if points is None:
        raise ReferenceUnparseable(f"{kind} needs {entry.wants}", field="reference.constraints")
    return Constraint(entry, given, points)
