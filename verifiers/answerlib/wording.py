"""Words of running text for the overlap scores: tokens, stems, n-grams. Needs no data beside the library's."""

import re
from functools import lru_cache
from typing import Any, Literal

from rewardhub.errors import ReferenceUnparseable

RougeTokens = Literal["ascii", "unicode"]
WordTokens = Literal["treebank", "blanks"]

_LONGEST_STEM = 40
"""The stemmer recurses over runs of "y"; no English word is longer."""

_ASCII = re.compile(r"[a-z0-9]+")
_UNICODE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W_\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")


def rouge_tokens(text: str, tokens: RougeTokens, stemming: bool) -> list[str]:
    """Lower-case words. ``ascii`` as rouge-score has them: runs of a-z and 0-9, those of over three letters
    stemmed. ``unicode``: runs of letters and digits of any script, a token for each Chinese character or kana.
    """
    words = (_ASCII if tokens == "ascii" else _UNICODE).findall(text.lower())
    return [_stem(word) if len(word) > 3 else word for word in words] if stemming else words


def word_tokens(text: str, tokens: WordTokens, ignore_case: bool) -> list[str]:
    """Words and punctuation. ``treebank``: NLTK's word tokenizer; a full stop behind a word is a token of its
    own at every place, also behind an abbreviation, because no sentence model is loaded.
    """
    text = text.lower() if ignore_case else text
    if tokens == "blanks":
        return text.split()
    found: list[str] = []
    for word in _treebank().tokenize(" ".join(text.split())):
        stopped = len(word) > 1 and word[-1] == "." != word[-2]
        found += [word[:-1], "."] if stopped else [word]
    return found


def tokens_or_refuse(tokens: list[str]) -> list[str]:
    """The tokens of a reference; raises ``ReferenceUnparseable`` where there are none."""
    if not tokens:
        reason = "reference.answer has no token of this kind"
        raise ReferenceUnparseable(reason, field="reference.answer")
    return tokens


@lru_cache(maxsize=1)
def stemmer() -> Any:
    """NLTK's Porter stemmer, which rouge-score uses too; words of over 40 letters stay as they are."""
    from nltk.stem.porter import PorterStemmer

    class _Bounded(PorterStemmer):  # type: ignore[misc]
        def stem(self, word: str, to_lowercase: bool = True) -> str:
            return word if len(word) > _LONGEST_STEM else str(super().stem(word, to_lowercase))

    return _Bounded()


@lru_cache(maxsize=20_000)
def _stem(word: str) -> str:
    return str(stemmer().stem(word))


@lru_cache(maxsize=1)
def _treebank() -> Any:
    from nltk.tokenize.destructive import NLTKWordTokenizer

    return NLTKWordTokenizer()
