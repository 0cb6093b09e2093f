"""Single rules of ``ifeval``: where it departs from the public script, other languages, loose variants."""

import importlib
import pkgutil
from typing import Any

import pytest

from rewardhub.types import Response
from rewardhub.verifiers.ifeval import ifeval
from rewardhub.verifiers.ifeval_points import ifeval_points
from rewardhub.verifiers.ifeval_rules.sentences import sentence_count
from rewardhub.verifiers.ifeval_rules.table import loose_readings
from rewardhub.verifiers.reasonif import reasonif


def follows(name: str, text: str, /, **given: Any) -> bool:
    """Whether a response strictly follows one instruction."""
    return bool(ifeval(Response(text), {"instruction_id_list": [name], "kwargs": [given]}).value)


ENGLISH_SENTENCES = {
    "": 0,
    "***": 0,
    "one": 1,
    "One. Two! Three? Four": 4,
    "Dr. Smith met Mr. J. K. Jones, i.e. an old friend.": 1,
    "John F. Kennedy lived in the U.S. for years.": 1,
    "He lived in the U.S. She did not.": 2,
    "Therefore the answer is A. The other is wrong.": 2,
    "It costs 3.50 dollars at example.com today.": 1,
    "Wait... what? No... Yes.": 3,
    '“Really?” he asked. "Yes!" she said.': 2,
    'He said "stop." Then he left.': 2,
    "1. First item\n2. Second item\n3. Third item": 1,
    "1. First item.\n2. Second item.": 2,
    "a) one.\nb) two.": 2,
    "Title\n\nText goes here.": 1,
    "i like cats. i like dogs! do you?": 3,
    "Apples, pears, etc. are fruit. Apples, etc. They are fruit.": 3,
    "See no. 5 and fig. 2. My answer is no. Next.": 3,
    "What?! No!!! Yes...": 3,
    "**Bold.** *Next one.* (Third.)": 3,
    "好的。谢谢！再见？": 3,
    "यह एक वाक्य है। यह दूसरा है।": 2,
}


@pytest.mark.parametrize("text", sorted(ENGLISH_SENTENCES))
def test_sentences(text: str) -> None:
    """Abbreviations, initials, quotes, list numbers and ellipses do not end a sentence."""
    assert sentence_count(text, "en") == ENGLISH_SENTENCES[text]


def test_list_numbers_need_an_item() -> None:
    """A number on a line of its own is an answer, not the mark of a list item."""
    assert sentence_count("The answer is\n5.\nIt is a prime.", "en") == 2
    assert sentence_count("The answer is\n5. It is a prime.", "en") == 1


def test_counting_stops() -> None:
    """No further than asked for, so that a huge response costs no more than its threshold."""
    assert sentence_count("A b. " * 100, "en", 7) == 7
    assert sentence_count("あ。" * 100, "ja", 7) == 7


@pytest.mark.parametrize(
    ("language", "text", "count"),
    [
        ("es", "El Sr. García llegó. ¿Quién es? ¡Hola!", 3),
        ("es", "Vive en EE.UU. desde hace años.", 1),
        ("fr", "M. Dupont est là. Comment allez-vous ? Bien !", 3),
        ("fr", "Mme. Curie dit : « Oui. » Elle rit.", 2),
        ("ja", "今日は晴れです。明日は雨！本当？", 3),
        ("ja", "彼は「行く。すぐに。」と言った。終わり", 2),
        ("ja", "見出し\n・一つめ\n・二つめ\n\n", 3),
        ("ja", "……。\n***", 0),
    ],
)
def test_sentences_of_other_languages(language: str, text: str, count: int) -> None:
    """Each with its own abbreviations and marks."""
    assert sentence_count(text, language) == count


@pytest.mark.parametrize(
    ("name", "good", "bad", "given"),
    [
        ("es:change_case:spanish_lowercase", "la casa de mi abuela está en el pueblo", "The house is here", {}),
        ("fr:change_case:french_capital", "LA MAISON DE MA GRAND-MÈRE EST BELLE", "THE HOUSE IS VERY BIG AND OLD", {}),
        ("es:detectable_format:constrained_response", "Quizás.", "Sí. No.", {}),
        ("fr:detectable_format:constrained_response", "Peut-être.", "Certainement.", {}),
        ("ja:detectable_format:constrained_response", "いいえ、違います。", "いいえ。", {}),
        ("fr:detectable_format:title", "##hymne à la joie##\ntexte", "<<hymne à la joie>>", {}),
        ("ja:detectable_format:title", "『喜びの詩』", "『』<<a>>", {}),
        ("fr:startend:quotation", "« Bonjour à tous »", "« Bonjour", {}),
        ("fr:startend:quotation", '"Bonjour"', "“Bonjour”", {}),
        ("ja:startend:quotation", "「こんにちは」", '"こんにちは"', {}),
        ("ja:punctuation:no_comma", "1,000円です。", "はい、そうです。", {}),
        ("ja:detectable_format:number_bullet_lists", "・一\n・二\n---\n**太字**", "・一", {"num_bullets": 2}),
        ("ja:detectable_format:number_highlighted_sections", "《あ》と《い》", "《あ》と《 》", {"num_highlights": 2}),
        (
            "ja:detectable_format:multiple_sections", "第1章\nあ\n第２章\nい", "第1章\n第章",
            {"num_sections": 2, "section_spliter": "章"},
        ),
        ("ja:detectable_content:postscript", "本文です。追伸：また", "本文です。", {"postscript_marker": "追伸"}),
        ("ja:detectable_content:postscript", "本文\nP. P. S. メモ", "本文 P.S. メモ", {"postscript_marker": "P.P.S."}),
        ("es:detectable_content:postscript", "Adiós.\nNota: vuelvo", "Una anotación", {"postscript_marker": "Nota"}),
        ("fr:detectable_content:postscript", "Fin.\nPS: merci", "le corps et la psychologie", {"postscript_marker": "PS"}),
        ("ja:keywords:forbidden_words", "建物です。", "この大聖堂は有名です。", {"forbidden_words": ["大聖堂"]}),
        ("ja:keywords:existence", "その創造性を通じて", "その想像を", {"keywords": ["創造性"]}),
        ("es:keywords:forbidden_words", "la publicidad", "la niñez.", {"forbidden_words": ["niñez", "public"]}),
        (
            "ja:keywords:letter_frequency", "かカか", "かき",
            {"letter": "か", "let_frequency": 3, "let_relation": "以上"},
        ),
        ("es:keywords:frequency", "éxito", "Éxito y éxito", {"keyword": "éxito", "frequency": 1, "relation": "como máximo"}),
        ("fr:length_constraints:number_words", "un deux", "un deux trois", {"num_words": 3, "relation": "moins de"}),
        (
            "es:length_constraints:nth_paragraph_first_word", "Desde mi punto de vista, sí.\n\nFin.", "Desde aquí.\n\nFin.",
            {"num_paragraphs": 2, "nth_paragraph": 1, "first_word": "Desde mi punto de vista"},
        ),
        (
            "ja:length_constraints:nth_paragraph_first_word", "序文\n\n「首」は長い。", "序文\n\n長い首。",
            {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "首"},
        ),
        ("es:startend:end_checker", "Gracias. ¿Necesitas algo más?", "¿Necesitas algo?", {"end_phrase": "¿Necesitas algo más?"}),
        ("ja:startend:end_checker", "はい。「終わりです。」", "終わりです。はい", {"end_phrase": "終わりです。"}),
    ],
)  # fmt: skip
def test_other_languages(name: str, good: str, bad: str, given: dict[str, Any]) -> None:
    """A response that follows, and one that does not, of what differs by language."""
    assert follows(name, good, **given)
    assert not follows(name, bad, **given)


def test_keywords_are_literal() -> None:
    """The public script searches them as patterns: "C++" raises there and "a.c" finds "abc"."""
    assert follows("keywords:existence", "I like C++.", keywords=["c++"])
    assert not follows("keywords:existence", "abc", keywords=["a.c"])
    assert not follows("keywords:forbidden_words", "I like C++ most", forbidden_words=["C++"])
    assert follows("keywords:forbidden_words", "abc", forbidden_words=["a.c"])


def test_any_character_can_be_counted() -> None:
    """The public script counts a random letter where the data file asks for # or !."""
    least = {"letter": "#", "let_frequency": 4, "let_relation": "at least"}
    assert follows("keywords:letter_frequency", "#a #b #c #d", **least)
    assert not follows("keywords:letter_frequency", "abcdefgh " * 50, **least)


def test_options_do_not_add_up() -> None:
    """All options in one response answer nothing."""
    every = "My answer is yes. My answer is no. My answer is maybe."
    assert not follows("detectable_format:constrained_response", every)
    assert follows("detectable_format:constrained_response", "Well. My answer is no. Because.")


def test_blank_paragraphs_are_not_numbered() -> None:
    """Four line ends between paragraphs make no paragraph of their own."""
    given = {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "then"}
    assert follows("length_constraints:nth_paragraph_first_word", "First this.\n\n\n\nThen that.", **given)


def test_a_text_without_a_letter_is_in_any_language() -> None:
    """As published, so that it cannot be told from a detector's failure; in capitals it is not."""
    assert follows("language:response_language", "12 + 34 = 46", language="kn")
    assert not follows("change_case:english_capital", "12 + 34 = 46")


def test_a_few_words_of_another_language_do_not_decide() -> None:
    """The language is that of most of the text."""
    text = "The word gato is Spanish for cat, and we say it every day in our house."
    assert follows("language:response_language", text, language="en")
    assert not follows("language:response_language", text, language="es")


def test_json_as_the_standard_has_it() -> None:
    """Large numbers are JSON, NaN is not, and nesting that no parser follows is not followed."""
    assert follows("detectable_format:json_format", '{"n": ' + "9" * 9000 + "}")
    assert not follows("detectable_format:json_format", "[NaN]")
    assert not follows("detectable_format:json_format", "[" * 100_000)


def test_eight_variants() -> None:
    """First line, last line, both, each with and without stars."""
    variants = [reading.text for reading in loose_readings("a *1*\nb *2*\nc *3*")]
    assert variants == [
        "a *1*\nb *2*\nc *3*", "b *2*\nc *3*", "a *1*\nb *2*", "b *2*", "a 1\nb 2\nc 3", "b 2\nc 3", "a 1\nb 2", "b 2",
    ]  # fmt: skip
    assert [reading.text for reading in loose_readings("one")] == ["one"]
    assert loose_readings("\n\n") == []


@pytest.mark.parametrize(
    ("text", "strict", "loose"),
    [
        ("plain words", True, True),
        ("Sure, of course:\nplain words", False, True),
        ("plain words\nHope, this helps", False, True),
        ("Sure, yes:\nplain words\nBye, you", False, True),
        ("plain, words", False, False),
    ],
)
def test_strict_and_loose(text: str, strict: bool, loose: bool) -> None:
    """Details carry both, whatever the mode; an instruction counts as followed in any one variant."""
    reference = {
        "instruction_id_list": ["punctuation:no_comma", "keywords:existence"],
        "kwargs": [{}, {"keywords": ["plain"]}],
    }
    score = ifeval(Response(text), reference)
    assert score.details["strict"] == [strict, True]
    assert score.details["loose"] == [loose, True]
    assert score.details["failed"] == ([] if strict else ["punctuation:no_comma"])
    assert ifeval(Response(text), reference, mode="loose").value == float(loose)
    assert ifeval(Response(text), reference, aggregate="share").value == (1.0 if strict else 0.5)


def test_loose_takes_the_stars_away() -> None:
    """An end phrase in bold ends the response once its stars are gone."""
    reference = {"instruction_id_list": ["startend:end_checker"], "kwargs": [{"end_phrase": "the end."}]}
    score = ifeval(Response("Story.\n**The end.**"), reference)
    assert (score.details["strict"], score.details["loose"]) == ([False], [True])


def test_prompt_and_instruction_level() -> None:
    """Two prompts, followed [1, 1] and [1, 0]: prompt accuracy 0.5, instruction accuracy 0.75."""
    reference = {"instruction_id_list": ["punctuation:no_comma", "startend:quotation"], "kwargs": [{}, {}]}
    texts = ['"quoted"', "bare"]
    assert [ifeval(Response(text), reference).value for text in texts] == [1.0, 0.0]
    assert [ifeval(Response(text), reference, aggregate="share").value for text in texts] == [1.0, 0.5]


def test_fingerprint_covers_every_rule_file() -> None:
    """A change in any file of the rules changes the fingerprint."""
    package = importlib.import_module("rewardhub.verifiers.ifeval_rules")
    files = {f"{package.__name__}.{entry.name}" for entry in pkgutil.iter_modules(package.__path__)}
    assert set(ifeval.sources) == files - {f"{package.__name__}.points"}
    assert set(reasonif.sources) == set(ifeval.sources)
    assert set(ifeval_points.sources) == files
