"""The instruction types by id, and the reading of a reference into instructions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rewardhub.errors import ReferenceUnparseable, nearest
from rewardhub.scorer import need
from rewardhub.types import Json
from rewardhub.verifiers.ifeval_rules import arguments, layout, wording
from rewardhub.verifiers.ifeval_rules.arguments import Reader, read_arguments
from rewardhub.verifiers.ifeval_rules.locales import LOCALES, Language, Locale, compare
from rewardhub.verifiers.ifeval_rules.reading import Reading

Arguments = Mapping[str, Any]
Check = Callable[[Reading, Arguments, Locale], bool]

_MOST = 32
_AT_LEAST = ">="


@dataclass(frozen=True, slots=True)
class Rule:
    """An instruction type: its check and the readers of its arguments."""

    check: Check
    needed: Mapping[str, Reader] = field(default_factory=dict)
    optional: Mapping[str, Reader] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction of a reference: ``id`` as it was given."""

    id: str
    rule: Rule
    given: Arguments
    locale: Locale

    def followed_by(self, reading: Reading) -> bool:
        return bool(reading.text.strip()) and self.rule.check(reading, self.given, self.locale)


def _counted(count: Callable[[Reading, Arguments, Locale], int], number: str, related: str = "relation") -> Check:
    """A check that compares a count with the argument ``number``, at least so many by default."""

    def check(reading: Reading, given: Arguments, locale: Locale) -> bool:
        return compare(count(reading, given, locale), given.get(related, _AT_LEAST), given[number])

    return check


def _divided_into(reading: Reading, given: Arguments, _: Locale) -> bool:
    pieces = layout.divided(reading.text, "***")
    return pieces is not None and len(pieces) == given["num_paragraphs"]


def _sentences(reading: Reading, given: Arguments, locale: Locale) -> int:
    return reading.sentences(locale.code, given["num_sentences"] + 1)


def _two_responses(reading: Reading, _: Arguments, __: Locale) -> bool:
    pieces = layout.divided(reading.text, "******")
    return pieces is not None and len(pieces) == 2 and pieces[0] != pieces[1]


def _nth_first_word(reading: Reading, given: Arguments, locale: Locale) -> bool:
    found = layout.paragraphs(reading.text)
    if len(found) != given["num_paragraphs"] or not 0 < given["nth_paragraph"] <= len(found):
        return False
    return layout.begins_with(found[given["nth_paragraph"] - 1], given["first_word"], locale)


def _all_capital(reading: Reading, _: Arguments, locale: Locale) -> bool:
    return reading.text.isupper() and reading.language(locale.code) == locale.code


def _all_lowercase(reading: Reading, _: Arguments, locale: Locale) -> bool:
    return reading.text.islower() and reading.language(locale.code) == locale.code


def _in_language(reading: Reading, given: Arguments, _: Locale) -> bool:
    # As published, a text without a letter is in any language.
    return reading.language(given["language"]) in ("", given["language"])


_COUNT, _TEXT, _RELATION = arguments.count, arguments.text, arguments.relation
_RELATED = {"relation": _RELATION}

RULES: Mapping[str, Rule] = {
    "change_case:capital_word_frequency": Rule(
        _counted(lambda reading, _, __: reading.capital_words, "capital_frequency", "capital_relation"),
        {"capital_frequency": _COUNT, "capital_relation": _RELATION},
    ),
    "change_case:english_capital": Rule(_all_capital),
    "change_case:english_lowercase": Rule(_all_lowercase),
    "combination:repeat_prompt": Rule(
        lambda reading, given, _: wording.repeats(reading, given["prompt_to_repeat"]), {"prompt_to_repeat": _TEXT}
    ),
    "combination:two_responses": Rule(_two_responses),
    "detectable_content:number_placeholders": Rule(
        _counted(lambda reading, _, __: layout.placeholders(reading), "num_placeholders"),
        {"num_placeholders": _COUNT}, _RELATED,
    ),
    "detectable_content:postscript": Rule(
        lambda reading, given, _: layout.has_postscript(reading, given["postscript_marker"]),
        {"postscript_marker": _TEXT},
    ),
    "detectable_format:constrained_response": Rule(lambda reading, _, locale: wording.is_one_option(reading, locale)),
    "detectable_format:json_format": Rule(lambda reading, _, __: wording.is_json(reading)),
    "detectable_format:multiple_sections": Rule(
        _counted(
            lambda reading, given, locale: layout.sections(reading, given["section_spliter"], locale), "num_sections"
        ),
        {"section_spliter": _TEXT, "num_sections": _COUNT}, _RELATED,
    ),
    "detectable_format:number_bullet_lists": Rule(
        lambda reading, given, locale: layout.bullets(reading, locale) == given["num_bullets"],
        {"num_bullets": _COUNT},
    ),
    "detectable_format:number_highlighted_sections": Rule(
        _counted(lambda reading, _, locale: layout.highlights(reading, locale), "num_highlights"),
        {"num_highlights": _COUNT}, _RELATED,
    ),
    "detectable_format:title": Rule(lambda reading, _, locale: layout.has_title(reading, locale)),
    "keywords:existence": Rule(
        lambda reading, given, _: all(wording.holds(reading, word) for word in given["keywords"]),
        {"keywords": arguments.texts},
    ),
    "keywords:forbidden_words": Rule(
        lambda reading, given, locale: not any(
            wording.holds_word(reading, word, locale) for word in given["forbidden_words"]
        ),
        {"forbidden_words": arguments.texts},
    ),
    "keywords:frequency": Rule(
        _counted(lambda reading, given, _: wording.occurrences(reading, given["keyword"]), "frequency"),
        {"keyword": _TEXT, "frequency": _COUNT, "relation": _RELATION},
    ),
    "keywords:letter_frequency": Rule(
        _counted(
            lambda reading, given, locale: wording.letter_count(reading, given["letter"], locale),
            "let_frequency", "let_relation",
        ),
        {"letter": arguments.letter, "let_frequency": _COUNT, "let_relation": _RELATION},
    ),
    "language:response_language": Rule(_in_language, {"language": arguments.language}),
    "length_constraints:nth_paragraph_first_word": Rule(
        _nth_first_word, {"num_paragraphs": _COUNT, "nth_paragraph": _COUNT, "first_word": _TEXT}
    ),
    "length_constraints:number_paragraphs": Rule(_divided_into, {"num_paragraphs": _COUNT}),
    "length_constraints:number_sentences": Rule(
        _counted(_sentences, "num_sentences"),
        {"num_sentences": _COUNT, "relation": _RELATION},
    ),
    "length_constraints:number_words": Rule(
        _counted(lambda reading, _, __: reading.words, "num_words"), {"num_words": _COUNT, "relation": _RELATION}
    ),
    "punctuation:no_comma": Rule(lambda reading, _, locale: not wording.has_comma(reading, locale)),
    "startend:end_checker": Rule(
        lambda reading, given, _: wording.ends_with(reading, given["end_phrase"]), {"end_phrase": _TEXT}
    ),
    "startend:quotation": Rule(lambda reading, _, locale: wording.is_quoted(reading, locale)),
}  # fmt: skip
"""The 25 types by their English id."""

_NEEDS_WORDS = frozenset(
    kind for kind in RULES if kind.startswith("change_case:") or kind == "length_constraints:number_words"
)


def known_ids(locale: Locale, prefix: str) -> dict[str, Rule]:
    """The rules of a language under their ids: ``spanish_capital`` is ``english_capital``. Japanese has
    neither capitals nor blanks between words, so it lacks four types.
    """
    return {
        prefix + kind.replace(":english_", f":{locale.name}_"): rule
        for kind, rule in RULES.items()
        if locale.words or kind not in _NEEDS_WORDS
    }


Lookup = Callable[[str], tuple[Mapping[str, Rule], Locale]]
"""The rules among which an id is looked up, and its language."""

_PREFIXED = {code: known_ids(locale, f"{code}:") for code, locale in LOCALES.items()}
_PLAIN = {code: known_ids(locale, "") for code, locale in LOCALES.items()}


def by_language(language: Language) -> Lookup:
    """Ids behind ``en:``, ``es:``, ``fr:`` or ``ja:``, or without prefix in ``language``."""

    def lookup(name: str) -> tuple[Mapping[str, Rule], Locale]:
        code, colon, _ = name.partition(":")
        if colon and code in LOCALES:
            return _PREFIXED[code], LOCALES[code]
        return _PLAIN[language], LOCALES[language]

    return lookup


def instructions_of(reference: Json, lookup: Lookup) -> tuple[Instruction, ...]:
    """The instructions of a reference.

    Raises ``ReferenceUnparseable``: an unknown id with the nearest known one, an argument that is missing,
    unknown or unusable, lists of unequal length, none or more than 32 instructions.
    """
    ids, given = need(reference, "instruction_id_list", list), need(reference, "kwargs", list)
    if not 0 < len(ids) <= _MOST or len(ids) != len(given):
        message = f"1 to {_MOST} instructions with as many kwargs are expected, got {len(ids)} and {len(given)}"
        raise ReferenceUnparseable(message, field="reference.instruction_id_list")
    if "prompt" in reference:
        need(reference, "prompt", str)
    return tuple(_instruction(name, raw, lookup) for name, raw in zip(ids, given, strict=True))


def _instruction(name: Any, raw: Any, lookup: Lookup) -> Instruction:
    if not isinstance(name, str) or not isinstance(raw, Mapping | None):
        raise ReferenceUnparseable("an instruction is an id and an object of arguments", field="reference.kwargs")
    known, locale = lookup(name)
    if name not in known:
        message = f"unknown instruction {name[:100]!r}{nearest(name[:100], known)}"
        raise ReferenceUnparseable(message, field="reference.instruction_id_list")
    rule = known[name]
    given = read_arguments(raw or {}, rule.needed, rule.optional, name)
    _check_order(name, given)
    return Instruction(name, rule, given, locale)


def _check_order(name: str, given: Arguments) -> None:
    if "nth_paragraph" in given and not 0 < given["nth_paragraph"] <= given["num_paragraphs"]:
        message = f"{name}: 'nth_paragraph' must be from 1 to 'num_paragraphs'"
        raise ReferenceUnparseable(message, field="reference.kwargs")


def loose_readings(text: str) -> Sequence[Reading]:
    """The variants of a text that the loose metric tries: without its first line, its last or both, each
    with and without stars; the text itself first, equal ones once.
    """
    lines = text.split("\n")
    cut = [text, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    variants = dict.fromkeys([*cut, *(variant.replace("*", "") for variant in cut)])
    return [Reading(variant) for variant in variants if variant.strip()]
