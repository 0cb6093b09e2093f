"""``rouge``: overlap of n-grams and of the longest common subsequence with a reference text."""

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field
from rapidfuzz.distance import LCSseq

from rewardhub.errors import NoAnswer
from rewardhub.registry import Example, verifier
from rewardhub.types import Json, Response, Score, Status
from rewardhub.verifiers.answerlib.labels import reference_texts
from rewardhub.verifiers.answerlib.scope import tagged
from rewardhub.verifiers.answerlib.wording import RougeTokens, rouge_tokens, tokens_or_refuse

MAX_CHARS = 100_000

Variant = Literal["rouge1", "rouge2", "rougeL"]
Variants = Annotated[tuple[Variant, ...], Field(min_length=1, max_length=3)]

_MAT = {"answer": "a cat sits on a mat"}
_LCS = {"variants": ["rougeL"]}


@verifier(
    "rouge",
    lane="pool",
    time_limit_s=10.0,
    max_chars=MAX_CHARS,
    libraries=("nltk", "rapidfuzz"),
    sources=tuple(
        f"rewardhub.verifiers.{name}" for name in ("tags", "answerlib.labels", "answerlib.scope", "answerlib.wording")
    ),
    examples=(
        Example("a cat sits", _MAT, (2 / 3 + 4 / 7 + 2 / 3) / 3),
        Example("a cat sits", _MAT, 2 / 3, _LCS),
        Example("two words", {"answer": "two words"}, 1.0),
        Example("word", {"answer": "word"}, 2 / 3),
        Example("dogs running", {"answer": "dog run"}, 1.0),
        Example("dogs running", {"answer": "dog run"}, 0.0, {"stemming": False}),
        Example("nothing alike", _MAT, 0.0),
        Example("the mat", {"answer": ["a cat", "the mat"]}, 1.0),
        Example("猫在垫子上", {"answer": "猫在垫子上"}, 1.0, {"tokens": "unicode"}),
        Example("猫", {"answer": "猫在垫子上"}, None, status=Status.REFERENCE_UNPARSEABLE),
        Example(" ", _MAT, None, status=Status.NO_ANSWER),
    ),
)
def rouge(
    response: Response, reference: Json, *,
    variants: Variants = ("rouge1", "rouge2", "rougeL"),
    stemming: bool = True,
    tokens: RougeTokens = "ascii",
) -> Score:  # fmt: skip
    """The mean F1 of the ``variants`` against ``reference.answer``, in [0, 1] (Lin 2004).

    The values are rouge-score's, for each variant with the best of several references. By default
    ROUGE-1, -2 and -L with stemming (OneThinker, GRPO-CARE, VideoRFT); SATORI-R1 uses ROUGE-L alone. Texts of
    one token have no ROUGE-2, so that an identical word earns 2/3. The text is that of the answer tag or
    box, else the whole response; over 100,000 characters are ``over_limit``. Details: one F1 per variant.
    """
    golds = [tokens_or_refuse(rouge_tokens(gold, tokens, stemming)) for gold in reference_texts(reference)]
    text = tagged(response.text)
    if not text.strip():
        raise NoAnswer("the response is empty")
    said = rouge_tokens(text, tokens, stemming)
    scores: dict[str, float] = {variant: max(rouge_f1(gold, said, variant) for gold in golds) for variant in variants}
    return Score(sum(scores.values()) / len(scores), details=scores)


def rouge_f1(gold: Sequence[str], said: Sequence[str], variant: Variant) -> float:
    """F1 in [0, 1] of one variant between two lists of tokens; 0.0 where a side has none."""
    if variant == "rougeL":
        common, wanted, given = LCSseq.similarity(gold, said), len(gold), len(said)
    else:
        size = int(variant[-1])
        ours, theirs = _ngrams(gold, size), _ngrams(said, size)
        common, wanted, given = (ours & theirs).total(), ours.total(), theirs.total()
    return 2 * common / (wanted + given) if common else 0.0


def _ngrams(tokens: Sequence[str], size: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(tokens[start:] for start in range(size)), strict=False))
