"""``reasonif``: whether a reasoning trace follows the instructions given for it."""

from collections.abc import Mapping
from typing import Any, Literal

from rewardhub.registry import Example, verifier
from rewardhub.types import Json, Response, Score, Status
from rewardhub.verifiers.ifeval_rules import SOURCES, arguments
from rewardhub.verifiers.ifeval_rules.locales import LOCALES
from rewardhub.verifiers.ifeval_rules.reading import Reading
from rewardhub.verifiers.ifeval_rules.table import RULES, Arguments, Rule, instructions_of

_FAST = 10_000
_OPEN, _CLOSE = "<think>", "</think>"


def _few_words(reading: Reading, given: Arguments, _: Any) -> bool:
    return bool(reading.words < given["num_words"])


_CHECKS: Mapping[str, Rule] = {
    "language:reasoning_language": RULES["language:response_language"],
    "length_constraint_checkers:number_words": Rule(_few_words, {"num_words": arguments.count}),
    **{
        kind: RULES[kind]
        for kind in (
            "change_case:english_capital", "startend:end_checker", "detectable_format:json_format",
            "punctuation:no_comma",
        )
    },
}  # fmt: skip


def _of(name: str, **given: Any) -> Json:
    """The reference of one instruction."""
    return {"instruction_id_list": [name], "kwargs": [given]}


_CAPITAL = {"instruction_id_list": ["change_case:english_capital", "punctuation:no_comma"], "kwargs": [{}, {}]}
_TEN = _of("length_constraint_checkers:number_words", num_words=10)
_COMMA, _JSON = _of("punctuation:no_comma"), _of("detectable_format:json_format")
_EXAMPLES = (
    Example("<think>THE ANSWER IS FOUND BY ADDING TWO AND TWO TOGETHER.</think>4", _CAPITAL, 1.0),
    Example("<think>Step 1, add</think>4", _COMMA, 0.0),
    Example("<think>Step 1 add</think>so, 4", _COMMA, 1.0),
    Example("Step 1 add</think>so, 4", _COMMA, 1.0),
    Example("<think>STEP 1, ADD THE TWO NUMBERS</think>4", _CAPITAL, 0.5, {"aggregate": "share"}),
    Example("<think>1 2 3 4 5 6 7 8 9 10</think>", _TEN, 0.0),
    Example("<think>1 2 3 4 5 6 7 8 9</think>", _TEN, 1.0),
    Example('<think>```json\n{"a": 1}\n```</think>4', _JSON, 1.0),
    Example('<think>it is the End."</think>4', _of("startend:end_checker", end_phrase="the end."), 1.0),
    Example("<think> </think>4", _COMMA, 0.0),
    Example("no trace", _COMMA, 0.0),
    Example("<think>x</think>", _of("punctuation:no_commas"), None, status=Status.REFERENCE_UNPARSEABLE),
)  # fmt: skip


def _fast(response: Response, reference: Json, **parameters: Any) -> Score | None:
    return _score(response, reference, **parameters) if len(response.text) <= _FAST else None


@verifier(
    "reasonif",
    lane="pool",
    fast=_fast,
    libraries=("py3langid",),
    sources=SOURCES,
    examples=_EXAMPLES,
)
def reasonif(response: Response, reference: Json, *, aggregate: Literal["all", "share"] = "all") -> Score:
    """1.0 where the reasoning trace follows all its instructions, or the share that it follows.

    The trace is what stands before the first ``</think>``, behind ``<think>`` where that is there; without
    one, or a blank one, nothing is followed. Reference: ``instruction_id_list`` and ``kwargs`` as for
    ``ifeval``, with the six ids ``language:reasoning_language`` (``language``; a trace without a letter
    counts as followed), ``length_constraint_checkers:number_words`` (fewer than ``num_words``),
    ``change_case:english_capital``, ``startend:end_checker`` (``end_phrase``),
    ``detectable_format:json_format``, ``punctuation:no_comma``. Details: ``followed``, one boolean per
    instruction. Source: ReasonIF (Kwon et al. 2025); its score is the mean of this value over items.
    """
    return _score(response, reference, aggregate=aggregate)


def _score(response: Response, reference: Json, *, aggregate: Literal["all", "share"] = "all") -> Score:
    instructions = instructions_of(reference, lambda _: (_CHECKS, LOCALES["en"]))
    head, closed, _ = response.text.partition(_CLOSE)
    reading = Reading(head.rpartition(_OPEN)[2] if closed else "")
    followed = [each.followed_by(reading) for each in instructions]
    value = float(all(followed)) if aggregate == "all" else sum(followed) / len(followed)
    return Score(value, details={"followed": followed} | ({} if closed else {"reason": "there is no trace"}))
