"""All 25 instruction types: generated responses that satisfy each pass, single violations fail."""

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewardhub.types import Response
from rewardhub.verifiers.ifeval import ifeval
from rewardhub.verifiers.ifeval_rules.table import RULES

Case = tuple[dict[str, Any], str, str]
"""The arguments, a response that follows, one that does not."""

WORDS = "river stone morning garden window letter market winter summer kitchen bridge forest village".split()
ENGLISH = "the cat sat quietly on the old wooden chair while the children were playing in the garden behind the house"


def some(rng: random.Random, count: int) -> str:
    """``count`` plain words."""
    return " ".join(rng.choice(WORDS) for _ in range(count))


def related(rng: random.Random, build: Callable[[int], str], names: tuple[str, str]) -> Case:
    """A number and a relation: responses on this side of the threshold and on the other."""
    threshold = rng.randint(1, 12)
    more, fewer = build(threshold + rng.randint(0, 3)), build(threshold - 1)
    least = rng.random() < 0.5
    arguments = {names[0]: threshold, names[1]: "at least" if least else "less than"}
    return (arguments, more, fewer) if least else (arguments, fewer, more)


def capital_words(rng: random.Random) -> Case:
    return related(
        rng,
        lambda n: "we met " + "".join(f"{rng.choice(WORDS).upper()}, " for _ in range(n)) + "Then left.",
        ("capital_frequency", "capital_relation"),
    )


def all_capital(rng: random.Random) -> Case:
    text = f"{ENGLISH} near the {some(rng, 1)}."
    bad = rng.choice([text, text.upper() + " a", "EL PERRO GRANDE DUERME TRANQUILO EN LA CASA DE MI ABUELA"])
    return {}, text.upper(), bad


def all_lowercase(rng: random.Random) -> Case:
    text = f"{ENGLISH} near the {some(rng, 1)}."
    return {}, text, rng.choice([text.upper(), text + " A", "le petit chien dort dans la maison de ma grand-mère"])


def repeat_prompt(rng: random.Random) -> Case:
    request = f"Write {some(rng, 4)}."
    return {"prompt_to_repeat": request}, f"{request}\nHere.", f"Sure. {request}"


def two_responses(rng: random.Random) -> Case:
    one, other = some(rng, 4), some(rng, 5)
    bad = rng.choice([one, f"{one}\n******\n{one}", f"{one}******{other}******{one}", f"{one}\n******\n"])
    return {}, f"{one}\n******\n{other}", bad


def placeholders(rng: random.Random) -> Case:
    count = rng.randint(1, 9)
    text = " and ".join(f"[{word}]" for word in (rng.choice(WORDS) for _ in range(count)))
    return {"num_placeholders": count}, text, text[text.index("]") + 1 :]


def postscript(rng: random.Random) -> Case:
    marker = rng.choice(["P.S.", "P.P.S", "P.P.S."])
    spelled = rng.choice([marker, marker.lower(), marker.replace(".", ". ").strip()])
    return {"postscript_marker": marker}, f"{some(rng, 5)}.\n\n{spelled} {some(rng, 2)}", f"{some(rng, 5)} ps tips"


def bullets(rng: random.Random) -> Case:
    count = rng.randint(1, 8)
    lines = [f"{rng.choice(['* ', '- ', '  * '])}{some(rng, 2)}" for _ in range(count)]
    good = "Here:\n**bold**\n---\n" + "\n".join(lines)
    return {"num_bullets": count}, good, rng.choice([good + "\n* more", good.rpartition("\n")[0]])


def constrained(rng: random.Random) -> Case:
    options = ["My answer is yes.", "My answer is no.", "My answer is maybe."]
    bad = rng.choice(["Yes.", "my answer is yes", " ".join(options), "My answer is perhaps."])
    return {}, rng.choice(options), bad


def json_format(rng: random.Random) -> Case:
    text = json.dumps({some(rng, 1): [1, 2.5, None, some(rng, 3)]}, indent=rng.choice([None, 2]))
    good = rng.choice([text, f"```json\n{text}\n```", f"```\n{text}\n```", f"```JSON\n{text}```"])
    bad = rng.choice([f"Here: {text}", text[:-1], '{"a": NaN}', "```json\n{'a': 1}\n```"])
    return {}, good, bad


def sections(rng: random.Random) -> Case:
    mark, count = rng.choice(["Section", "SECTION", "PARAGRAPH"]), rng.randint(1, 7)
    parts = [f"{mark} {index + 1}\n{some(rng, 3)}\n" for index in range(count)]
    return {"section_spliter": mark, "num_sections": count}, "".join(parts), "".join(parts[1:]) + "the end"


def highlights(rng: random.Random) -> Case:
    count = rng.randint(1, 9)
    marks = [rng.choice(["*{}*", "**{}**"]).format(some(rng, 2)) for _ in range(count)]
    return {"num_highlights": count}, " and ".join(marks), " and ".join(["nothing", *marks[1:]])


def title(rng: random.Random) -> Case:
    bad = rng.choice(["<<  >> text", "<a title> text", "<<a\ntitle>>", "<<>>"])
    return {}, f"{some(rng, 2)}\n<<{some(rng, 2)}>>\n{some(rng, 3)}", bad


def keywords(rng: random.Random) -> Case:
    wanted = rng.sample(WORDS, 3)
    rest = [word for word in WORDS if word not in wanted]
    good = [*rest, *wanted]
    rng.shuffle(good)
    return {"keywords": wanted}, " ".join(good).title(), " ".join([*rest, *wanted[1:]])


def forbidden(rng: random.Random) -> Case:
    words = rng.sample(WORDS, 2)
    rest = " ".join(word for word in WORDS if word not in words)
    return {"forbidden_words": words}, f"{rest} {words[0]}s", f"{rest}, {words[1].upper()}."


def frequency(rng: random.Random) -> Case:
    arguments, good, bad = related(
        rng, lambda n: "so " + "Stone, stone " * (n // 2) + "STONE" * (n % 2), ("frequency", "relation")
    )
    return arguments | {"keyword": "stone"}, good, bad


def letters(rng: random.Random) -> Case:
    letter = rng.choice(["q", "Z", "#", "!"])
    arguments, good, bad = related(
        rng,
        lambda n: f"a{letter.lower()}b{letter.upper()}" * (n // 2) + "a" + letter * (n % 2),
        ("let_frequency", "let_relation"),
    )
    return arguments | {"letter": letter}, good, bad


SAMPLES = {
    "en": ENGLISH, "kn": "ನಾನು ಕನ್ನಡದಲ್ಲಿ ಮಾತನಾಡುತ್ತೇನೆ ಮತ್ತು ಓದುತ್ತೇನೆ", "pa": "ਮੈਂ ਪੰਜਾਬੀ ਬੋਲਦਾ ਹਾਂ ਅਤੇ ਲਿਖਦਾ ਹਾਂ",
    "mr": "मी मराठी बोलतो आणि मला ते खूप आवडते", "fa": "من فارسی صحبت می‌کنم و آن را دوست دارم",
    "vi": "Tôi nói tiếng Việt và tôi rất thích nó", "de": "Ich spreche Deutsch und ich mag das sehr gern",
    "fi": "Minä puhun suomea ja pidän siitä kovasti", "it": "Io parlo italiano e mi piace molto la pizza",
    "sw": "Ninazungumza Kiswahili na ninaipenda sana lugha hii", "ko": "나는 한국어를 말하고 아주 좋아합니다",
    "hi": "मैं हिंदी बोलता हूँ और मुझे यह बहुत पसंद है", "ru": "Я говорю по-русски и мне это очень нравится",
    "zh": "我会说中文，而且我非常喜欢它", "te": "నేను తెలుగు మాట్లాడతాను మరియు చదువుతాను", "ar": "أنا أتكلم العربية وأحبها كثيرا",
}  # fmt: skip


def response_language(rng: random.Random) -> Case:
    wanted, other = rng.sample(sorted(SAMPLES), 2)
    return {"language": wanted}, SAMPLES[wanted], SAMPLES[other]


def nth_first_word(rng: random.Random) -> Case:
    count = rng.randint(2, 6)
    index, word = rng.randrange(count), rng.choice(WORDS)
    parts = [f"Other {some(rng, 4)}." for _ in range(count)]
    parts[index] = f"{rng.choice([word, word.title(), chr(34) + word + ','])} {some(rng, 3)}"
    moved = [*parts[1:], parts[0]]
    longer = [*parts[:index], f"{word}x {some(rng, 2)}", *parts[index + 1 :]]
    arguments = {"num_paragraphs": count, "nth_paragraph": index + 1, "first_word": word}
    return arguments, "\n\n".join(parts), "\n\n".join(rng.choice([[*parts, "more"], moved, longer]))


def paragraphs(rng: random.Random) -> Case:
    parts = [some(rng, 4) for _ in range(rng.randint(2, 6))]
    divider = rng.choice(["\n***\n", " *** ", "\n\n***\n\n"])
    bad = rng.choice(
        [divider.join(parts[1:]), divider.join([*parts, "more"]), divider.join([parts[0], "", *parts[1:]])]
    )
    return {"num_paragraphs": len(parts)}, divider.join(parts), bad


def sentences(rng: random.Random) -> Case:
    def build(count: int) -> str:
        # No sentence at all would be a blank response, which follows nothing.
        made = [f"Dr. {some(rng, 3).title()} paid 3.5 coins{rng.choice('.!?')}" for _ in range(count)]
        return " ".join(made) or "***"

    return related(rng, build, ("num_sentences", "relation"))


def words(rng: random.Random) -> Case:
    return related(rng, lambda n: " - ".join(rng.choice(WORDS) for _ in range(n)) or "...", ("num_words", "relation"))


def no_comma(rng: random.Random) -> Case:
    text = some(rng, 6)
    return {}, text, text.replace(" ", rng.choice([", ", "，", "、"]), 1)


def end_phrase(rng: random.Random) -> Case:
    phrase = rng.choice(["Any other questions?", "That is all."])
    return {"end_phrase": phrase}, f'"{some(rng, 3)}. {phrase.upper()}"\n', f"{phrase} {some(rng, 2)}"


def quotation(rng: random.Random) -> Case:
    text = some(rng, 4)
    return {}, f' "{text}"\n', rng.choice([text, f'"{text}', f'{text}"', '"', f"'{text}'"])


CASES: dict[str, Callable[[random.Random], Case]] = {
    "change_case:capital_word_frequency": capital_words,
    "change_case:english_capital": all_capital,
    "change_case:english_lowercase": all_lowercase,
    "combination:repeat_prompt": repeat_prompt,
    "combination:two_responses": two_responses,
    "detectable_content:number_placeholders": placeholders,
    "detectable_content:postscript": postscript,
    "detectable_format:constrained_response": constrained,
    "detectable_format:json_format": json_format,
    "detectable_format:multiple_sections": sections,
    "detectable_format:number_bullet_lists": bullets,
    "detectable_format:number_highlighted_sections": highlights,
    "detectable_format:title": title,
    "keywords:existence": keywords,
    "keywords:forbidden_words": forbidden,
    "keywords:frequency": frequency,
    "keywords:letter_frequency": letters,
    "language:response_language": response_language,
    "length_constraints:nth_paragraph_first_word": nth_first_word,
    "length_constraints:number_paragraphs": paragraphs,
    "length_constraints:number_sentences": sentences,
    "length_constraints:number_words": words,
    "punctuation:no_comma": no_comma,
    "startend:end_checker": end_phrase,
    "startend:quotation": quotation,
}


def follows(kind: str, arguments: dict[str, Any], text: str, **parameters: Any) -> float:
    """The value of one instruction."""
    reference = {"instruction_id_list": [kind], "kwargs": [arguments]}
    return float(ifeval(Response(text), reference, **parameters))


def test_every_type_has_a_generator() -> None:
    """There are 25 types, and all are tried below."""
    assert len(RULES) == 25
    assert CASES.keys() == RULES.keys()


@pytest.mark.parametrize("kind", sorted(CASES))
@given(rng=st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_followed_passes_and_violated_fails(kind: str, rng: random.Random) -> None:
    """Strict: the response that follows earns 1, the single violation 0; loose is never below strict."""
    arguments, good, bad = CASES[kind](rng)
    assert follows(kind, arguments, good) == 1.0, (arguments, good)
    assert follows(kind, arguments, good, mode="loose") == 1.0
    assert follows(kind, arguments, bad) == 0.0, (arguments, bad)


@pytest.mark.parametrize("kind", sorted(CASES))
@pytest.mark.parametrize("prefix", ["", "en:"])
def test_a_blank_response_follows_nothing(kind: str, prefix: str) -> None:
    """As published, strict and loose."""
    arguments = CASES[kind](random.Random(1))[0]
    assert follows(prefix + kind, arguments, " \n ") == 0.0
    assert follows(prefix + kind, arguments, " \n ", mode="loose") == 0.0
