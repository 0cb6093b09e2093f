"""``ifeval``: whether a response follows verifiable instructions, strict and loose."""

from typing import Any, Literal

from rewardhub.registry import Example, verifier
from rewardhub.types import Json, Response, Score, Status
from rewardhub.verifiers.ifeval_rules import SOURCES
from rewardhub.verifiers.ifeval_rules.locales import Language
from rewardhub.verifiers.ifeval_rules.table import by_language, instructions_of, loose_readings

_FAST = 10_000
"""Characters up to which a response is scored in process."""


def _of(*pairs: tuple[str, Json]) -> Json:
    """The reference of these instructions."""
    return {"instruction_id_list": [name for name, _ in pairs], "kwargs": [dict(given) for _, given in pairs]}


_WORDS = ("length_constraints:number_words", {"num_words": 3, "relation": "at least"})
_BOTH = _of(_WORDS, ("punctuation:no_comma", {}))
_TITLE: tuple[str, Json] = ("detectable_format:title", {})
_UNKNOWN = _of(("length_constraints:number_wordz", {}))
_EXAMPLES = (
    Example("one two three", _BOTH, 1.0),
    Example("one, two, three", _BOTH, 0.0),
    Example("one, two, three", _BOTH, 0.5, {"aggregate": "share"}),
    Example("Sure, here it is:\none two three", _BOTH, 0.0),
    Example("Sure, here it is:\none two three", _BOTH, 1.0, {"mode": "loose"}),
    Example("<<A poem>> of joy", _of(_TITLE), 1.0),
    Example("##Un poème## de joie", _of(("fr:detectable_format:title", {})), 1.0),
    Example("『喜びの詩』です", _of(_TITLE), 1.0, {"language": "ja"}),
    Example("TODO EN ESPAÑOL Y EN MAYÚSCULAS", _of(("es:change_case:spanish_capital", {})), 1.0),
    Example("", _BOTH, 0.0),
    Example("one two three", _UNKNOWN, None, status=Status.REFERENCE_UNPARSEABLE),
    Example("á", _of(("es:special_character:tildes", {})), None, status=Status.REFERENCE_UNPARSEABLE),
)


def _fast(response: Response, reference: Json, **parameters: Any) -> Score | None:
    return _score(response, reference, **parameters) if len(response.text) <= _FAST else None


@verifier(
    "ifeval",
    lane="pool",
    fast=_fast,
    libraries=("py3langid",),
    sources=SOURCES,
    examples=_EXAMPLES,
)
def ifeval(
    response: Response,
    reference: Json,
    *,
    aggregate: Literal["all", "share"] = "all",
    mode: Literal["strict", "loose"] = "strict",
    language: Language = "en",
) -> Score:
    """1.0 where the response follows all instructions of the reference, or the share that it follows.

    Reference: ``instruction_id_list`` and ``kwargs``, a list of objects as long, as in the IFEval and
    M-IFEval data files; null arguments are "not given"; ``prompt`` may be there and is not read. An id is
    one of the 25 IFEval types, alone or behind ``en:``, ``es:``, ``fr:`` or ``ja:``; ``language`` is that of
    ids without a prefix. Other ids are ``reference_unparseable`` and named with the nearest known one.

    ``mode="loose"`` counts an instruction as followed where one of eight variants of the response does:
    without the first line, the last, or both, each with and without its stars. ``aggregate`` is all or
    nothing (prompt level) or the share (instruction level). Details: ``strict`` and ``loose``, one boolean
    per instruction, and ``failed``, the ids that were not followed in this mode.

    Definitions: Zhou et al. 2023 (arXiv 2311.07911) and the code beside it. Where that code is at odds with
    the instruction it gives, the instruction wins: keywords are literal, not patterns; any character can be
    the counted letter; exactly one option answers a constrained response; horizontal rules are no bullets;
    blank paragraphs are not numbered; a postscript marker is not part of a word; NaN is no JSON; sentence
    counts ignore list numbers, and all commas are commas. Words are runs of letters and digits in every
    language; a text without a letter is in any language, as published. The title, the quotes, the options
    and the bullets of each language are those its prompts ask for (``ifeval_rules.locales``).
    """
    return _score(response, reference, aggregate=aggregate, mode=mode, language=language)


def _score(
    response: Response, reference: Json, *, aggregate: Literal["all", "share"] = "all",
    mode: Literal["strict", "loose"] = "strict", language: Language = "en",
) -> Score:  # fmt: skip
    instructions = instructions_of(reference, by_language(language))
    readings = loose_readings(response.text)
    strict = [bool(readings) and each.followed_by(readings[0]) for each in instructions]
    loose = [
        followed or any(each.followed_by(reading) for reading in readings[1:])
        for each, followed in zip(instructions, strict, strict=True)
    ]
    counted = strict if mode == "strict" else loose
    value = float(all(counted)) if aggregate == "all" else sum(counted) / len(counted)
    failed = [each.id for each, followed in zip(instructions, counted, strict=True) if not followed]
    return Score(value, details={"strict": strict, "loose": loose, "failed": failed})
