"""``bleu``, ``bleu_corpus``, ``self_bleu`` and ``meteor``: texts against reference texts, or against each other."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from rewardhub.errors import NoAnswer, OverLimit, ReferenceUnparseable, ScoringError
from rewardhub.raised import failure
from rewardhub.registry import Example, verifier
from rewardhub.types import Json, Response, Score, Status
from rewardhub.verifiers.answerlib.labels import reference_texts, texts_of
from rewardhub.verifiers.answerlib.scope import tagged
from rewardhub.verifiers.answerlib.wording import WordTokens, stemmer, tokens_or_refuse, word_tokens

MAX_CHARS = 20_000

Smoothing = Literal["method1", "none"]
Order = Annotated[int, Field(ge=1, le=8)]

_EPSILON = {"method1": 0.1, "none": 1e-300}
_SOURCES = tuple(
    f"rewardhub.verifiers.{name}" for name in ("tags", "answerlib.labels", "answerlib.scope", "answerlib.wording")
)

_CAT = {"answer": "the cat sat down"}
_TWO = {"answers": ["the cat sat down", "a dog ran off quickly"]}


@verifier(
    "bleu",
    lane="pool",
    time_limit_s=10.0,
    max_chars=MAX_CHARS,
    libraries=("nltk",),
    sources=_SOURCES,
    examples=(
        Example("The cat sat down", _CAT, 1.0),
        Example("a big dog", _CAT, 0.0),
        Example("the cat sat up", _CAT, (3 / 4 * 2 / 3 * 1 / 2 * 0.1) ** 0.25),
        Example("the cat sat up", _CAT, 0.0, {"smoothing": "none"}),
        Example("the cat sat up", _CAT, (3 / 4 * 2 / 3) ** 0.5, {"order": 2}),
        Example("cat", {"answer": ["the cat sat", "cat"]}, 1.0, {"order": 1}),
        Example("", _CAT, None, status=Status.NO_ANSWER),
        Example("cat", {"answer": ""}, None, status=Status.REFERENCE_UNPARSEABLE),
    ),
)
def bleu(
    response: Response, reference: Json, *,
    order: Order = 4,
    smoothing: Smoothing = "method1",
    ignore_case: bool = True,
    tokens: WordTokens = "treebank",
) -> Score:  # fmt: skip
    """Sentence BLEU of the response against ``reference.answer``, one text or several, in [0, 1].

    Papineni et al. 2002 with equal weights up to ``order`` and NLTK's smoothing ``method1`` (Chen and
    Cherry 2014: a precision of 0 becomes 0.1 / n), as SATORI-R1 uses it; with ``none`` a missing n-gram is 0.
    An identical text of fewer than ``order`` tokens is below 1. The text is that of the answer tag or
    box, else the whole response; over 20,000 characters are ``over_limit``.
    """
    golds = [_gold(gold, tokens, ignore_case) for gold in reference_texts(reference)]
    said = _said(response, tokens, ignore_case)
    return Score(_bleu([golds], [said], order, smoothing))


@verifier(
    "bleu_corpus",
    lane="pool",
    scope="group",
    time_limit_s=20.0,
    max_chars=MAX_CHARS,
    libraries=("nltk",),
    sources=_SOURCES,
    examples=(
        Example("the cat sat down", _CAT, 1.0),
        Example("the cat sat down", {"answers": ["the cat sat down"]}, 1.0),
        Example("the cat sat down", _TWO, None, status=Status.REFERENCE_UNPARSEABLE),
    ),
)
def bleu_corpus(
    responses: list[Response], reference: Json, *,
    order: Order = 4,
    smoothing: Smoothing = "none",
    ignore_case: bool = True,
    tokens: WordTokens = "treebank",
) -> list[Score]:  # fmt: skip
    """Corpus BLEU of all responses of a group, the same in [0, 1] for each of them.

    Counts and lengths are summed over the responses before precisions and brevity penalty are formed.
    Reference: ``answers``, one entry (a text or a list of texts) per response, or ``answer`` for all.
    An empty response (``no_answer``) and one over 20,000 characters (``over_limit``) count as texts without
    words.
    """
    golds = [[_gold(gold, tokens, ignore_case) for gold in each] for each in _corpus(reference, len(responses))]
    said: list[list[str]] = []
    failures: dict[int, Score] = {}
    for row, response in enumerate(responses):
        try:
            said.append(_said(response, tokens, ignore_case))
        except ScoringError as error:
            said.append([])
            failures[row] = failure(error)
    value = Score(_bleu(golds, said, order, smoothing))
    return [failures.get(row, value) for row in range(len(responses))]


@verifier(
    "self_bleu",
    lane="pool",
    scope="group",
    time_limit_s=20.0,
    max_chars=MAX_CHARS,
    libraries=("nltk",),
    sources=_SOURCES,
    examples=(
        Example("the cat sat down", {}, 0.0),
        Example("", {}, None, status=Status.NO_ANSWER),
    ),
)
def self_bleu(
    responses: list[Response],
    reference: Json,  # noqa: ARG001  # the responses are compared with each other
    *,
    order: Order = 3,
    smoothing: Smoothing = "method1",
    ignore_case: bool = True,
    tokens: WordTokens = "treebank",
) -> list[Score]:
    """How like the others of its group each response is: its BLEU against all of them, in [0, 1].

    Self-BLEU (Zhu et al. 2018, arXiv 1802.01886), 1.0 for identical texts of ``order`` tokens and more. MMR1's
    diversity of a prompt's rollouts is 1 minus the group's mean. Responses without words are left out; a
    lone one is 0.0, like nothing. An empty response is ``no_answer``, one over 20,000 characters ``over_limit``.
    """
    said: dict[int, list[str]] = {}
    failures: dict[int, Score] = {}
    for row, response in enumerate(responses):
        try:
            said[row] = _said(response, tokens, ignore_case)
        except ScoringError as error:
            failures[row] = failure(error)
    found = {}
    for row, words in said.items():
        others = [each for other, each in said.items() if other != row]
        found[row] = Score(_bleu([others], [words], order, smoothing) if others else 0.0)
    return [failures.get(row) or found[row] for row in range(len(responses))]


@verifier(
    "meteor",
    lane="pool",
    time_limit_s=10.0,
    max_chars=MAX_CHARS,
    libraries=("nltk",),
    sources=_SOURCES,
    examples=(
        Example("the cat sat down", _CAT, 1 - 0.5 / 4**3),
        Example("the cats sat down", _CAT, 1 - 0.5 / 4**3),
        Example("a big dog", _CAT, 0.0),
        Example("the cat sat down", _CAT, 1.0, {"gamma": 0.0}),
        Example("", _CAT, None, status=Status.NO_ANSWER),
    ),
)
def meteor(
    response: Response, reference: Json, *,
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.9,
    beta: Annotated[float, Field(gt=0, le=10)] = 3.0,
    gamma: Annotated[float, Field(ge=0, le=1)] = 0.5,
    tokens: WordTokens = "treebank",
) -> Score:  # fmt: skip
    """METEOR against the best of ``reference.answer``, one text or several, in [0, 1], by NLTK.

    Lavie and Agarwal 2007: F-mean = P R / (alpha P + (1 - alpha) R), times 1 - gamma (chunks / matches)^beta,
    so that four identical words earn 0.9922. The stages are exact words and Porter stems; the synonym stage
    needs a dictionary and is not run (``details.stages``). Case does not count.
    """
    from nltk.translate.meteor_score import single_meteor_score

    golds = [_gold(gold, tokens, True) for gold in reference_texts(reference)]
    said = _said(response, tokens, True)
    options = {"stemmer": stemmer(), "wordnet": _NoSynonyms(), "alpha": alpha, "beta": beta, "gamma": gamma}
    value = max(float(single_meteor_score(gold, said, **options)) for gold in golds)
    return Score(value, details={"stages": ["exact", "stem"]})


class _NoSynonyms:
    """Stands where NLTK expects WordNet: no word has a synonym."""

    def synsets(self, _word: str) -> list[Any]:
        return []


def _gold(text: str, tokens: WordTokens, ignore_case: bool) -> list[str]:
    return tokens_or_refuse(word_tokens(text, tokens, ignore_case))


def _said(response: Response, tokens: WordTokens, ignore_case: bool) -> list[str]:
    if len(response.text) > MAX_CHARS:
        raise OverLimit(f"over {MAX_CHARS} characters")
    words = word_tokens(tagged(response.text), tokens, ignore_case)
    if not words:
        raise NoAnswer("the response is empty")
    return words


def _corpus(reference: Json, count: int) -> list[list[str]]:
    answers = reference.get("answers")
    if answers is None:
        return [reference_texts(reference)] * count
    if not isinstance(answers, list | tuple) or len(answers) != count:
        reason = f"reference.answers must have one entry for each of the {count} responses"
        raise ReferenceUnparseable(reason, field="reference.answers")
    return [texts_of(answer, "reference.answers") for answer in answers]


def _bleu(golds: Sequence[Sequence[list[str]]], said: Sequence[list[str]], order: int, smoothing: Smoothing) -> float:
    from nltk.translate.bleu_score import SmoothingFunction, corpus_bleu

    smooth = SmoothingFunction(epsilon=_EPSILON[smoothing]).method1
    value = float(corpus_bleu(golds, said, weights=(1 / order,) * order, smoothing_function=smooth))
    return value if value > 1e-12 else 0.0
