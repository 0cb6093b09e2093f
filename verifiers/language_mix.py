"""``language_mix``: vetoes responses that change between Chinese and English."""

import re
from itertools import groupby
from typing import Annotated

from pydantic import Field

from rewardhub.registry import Example, verifier
from rewardhub.types import Json, Response, Score

Share = Annotated[float, Field(ge=0.0, lt=1.0)]
Least = Annotated[int, Field(ge=1, le=100_000)]

_CHINESE = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_ENGLISH = re.compile(r"[\W_]*+[A-Za-z]++(?:['’-][A-Za-z]++)*+[\W_]*+")

_ZH = "这是一个很长的中文段落用来检查语言混用" * 4
_EN = "these are some plain english words " * 40
_EXAMPLES = (
    Example(f"{_ZH}\n\n{_EN}", {}, 0.0),
    Example(f"{_ZH}\n{_EN}", {}, 1.0),
    Example(_ZH, {}, 1.0),
    Example(_EN, {}, 1.0),
    Example(f"{_ZH[:49]}\n\n{_EN}", {}, 1.0),
    Example(f"{_ZH}\n\nshort", {}, 1.0),
    Example("", {}, 1.0),
)  # fmt: skip


@verifier("language_mix", examples=_EXAMPLES)
def language_mix(
    response: Response,
    reference: Json,  # noqa: ARG001  # reads the response alone
    *,
    chinese_chars: Least = 50,
    chinese_share: Share = 0.8,
    english_words: Least = 200,
    english_share: Share = 0.7,
) -> Score:
    """0.0 where one paragraph is Chinese and another English, else 1.0.

    Paragraphs stand between blank lines. A Chinese one has at least ``chinese_chars`` Han characters,
    more than ``chinese_share`` of its characters other than white space; an English one at least
    ``english_words`` words of Latin letters, more than ``english_share`` of its words. Defaults: the veto
    of GLM-4.1V-Thinking (THUDM/GLM-4.1V-Thinking). Details: the number of paragraphs of each kind.
    """
    text = response.text
    lines = text.split("\n")
    paragraphs = ["\n".join(part) for filled, part in groupby(lines, lambda line: bool(line.strip())) if filled]
    chinese = sum(_is_chinese(each, chinese_chars, chinese_share) for each in paragraphs)
    english = sum(_is_english(each, english_words, english_share) for each in paragraphs)
    details = {"chinese": chinese, "english": english}
    if chinese and english:
        return Score(0.0, details=details | {"reason": "paragraphs in Chinese and in English"})
    return Score(1.0, details=details)


def _is_chinese(paragraph: str, least: int, share: float) -> bool:
    if len(paragraph) < least or paragraph.isascii():
        return False
    count = len(_CHINESE.findall(paragraph))
    return count >= least and count > share * len("".join(paragraph.split()))


def _is_english(paragraph: str, least: int, share: float) -> bool:
    words = paragraph.split()
    if len(words) < least:
        return False
    count = sum(map(bool, map(_ENGLISH.fullmatch, words)))
    return count >= least and count > share * len(words)
