"""From the text of an answer to the form the tokeniser reads, and to the key that texts are compared by.

Every pattern is linear: one pass, no nested repetition.
"""

import re
import unicodedata
from functools import lru_cache

from rewardhub.verifiers.mathlib.limits import MAX_CHARS, TooLarge
from rewardhub.verifiers.mathlib.spelling import bare_scripts, respelled, unaccented

_UNICODE = str.maketrans(
    {
        **dict.fromkeys("−–—‒﹣", "-"), **dict.fromkeys("×⋅·∙", r"\times "), "÷": r"\div ", "π": r"\pi ",
        "√": r"\sqrt ", "∛": r"\sqrt[3] ", "∞": r"\infty ", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ",
        "≈": r"\approx ", "∈": r"\in ", "∪": r"\cup ", "∩": r"\cap ", "∅": r"\emptyset ", "°": r"^\circ ",
        "±": r"\pm ", "∓": r"\mp ", "ℝ": r"\mathbb{R} ", "α": r"\alpha ", "β": r"\beta ", "γ": r"\gamma ",
        "θ": r"\theta ", "λ": r"\lambda ", "φ": r"\phi ", "µ": r"\mu ", "μ": r"\mu ", "σ": r"\sigma ",
        "ω": r"\omega ", "∖": r"\setminus ", "′": "'", "’": "'", "“": '"', "”": '"', "，": ",", "、": ",",
        "⁄": "/", "∕": "/", "Ω": r"\Omega ", "½": r"\frac{1}{2}", "⅓": r"\frac{1}{3}",
        "⅔": r"\frac{2}{3}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}", "⅕": r"\frac{1}{5}", "\u00a0": " ",
        "\u200b": "", "\ufeff": "", "\u2009": " ", "\u202f": " ", "。": ".", "⟨": "(", "⟩": ")",
    }
)  # fmt: skip
_PAIRS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**"), ("`", "`"))
_OPENERS = frozenset("$\\*`")
_TEXT_COMMANDS = r"text(?:bf|it|rm|normal)?|mathrm|mathbf|mathit|mathsf|mbox|operatorname|boldsymbol|bm|rm|bf|it"
_SIZING = re.compile(
    r"(\\\\)|\\(?:left|right|bigg?[lrm]?|Bigg?[lrm]?)(?![A-Za-z])\s*\.?|\\[!,;:> ]|~"
    r"|\\q?quad|\\(?:displaystyle|textstyle|limits|nolimits|middle|hfill|thinspace|space)(?![A-Za-z])"
)
_OLD_STYLE = re.compile(r"\{\s*\\(?:rm|bf|it|sf)(?![A-Za-z])\s*([^{}\\]*)\}")
_ESCAPED_TWICE = re.compile(r"\\(?=\\[A-Za-z{}%$])")
_FRAC = re.compile(r"\\[dtc]frac(?![A-Za-z])")
_COMMA = re.compile(r"(?<=\d)\s{0,2}\{,\s?\}\s*(?=\d{3})|(?<=\d),\\!\s*(?=\d)|(?<=\d)\\,(?=\d{3}(?!\d))|\\(?=%)")
_WRAPPED = re.compile(r"\\(?:" + _TEXT_COMMANDS + r")\s*\{([^{}]*)\}")
_BOX = re.compile(r"\\f?box(?:ed)?\s*\{")
_SPACE = re.compile(r"(?<!\d)\s+|\s+(?!\d)")
_NUMBER_COMMAS = re.compile(r"[-+]?[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?")
_WORD_IN_BRACKETS = re.compile(r"\(+([A-Za-z]+)\)+\.?")


def unwrap(text: str) -> str:
    """Without surrounding blanks, math delimiters, bold marks and final punctuation."""
    text = text.strip()
    for _ in range(4):
        before = text
        if text[:1] in _OPENERS:
            text = _undelimited(text)
        while text and text[-1] in ".,;:" and not text.endswith("\\,"):
            text = text[:-1].rstrip()
        if text == before:
            break
    return text


def _undelimited(text: str) -> str:
    for opening, closing in _PAIRS:
        if _wraps(text, opening, closing):
            return text[len(opening) : -len(closing)].strip()
    return text


def _wraps(text: str, opening: str, closing: str) -> bool:
    if len(text) <= len(opening) + len(closing) or not text.startswith(opening):
        return False
    if not text.endswith(closing) or text.endswith("\\" + closing):
        return False
    return closing not in text[len(opening) : -len(closing)]


@lru_cache(maxsize=2048)
def clean(text: str) -> str:
    """The text the tokeniser reads: ASCII LaTeX without sizing, spacing and delimiters.

    Raises ``TooLarge`` past ``MAX_CHARS`` characters.
    """
    text = unwrap(text)
    if len(text) > MAX_CHARS:
        raise TooLarge(f"an answer of {len(text)} characters (limit {MAX_CHARS})")
    if not text.isascii():
        text = unicodedata.normalize("NFKC", unaccented(text).translate(_UNICODE)).translate(_UNICODE)
    if "{," in text or "\\!" in text or "\\," in text or "\\%" in text:
        text = _COMMA.sub("", text)
    if "\\\\" in text and "begin" not in text:
        text = _ESCAPED_TWICE.sub("", text)
    if "\\" in text or "~" in text:
        text = _SIZING.sub(_blank, _unboxed(text) if "box" in text else text)
        text = _OLD_STYLE.sub(r"\\text{\1}", _FRAC.sub(r"\\frac", text))
    text = unwrap(text)
    if text and not text.isdecimal():
        text = unwrap(respelled(text))
    if len(text) > 2 * MAX_CHARS:
        raise TooLarge(f"an answer of {len(text)} characters (limit {MAX_CHARS})")
    return text


def _blank(match: re.Match[str]) -> str:
    """Sizing and spacing become a blank; the row end of a matrix stays."""
    return match[1] or " "


def _unboxed(text: str) -> str:
    match = _BOX.match(text)
    if match and text.endswith("}") and text.count("{") == text.count("}"):
        return text[match.end() : -1]
    return text


@lru_cache(maxsize=2048)
def key(cleaned: str) -> str:
    """Two answers with the same key are equal whatever they mean: blanks and text wrappers are gone."""
    if "\\" in cleaned:
        cleaned = _WRAPPED.sub(r" \1 ", cleaned)
    if "{" in cleaned:
        cleaned = bare_scripts(cleaned)
    apart = ", " in cleaned
    if " " in cleaned or "\n" in cleaned or "\t" in cleaned:
        cleaned = _SPACE.sub("", cleaned.strip())
    if "," in cleaned and not apart and _NUMBER_COMMAS.fullmatch(cleaned):
        cleaned = cleaned.replace(",", "")
    match = _WORD_IN_BRACKETS.fullmatch(cleaned)
    if match:
        return match[1]
    return cleaned.rstrip(".")


def balanced(text: str) -> bool:
    """Whether every brace of the LaTeX text closes."""
    depth = 0
    for match in re.finditer(r"\\.|[{}]", text, re.DOTALL):
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        if depth < 0:
            return False
    return depth == 0


def open_dollar(text: str) -> bool:
    """Whether a lone dollar sign opens mathematics that never closes; beside a digit it is money."""
    return text.count("$") - text.count("\\$") == 1 and not _MONEY.search(text)


_MONEY = re.compile(r"\$\s?[-+]?[\d.]|\d\s?\$")


def nesting(text: str) -> int:
    """How deep the brackets nest, closed or not; a cheap bound, taken before anything is tokenised."""
    depth = deepest = 0
    for match in _BRACKET.finditer(text):
        depth += 1 if match[0] in "([{" else -1
        deepest = max(deepest, depth)
    return deepest


_BRACKET = re.compile(r"[()\[\]{}]")
_BRACKET_PAIRS = {"(": 1, "[": 1, ")": -1, "]": -1}
_WORD = re.compile(r"(?<![A-Za-z\\])[A-Za-z]{2,}")


def brackets_close(text: str) -> bool:
    """Whether round and square brackets close; ``(3,4]`` does."""
    depth = 0
    for sign in text:
        depth += _BRACKET_PAIRS.get(sign, 0)
        if depth < 0:
            return False
    return depth == 0


def has_words(text: str) -> bool:
    """Whether a run of two letters that is no command stands in the text."""
    return _WORD.search(text) is not None


def is_word(key: str) -> bool:
    """Whether the key is one word, not a product of variables: three letters or more with a vowel."""
    return len(key) > 2 and key.isalpha() and not _VOWELS.isdisjoint(key.lower())


_VOWELS = frozenset("aeiou")
_SMALL_NUMBERS = """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
    seventeen eighteen nineteen twenty
"""
NUMBER_WORDS = {word: str(value) for value, word in enumerate(_SMALL_NUMBERS.split())} | {
    "thirty": "30", "forty": "40", "fifty": "50", "sixty": "60", "seventy": "70", "eighty": "80",
    "ninety": "90", "dozen": "12", "hundred": r"\times 100", "thousand": r"\times 1000",
    "million": r"\times 10^6", "billion": r"\times 10^9", "trillion": r"\times 10^{12}",
}  # fmt: skip
_ANY_WORD = re.compile(r"(?<![A-Za-z\\])[A-Za-z]+")


def numbered(cleaned: str) -> str:
    """``seven`` as 7 and ``2 million`` as 2·10^6."""
    if "\\" in cleaned:
        cleaned = _WRAPPED.sub(r" \1 ", cleaned)
    return _ANY_WORD.sub(lambda match: NUMBER_WORDS.get(match[0].lower(), match[0]), cleaned)
