"""The data files of IFEval and M-IFEval: every shared instruction loads, every other one is named."""

import json
from pathlib import Path
from typing import Any

import pytest

from rewardhub.errors import ReferenceUnparseable
from rewardhub.types import Group, Response, Score, Status
from rewardhub.verifiers.ifeval import ifeval
from rewardhub.verifiers.ifeval_rules.table import RULES

FILES = {"es": 115, "fr": 235, "ja": 172}
OTHERS = {
    "es": {
        "punctuation:exclamation_marks", "punctuation:question_marks", "special_character:dieresis",
        "special_character:enie", "special_character:tildes",
    },
    "fr": {
        "detectable_content:informal_address", "detectable_content:no_digits", "special_character:accents",
        "special_character:ethel_or_cedilla", "special_character:no_accents",
    },
    "ja": {
        "detectable_format:nominal_ending", "detectable_format:number_numbered_lists",
        "length_constraints:number_letters", "letters:furigana", "letters:hiragana_only", "letters:kanji",
        "letters:kansuuji", "letters:katakana_only", "letters:no_hiragana", "letters:no_katakana",
        "punctuation:no_period", "startend:sentence_unified_end",
    },
}  # fmt: skip
NAMES = {"es": "spanish", "fr": "french"}


def rows(path: Path) -> list[dict[str, Any]]:
    """The prompts of a data file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def score(text: str, reference: dict[str, Any], **parameters: Any) -> Score:
    """The score of one response, as the hub gets it."""
    return ifeval.bind(parameters).score(Group("g", reference=reference, responses=(Response(text),)), [0]).row(0)


def test_all_541_english_prompts_load(data_dir: Path) -> None:
    """834 instructions of 25 types, with and without prefix, each with a boolean in the details."""
    prompts = rows(data_dir / "ifeval/input_data.jsonl")
    seen = set()
    for prompt in prompts:
        plain = prompt | {"instruction_id_list": [name.removeprefix("en:") for name in prompt["instruction_id_list"]]}
        for reference in (prompt, plain):
            found = score("My answer is yes.", reference)
            assert found.status is Status.OK, (prompt["key"], found.details)
            assert len(found.details["strict"]) == len(found.details["loose"]) == len(prompt["kwargs"])
        seen.update(plain["instruction_id_list"])
    assert len(prompts) == 541
    assert sum(len(prompt["kwargs"]) for prompt in prompts) == 834
    assert seen == set(RULES)


def test_null_arguments_are_not_given(data_dir: Path) -> None:
    """As the published data set stores them: every argument of every type, most of them null."""
    prompts = rows(data_dir / "ifeval/input_data.jsonl")
    names = {name for prompt in prompts for given in prompt["kwargs"] for name in given}
    for prompt in prompts[:100]:
        filled = prompt | {"kwargs": [dict.fromkeys(names) | given for given in prompt["kwargs"]]}
        assert score("one", filled) == score("one", prompt)


@pytest.mark.parametrize("language", sorted(FILES))
def test_shared_types_load_and_others_are_named(data_dir: Path, language: str) -> None:
    """Each instruction of the Spanish, French and Japanese files, one at a time."""
    prompts = rows(data_dir / f"ifeval/m_ifeval_{language}_input_data.jsonl")
    assert len(prompts) == FILES[language]
    others = set()
    for prompt in prompts:
        for name, given in zip(prompt["instruction_id_list"], prompt["kwargs"], strict=True):
            kind = name.removeprefix(f"{language}:")
            reference = {"instruction_id_list": [name], "kwargs": [given]}
            shared = kind.replace(f":{NAMES.get(language)}_", ":english_") in RULES
            found = score("Hola.", reference)
            assert found.status is (Status.OK if shared else Status.REFERENCE_UNPARSEABLE), (name, found.details)
            if shared:
                plain = reference | {"instruction_id_list": [kind]}
                assert score("Hola.", plain, language=language).value == found.value
            else:
                assert repr(name) in found.details["reason"]
                assert f"{language}:" in found.details["reason"].replace(name, "")
                others.add(kind)
    assert others == OTHERS[language]


@pytest.mark.parametrize(
    ("name", "given", "says"),
    [
        ("length_constraints:number_word", {}, "did you mean 'length_constraints:number_words'?"),
        ("de:punctuation:no_comma", {}, "unknown instruction 'de:punctuation:no_comma'"),
        ("es:change_case:english_capital", {}, "did you mean 'es:change_case:spanish_capital'?"),
        ("ja:change_case:english_capital", {}, "unknown instruction"),
        ("ja:length_constraints:number_words", {"num_words": 3, "relation": "以上"}, "unknown instruction"),
        ("startend:end_checker", {}, "startend:end_checker lacks its argument 'end_phrase'"),
        ("startend:end_checker", {"end_phrases": "a"}, "did you mean 'end_phrase'?"),
        ("startend:end_checker", {"end_phrase": " "}, "must be text"),
        ("length_constraints:number_words", {"num_words": 3, "relation": "around"}, "must be one of at least"),
        ("length_constraints:number_words", {"num_words": -1, "relation": "at least"}, "whole number"),
        ("length_constraints:number_words", {"num_words": 2.5, "relation": "at least"}, "whole number"),
        ("length_constraints:number_words", {"num_words": True, "relation": "at least"}, "whole number"),
        ("keywords:existence", {"keywords": []}, "list of texts"),
        ("keywords:existence", {"keywords": "word"}, "list of texts"),
        ("keywords:letter_frequency", {"letter": "ab", "let_frequency": 1, "let_relation": "at least"}, "one character"),
        ("language:response_language", {"language": "klingon"}, "ISO 639"),
        (
            "length_constraints:nth_paragraph_first_word",
            {"num_paragraphs": 2, "nth_paragraph": 3, "first_word": "a"}, "from 1 to 'num_paragraphs'",
        ),
    ],
)  # fmt: skip
def test_unusable_references_say_what_is_wrong(name: str, given: dict[str, Any], says: str) -> None:
    """Never a number, where the public script draws a random argument or raises a bare KeyError."""
    found = score("text", {"instruction_id_list": [name], "kwargs": [given]})
    assert found.status is Status.REFERENCE_UNPARSEABLE
    assert found.value is None
    assert says in found.details["reason"]


@pytest.mark.parametrize("given", [[], [{}, {}], "x", None, [3]])
def test_lists_of_unequal_length_are_refused(given: object) -> None:
    """As many arguments as instructions."""
    with pytest.raises(ReferenceUnparseable):
        ifeval(Response("a"), {"instruction_id_list": ["punctuation:no_comma"], "kwargs": given})


def test_too_many_instructions_are_refused() -> None:
    """32 are the limit."""
    with pytest.raises(ReferenceUnparseable, match="1 to 32"):
        ifeval(Response("a"), {"instruction_id_list": ["punctuation:no_comma"] * 33, "kwargs": [{}] * 33})
