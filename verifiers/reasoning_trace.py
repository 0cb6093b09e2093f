"""``reasoning_trace``: whether the thinking, not the answer, obeys its instructions."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Literal

import re2

from rewardhub.errors import ReferenceUnparseable, nearest
from rewardhub.registry import Example, verifier
from rewardhub.scorer import need
from rewardhub.types import Json, Response, Score, Status
from rewardhub.verifiers.ifeval_rules.language import canonical, known_codes, likeliest, ranking

Trace = Literal["think", "whole"]

_FAST = 10_000
_MOST = 100
_WORD = re2.compile(r"[\pL\pN_]+")
_EDGES = " \t\r\n\"'“”‘’"

_CAPITALS = "THE ANSWER IS FOUND BY ADDING TWO AND TWO TOGETHER."
_UPPER, _COMMA = "change_case:english_capital", "punctuation:no_comma"
_WORDS = "length_constraint_checkers:number_words"
_LANGUAGE, _END, _JSON = "language:reasoning_language", "startend:end_checker", "detectable_format:json_format"


def _of(*pairs: tuple[str, Json]) -> Json:
    return {"instruction_id_list": [name for name, _ in pairs], "kwargs": [dict(given) for _, given in pairs]}


def _think(text: str) -> str:
    return f"<think>{text}</think>4"


_SHOUT = _of((_UPPER, {}), (_COMMA, {}))
_TEN = _of((_WORDS, {"num_words": 10}))
_GERMAN = _of((_LANGUAGE, {"language": "de"}))
_SURE = _of((_END, {"end_phrase": "Any more questions?"}))
_EXAMPLES = (
    Example(_think(_CAPITALS), _SHOUT, 1.0),
    Example(_think("Step 1, add"), _of((_COMMA, {})), 0.0),
    Example(_think("STEP 1, ADD THE NUMBERS TO EACH OTHER"), _SHOUT, 0.0),
    Example(_think("STEP 1, ADD THE NUMBERS TO EACH OTHER"), _SHOUT, 0.5, {"aggregate": "share"}),
    Example(_think("one two three four five six seven eight nine ten"), _TEN, 0.0),
    Example(_think("one two three four five six seven eight nine"), _TEN, 1.0),
    Example(_think("Wir addieren die beiden Zahlen und erhalten vier."), _GERMAN, 1.0),
    Example(_think("We add both of the numbers and get four."), _GERMAN, 0.0),
    Example(_think("2 + 2 = 4"), _GERMAN, 1.0),
    Example(_think('I add. "any more Questions?" '), _SURE, 1.0),
    Example(_think("Any more questions? No."), _SURE, 0.0),
    Example(_think('```json\n{"sum": 4}\n```'), _of((_JSON, {})), 1.0),
    Example(_think('{"sum": 4'), _of((_JSON, {})), 0.0),
    Example("<think> </think>4", _of((_COMMA, {})), 0.0),
    Example("no thinking at all", _of((_COMMA, {})), 0.0),
    Example("no thinking at all", _of((_COMMA, {})), 1.0, {"trace": "whole"}),
    Example("x</think>4", _of(("punctuation:no_coma", {})), None, status=Status.REFERENCE_UNPARSEABLE),
)  # fmt: skip


def _fast(response: Response, reference: Json, **parameters: Any) -> Score | None:
    short = len(response.text) <= _FAST and _LANGUAGE not in (ids := str(reference)) and _UPPER not in ids
    return reasoning_trace(response, reference, **parameters) if short else None


@verifier(
    "reasoning_trace",
    lane="pool",
    fast=_fast,
    examples=_EXAMPLES,
    libraries=("py3langid", "google-re2"),
    sources=("rewardhub.verifiers.ifeval_rules.language",),
)
def reasoning_trace(
    response: Response,
    reference: Json,
    *,
    aggregate: Literal["all", "share"] = "all",
    trace: Trace = "think",
) -> Score:
    """1.0 where the thinking follows all instructions of the reference, or the share that it follows.

    The six checks of ReasonIF (ykwon0407/reasonIF), with its ids in ``instruction_id_list`` and their
    arguments in ``kwargs``: ``language:reasoning_language`` (``language``, a code; undetectable counts as
    followed), ``length_constraint_checkers:number_words`` (fewer than ``num_words``, strictly),
    ``change_case:english_capital`` (upper case, and English once lower-cased), ``startend:end_checker``
    (``end_phrase``, without case, blanks and quotation marks at its ends),
    ``detectable_format:json_format`` (JSON, fences left out) and ``punctuation:no_comma``.

    The trace is what stands before the last ``</think>`` and behind the first ``<think>``, or with
    ``trace="whole"`` the response; an empty trace follows nothing. IFS is the mean value over items.
    Details: ``followed``, one boolean per instruction.
    """
    checks = [_check(name, given) for name, given in _instructions(reference)]
    text = _trace_of(response.text, trace)
    if not text.strip():
        return Score(0.0, details={"followed": [False] * len(checks), "reason": "there is no reasoning"})
    followed = [check(text) for check in checks]
    value = float(all(followed)) if aggregate == "all" else sum(followed) / len(followed)
    return Score(value, details={"followed": followed})


def _trace_of(text: str, trace: Trace) -> str:
    if trace == "whole":
        return text
    end = text.rfind("</think>")
    if end < 0:
        return ""
    begin = text.find("<think>", 0, end)
    return text[begin + 7 if begin >= 0 else 0 : end]


def _instructions(reference: Json) -> list[tuple[str, Mapping[str, Any]]]:
    names = need(reference, "instruction_id_list", (list, tuple))
    given = need(reference, "kwargs", (list, tuple))
    if not 0 < len(names) <= _MOST or len(given) != len(names):
        raise ReferenceUnparseable(
            f"reference.kwargs must be as long as reference.instruction_id_list, 1 to {_MOST}", field="reference.kwargs"
        )
    if not all(isinstance(name, str) for name in names) or not all(isinstance(each, Mapping) for each in given):
        raise ReferenceUnparseable("instructions are names with objects", field="reference.instruction_id_list")
    return list(zip(names, given, strict=True))


def _check(name: str, given: Mapping[str, Any]) -> Callable[[str], bool]:
    if name not in _CHECKS:
        raise ReferenceUnparseable(
            f"unknown instruction {name!r}{nearest(name, _CHECKS)}", field="reference.instruction_id_list"
        )
    key, kind, check = _CHECKS[name]
    argument = given.get(key)
    if key and (not isinstance(argument, kind) or isinstance(argument, bool) or not argument):
        raise ReferenceUnparseable(f"{name} needs {key}", field="reference.kwargs")
    if key == "language" and canonical(str(argument)) not in known_codes():
        raise ReferenceUnparseable(f"unknown language {argument!r}", field="reference.kwargs")
    return lambda text: check(text, argument)


def _is_language(text: str, code: str) -> bool:
    wanted = canonical(code)
    return likeliest(ranking(text), wanted) in ("", wanted)


def _is_short(text: str, most: int) -> bool:
    return len(_WORD.findall(text)) < most


def _is_capital(text: str, _nothing: object) -> bool:
    return text.isupper() and _is_language(text.lower(), "en")


def _ends(text: str, phrase: str) -> bool:
    return text.strip(_EDGES).casefold().endswith(phrase.strip(_EDGES).casefold())


def _is_json(text: str, _nothing: object) -> bool:
    inner = text.strip().removeprefix("```").removesuffix("```")
    try:
        json.loads(inner.lstrip().removeprefix("json").removeprefix("JSON"), parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


_CHECKS: dict[str, tuple[str, type, Callable[[str, Any], bool]]] = {
    _LANGUAGE: ("language", str, _is_language),
    _WORDS: ("num_words", int, _is_short),
    _UPPER: ("", object, _is_capital),
    _END: ("end_phrase", str, _ends),
    _JSON: ("", object, _is_json),
    _COMMA: ("", object, lambda text, _nothing: "," not in text),
}
"""Per instruction: its argument, the argument's type, the check."""
