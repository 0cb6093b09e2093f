"""``rouge``, ``bleu``, ``bleu_corpus``, ``meteor``: catalogue rows, values of the public libraries, limits."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewardhub.scorer import Verifier
from rewardhub.types import Group, Json, Response, Score, Status
from rewardhub.verifiers.rouge import rouge
from rewardhub.verifiers.translation import bleu, bleu_corpus, meteor, self_bleu

ALL = (rouge, bleu, meteor)

# F1 of ROUGE-1, -2 and -L by rouge-score 0.1.2: reference, response, stemming.
ROUGE = [
    ("a cat sits on a mat", "a cat sits", True, 0.666666666667, 0.571428571429, 0.666666666667),
    ("The quick brown foxes jumped over lazy dogs.", "A quick brown fox jumps over the lazy dog!", True,
     0.941176470588, 0.666666666667, 0.823529411765),
    ("The quick brown foxes jumped over lazy dogs.", "A quick brown fox jumps over the lazy dog!", False,
     0.588235294118, 0.133333333333, 0.470588235294),
    ("Natalia sold 48/2 = 24 clips in May.", "Natalia sold 24 clips, i.e. 48/2, in the month of May.", True,
     0.761904761905, 0.315789473684, 0.571428571429),
    ("the the the cat", "the cat the cat", True, 0.75, 0.333333333333, 0.75),
    ("Dying skies; flying lies, happily ties", "die sky fly lie happy tie", True, 0.666666666667, 0.2, 0.666666666667),
    ("naïve café déjà-vu", "naive cafe deja vu", True, 0.2, 0.0, 0.2),
    ("running runner ran runs", "runs ran runner running", True, 1.0, 0.0, 0.75),
    ("running runner ran runs", "runs ran runner running", False, 1.0, 0.0, 0.25),
    ("relational conditional valenci hesitanci", "relate condition valence hesitance", True, 1.0, 1.0, 1.0),
    ("A man rides a horse on the beach at sunset", "A woman is riding horses along a beach", True,
     0.555555555556, 0.0, 0.444444444444),
    ("one", "one", True, 1.0, 0.0, 1.0),
    ("x", "y z", True, 0.0, 0.0, 0.0),
]  # fmt: skip


def score(verifier: Verifier, text: str, answer: object, **params: object) -> Score:
    """The score of one response."""
    group = Group("g", responses=(Response(text),), reference={"answer": answer})
    return verifier.bind(params).score(group, [0]).row(0)


@pytest.mark.parametrize(("gold", "said", "stemming", "one", "two", "longest"), ROUGE)
def test_rouge_as_rouge_score(gold: str, said: str, stemming: bool, one: float, two: float, longest: float) -> None:
    """Each F1 is rouge-score's, and the value is their mean."""
    result = score(rouge, said, gold, stemming=stemming)
    assert list(result.details.values()) == pytest.approx([one, two, longest], abs=1e-9)
    assert result.value == pytest.approx((one + two + longest) / 3, abs=1e-9)


def test_catalogue_rows_of_rouge() -> None:
    """Rows A62, A74, B40, B55."""
    assert score(rouge, "two words", "two words").value == 1.0
    assert score(rouge, "word", "word").value == pytest.approx(2 / 3)
    assert score(rouge, "dogs running", "dog run").value == 1.0
    assert score(rouge, "dogs running", "dog run", stemming=False).value == 0.0
    assert score(rouge, "x y", "a b").value == 0.0
    assert score(rouge, "a cat sits", "a cat sits on a mat").value == pytest.approx(0.6349, abs=5e-5)
    assert score(rouge, "a cat sits", "a cat sits on a mat", variants=["rougeL"]).value == pytest.approx(2 / 3)


def test_rouge_of_other_scripts() -> None:
    """ASCII tokens refuse a Chinese reference; Unicode tokens compare it character by character."""
    assert score(rouge, "猫", "猫在垫子上").status is Status.REFERENCE_UNPARSEABLE
    assert score(rouge, "猫在垫子上", "猫在垫子上", tokens="unicode").value == 1.0
    assert score(rouge, "猫在", "猫在垫子", tokens="unicode", variants=["rouge1"]).value == pytest.approx(2 / 3)
    assert score(rouge, "Привет мир", "привет мир", tokens="unicode").value == 1.0


def test_bleu_and_rouge_of_satori() -> None:
    """Row A49: an identical caption of four tokens or more earns 1 in both, and so in their mean."""
    caption = "A man rides a horse."
    both = [score(bleu, caption, caption).value, score(rouge, caption, caption, variants=["rougeL"]).value]
    assert both == [1.0, 1.0]


def test_bleu_by_hand() -> None:
    """Precisions 3/4, 2/3, 1/2 and 0 of 1, which method1 makes 0.1; no brevity penalty."""
    said, gold = "the cat sat up", "the cat sat down"
    assert score(bleu, said, gold).value == pytest.approx((3 / 4 * 2 / 3 * 1 / 2 * 0.1) ** 0.25)
    assert score(bleu, said, gold, smoothing="none").value == 0.0
    assert score(bleu, said, gold, order=2).value == pytest.approx((3 / 4 * 2 / 3) ** 0.5)
    short = score(bleu, "the cat sat", "the cat sat down", order=2).value
    assert short == pytest.approx(2.718281828459045 ** (1 - 4 / 3))


def test_bleu_clips_and_takes_the_best_reference() -> None:
    """Papineni's example: "the" seven times against two references has a clipped precision of 2/7."""
    golds = ["The cat is on the mat", "There is a cat on the mat"]
    assert score(bleu, "the the the the the the the", golds, order=1).value == pytest.approx(2 / 7)
    assert score(bleu, "There is a cat on the mat", golds).value == 1.0


def test_bleu_tokens() -> None:
    """The word tokenizer splits punctuation off, at the end of every sentence; blanks do not."""
    assert score(bleu, "A dog. A cat.", "A dog . A cat .").value == 1.0
    assert score(bleu, "A dog. A cat.", "A dog . A cat .", tokens="blanks").value < 1.0
    assert score(bleu, "A DOG RAN OFF", "a dog ran off", ignore_case=False).value < 1.0


def corpus(texts: list[str], reference: Json, **params: object) -> list[Score]:
    """The scores of a group."""
    group = Group("g", responses=tuple(map(Response, texts)), reference=reference)
    return list(map(bleu_corpus.bind(params).score(group, range(len(texts))).row, range(len(texts))))


def test_corpus_bleu_sums_counts() -> None:
    """Row A61: counts are summed first, so that it is not the mean of the sentences' scores."""
    texts, golds = ["the cat sat up", "a b c d e f"], ["the cat sat down", "a b c d e f"]
    values = [found.value for found in corpus(texts, {"answers": golds})]
    expected = ((3 + 6) / 10 * (2 + 5) / 8 * (1 + 4) / 6 * (0 + 3) / 4) ** 0.25
    assert values == pytest.approx([expected] * 2)
    assert [found.value for found in corpus(golds, {"answers": golds})] == [1.0, 1.0]


def test_corpus_bleu_of_failing_members() -> None:
    """An empty and an over-long member have their own status and leave no score to the others for free."""
    texts = ["the cat sat down", " ", "x" * 20_001]
    found = corpus(texts, {"answer": "the cat sat down"})
    assert [each.status for each in found] == [Status.OK, Status.NO_ANSWER, Status.OVER_LIMIT]
    assert 0.0 < found[0].value < 1.0
    assert corpus(["a", "b"], {"answers": ["a"]})[0].details["field"] == "reference.answers"


def test_meteor_by_hand() -> None:
    """Row A61: identical 4 words have one chunk, 1 - 0.5/64; and the example of NLTK's own documentation."""
    assert score(meteor, "the cat sat down", "the cat sat down").value == pytest.approx(0.9921875)
    gold = "It is a guide to action that ensures that the military will forever heed Party commands"
    said = "It is a guide to action which ensures that the military always obeys the commands of the party"
    result = score(meteor, said, gold)
    assert result.value == pytest.approx(0.6944, abs=5e-5)
    assert result.details["stages"] == ["exact", "stem"]


def test_meteor_stages() -> None:
    """A stem matches, a synonym does not: no dictionary is loaded."""
    assert score(meteor, "cats running", "cat run", gamma=0).value == pytest.approx(1.0)
    assert score(meteor, "big automobile", "large car").value == 0.0


@pytest.mark.parametrize("verifier", ALL, ids=lambda verifier: verifier.info.name)
def test_statuses(verifier: Verifier) -> None:
    """Fault F1, empty responses and over-long ones: never a number."""
    for answer in (None, "", " ", 1.5, [], ["x", ""], [[]], {"a": 1}):
        result = score(verifier, "x", answer)
        assert (result.status, result.details["field"]) == (Status.REFERENCE_UNPARSEABLE, "reference.answer")
    for text in ("", " \n"):
        assert score(verifier, text, "a text").status is Status.NO_ANSWER
    assert score(verifier, "x" * 1_000_000, "a text").status is Status.OVER_LIMIT


@pytest.mark.parametrize("verifier", ALL, ids=lambda verifier: verifier.info.name)
@pytest.mark.parametrize(
    "part", ["y", "a ", ".)", "' ", '"', "can't ", "a.", ". ", "%s ", "--", "ab", "y y", ",1", "...", "”"]
)
def test_long_texts_are_cheap(verifier: Verifier, part: str) -> None:
    """The longest text allowed, of pieces that the tokenizer's patterns and the stemmer look at, is cheap."""
    text = (part * 100_000)[: verifier.info.max_chars]
    score(verifier, "warm up", "warm up")
    begun = time.process_time()
    score(verifier, text, ["a y b", "a text of some words. And y y y."])
    assert time.process_time() - begun < 1.5


SENTENCES = st.lists(st.sampled_from("the a cat dog runs running ran over red mat".split()), min_size=1, max_size=12)


@settings(max_examples=60)
@given(SENTENCES, SENTENCES)
def test_overlap_properties(one: list[str], other: list[str]) -> None:
    """Values are in [0, 1]; ROUGE is symmetric; equal texts earn the most that their length allows."""
    gold, said = " ".join(one), " ".join(other)
    for verifier in ALL:
        assert 0.0 <= score(verifier, said, gold).value <= 1.0
    assert score(rouge, said, gold).value == pytest.approx(score(rouge, gold, said).value)
    assert score(bleu, gold, gold).value == pytest.approx(1.0) or len(one) < 4
    assert score(meteor, gold, gold).value == pytest.approx(1 - 0.5 / len(one) ** 3)


def test_self_bleu_measures_how_alike_rollouts_are():
    """MMR1 (A45): identical rollouts of three tokens and more are 1, unlike ones near 0; a blank one is left out."""

    def alike(*texts):
        group = Group("g", "", tuple(map(Response, texts)))
        column = self_bleu.bind({}).score(group, range(len(texts)))
        return column.values, column.statuses

    assert alike("the cat sat", "the cat sat")[0] == [1.0, 1.0]
    assert alike("the cat sat", "a dog ran", "birds fly south")[0] == [0.0, 0.0, 0.0]
    values, statuses = alike("the cat sat", "The cat sat", "", "a dog ran")
    assert values == [1.0, 1.0, None, 0.0]
    assert statuses[2] is Status.NO_ANSWER
    assert 0.0 < alike("the cat sat down", "the cat sat up")[0][0] < 1.0
