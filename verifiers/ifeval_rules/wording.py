"""What a response says: words it must or must not hold, how it begins and ends, its form as a whole."""

import json
import re
from functools import lru_cache

from rewardhub.verifiers.ifeval_rules.locales import Locale
from rewardhub.verifiers.ifeval_rules.reading import Reading

_CLOSING = '"”»」』 \t\n\r\u00a0'
_FENCE = "```"


def holds(reading: Reading, phrase: str) -> bool:
    """Whether a text occurs, in any case, within words too."""
    return phrase.lower() in reading.lower


def occurrences(reading: Reading, phrase: str) -> int:
    """How often a text occurs, in any case, without overlap, within words too."""
    return reading.lower.count(phrase.lower())


def holds_word(reading: Reading, word: str, locale: Locale) -> bool:
    """Whether a word occurs, in any case; where words are not set apart, anywhere."""
    return bool(_word(word).search(reading.text)) if locale.words else holds(reading, word)


@lru_cache(maxsize=1024)
def _word(word: str) -> "re.Pattern[str]":
    # An edge is a boundary only beside a word character, so that "C++" can be forbidden too.
    before = r"\b" if re.match(r"\w", word) else ""
    after = r"\b" if re.match(r"\w", word[-1]) else ""
    return re.compile(before + re.escape(word) + after, re.IGNORECASE)


def letter_count(reading: Reading, letter: str, locale: Locale) -> int:
    """How often a letter occurs, in any case; a hiragana letter counts its katakana too."""
    count = reading.lower.count(letter.lower())
    if locale.code == "ja" and "ぁ" <= letter <= "ゖ":
        count += reading.text.count(chr(ord(letter) + 96))
    return count


def has_comma(reading: Reading, locale: Locale) -> bool:
    return any(comma in reading.text for comma in locale.commas)


def is_one_option(reading: Reading, locale: Locale) -> bool:
    """Whether exactly one of the language's options occurs; naming several is no answer."""
    return sum(option in reading.text for option in locale.options) == 1


def is_quoted(reading: Reading, locale: Locale) -> bool:
    text = reading.text.strip()
    return len(text) > 1 and (text[0], text[-1]) in locale.quotes


def ends_with(reading: Reading, phrase: str) -> bool:
    """Whether the text ends with a phrase, in any case; closing quotes and blanks around it count not."""
    return reading.lower.rstrip(_CLOSING).endswith(phrase.lower().rstrip(_CLOSING))


def repeats(reading: Reading, request: str) -> bool:
    """Whether the text begins with the request, in any case."""
    return reading.lower.lstrip().startswith(request.strip().lower())


def is_json(reading: Reading) -> bool:
    """Whether the whole text, or what stands in the one fence around it, is JSON (RFC 8259)."""
    text = reading.text.strip()
    if text.startswith(_FENCE):
        text = text.removeprefix(_FENCE).removesuffix(_FENCE)
        text = text[4:] if text[:4].lower() == "json" else text
    try:
        json.loads(text.strip(), parse_int=len, parse_float=len, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
