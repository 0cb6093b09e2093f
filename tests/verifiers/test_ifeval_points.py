"""``ifeval_points``: the two point tables, and the faults of the published scorer."""

from typing import Any

import pytest

from rewardhub.errors import ReferenceUnparseable
from rewardhub.types import Response
from rewardhub.verifiers.ifeval_points import ifeval_points
from rewardhub.verifiers.ifeval_rules.points import CHINESE, ENGLISH

Row = tuple[str, dict[str, Any], str, str, float]

ENGLISH_ROWS: list[Row] = [
    ("repeat_prompt", {"text": "Say hi."}, "Say hi. Hi.", "Hi. Say hi.", 0.10),
    ("highlights", {"min": 2}, "*a* and **b**", "*a* and b", 0.05),
    ("words", {"min": 2, "max": 4}, "one two three", "one", 0.10),
    ("words", {"min": 2, "max": 2}, "one two", "one two three", 0.10),
    ("words", {"min": 2}, "one two", "one", 0.05),
    ("words", {"max": 2}, "one two", "one two three", 0.05),
    ("placeholders", {"min": 2}, "[a] [b]", "[a]", 0.05),
    ("bullets", {"exact": 2}, "* a\n* b", "* a\n* b\n* c", 0.10),
    ("capital_words", {"exact": 1}, "one TWO", "ONE TWO", 0.10),
    ("capital_words", {"min": 1, "max": 2}, "one TWO", "one two", 0.10),
    ("capital_words", {"min": 1}, "one TWO", "one two", 0.05),
    ("keyword", {"text": "cat", "exact": 2}, "cat cat", "cat", 0.10),
    ("keyword", {"text": "cat", "min": 1, "max": 2}, "cat", "cat cat cat", 0.10),
    ("keyword", {"text": "cat", "min": 1}, "Cat", "dog", 0.05),
    ("keyword", {"text": "cat", "exact": 0}, "dog", "cat", 0.05),
    ("sentences", {"exact": 3}, "Cats sleep. Dogs run. The end", "Cats sleep. Dogs run.", 0.20),
    ("sentences", {"max": 2}, "One. Two!", "One. Two? Three", 0.05),
    ("letter", {"letter": "q", "min": 2}, "qQ", "q", 0.05),
    ("letter", {"letter": "q", "exact": 0}, "abc", "quiet", 0.20),
    ("paragraphs", {"exact": 2}, "a\n\nb", "a\nb", 0.10),
    ("end_phrase", {"text": "The end"}, "So. The end", "The end. So", 0.10),
    ("paragraph_first_word", {"number": 2, "text": "then"}, "a\n\nThen b", "then\n\na", 0.10),
]
CHINESE_ROWS: list[Row] = [
    ("keyword", {"text": "猫", "exact": 2}, "猫和猫", "猫", 0.10),
    ("keyword", {"text": "猫", "min": 1, "max": 2}, "猫", "狗", 0.10),
    ("keyword", {"text": "猫", "min": 1}, "猫", "狗", 0.05),
    ("keyword", {"text": "猫", "max": 1}, "猫", "猫猫", 0.05),
    ("keyword", {"text": "猫", "exact": 0}, "狗", "猫", 0.05),
    ("paragraphs", {"exact": 2}, "《题》\n\n一。\n\n\n二。", "一。\n二。", 0.10),
    ("sentences", {"exact": 2}, "好。真的吗？", "好。真的吗？是！", 0.20),
    ("characters", {"min": 2, "max": 4}, "你 好\n吗", "你", 0.10),
    ("characters", {"max": 2}, "你 好", "你好吗", 0.05),
    ("title_style", {"text": "【】"}, "【题目】\n正文", "《题目》\n正文", 0.02),
    ("title_length", {"max": 3}, "《三个字》\n正文很长很长", "《一二三四》\n正文", 0.05),
    ("begin_with", {"text": "首先"}, "首先，好。", "好，首先。", 0.02),
    ("end_with", {"text": "谢谢"}, "好，谢谢", "谢谢，好", 0.02),
]


def earned(text: str, language: str, *constraints: dict[str, Any], **parameters: Any) -> float:
    """The value of an answer behind its reasoning."""
    reference = {"language": language, "constraints": list(constraints)}
    return float(ifeval_points(Response(f"<think>x</think>{text}"), reference, **parameters))


@pytest.mark.parametrize(
    ("language", "row"), [("en", row) for row in ENGLISH_ROWS] + [("zh", row) for row in CHINESE_ROWS]
)
def test_each_row_earns_its_points(language: str, row: Row) -> None:
    """Met: 1 plus the points of the table; not met: 0."""
    kind, given, good, bad, points = row
    assert earned(good, language, {"type": kind, **given}) == pytest.approx(1 + points)
    assert earned(good, language, {"type": kind, **given}, part="points") == pytest.approx(points)
    assert earned(bad, language, {"type": kind, **given}) == 0.0


def test_every_row_of_both_tables_is_tried() -> None:
    """12 English rows, 8 Chinese ones."""
    assert {row[0] for row in ENGLISH_ROWS} == ENGLISH.keys()
    assert {row[0] for row in CHINESE_ROWS} == CHINESE.keys()
    assert (len(ENGLISH), len(CHINESE)) == (12, 8)


def test_the_published_example() -> None:
    """Three sentences, an end phrase and a range of words: 1 + 0.4; without the last sentence 0.1."""
    stated = [
        {"type": "sentences", "exact": 3}, {"type": "end_phrase", "text": "The end"},
        {"type": "words", "min": 3, "max": 10},
    ]  # fmt: skip
    assert earned("Cats sleep. Dogs run. The end", "en", *stated) == pytest.approx(1.4)
    assert earned("Cats sleep. Dogs run.", "en", *stated) == pytest.approx(0.1)
    assert earned("Cats sleep. Dogs run.", "en", *stated, part="all") == 0.0


def test_unstated_constraints_neither_fail_nor_earn() -> None:
    """The published Chinese scorer always fails without a sentence number, and gives 0.06 for nothing."""
    assert earned("好", "zh", {"type": "characters", "max": 2}, part="all") == 1.0
    assert earned("好好好", "zh", {"type": "characters", "max": 2}) == 0.0


def test_without_reasoning_there_is_no_answer() -> None:
    """No ``</think>``: 0, unless the policy does not reason; what stands in the trace is not the answer."""
    reference = {"language": "en", "constraints": [{"type": "words", "max": 3}]}
    assert ifeval_points(Response("one two"), reference).value == 0.0
    assert ifeval_points(Response("one two"), reference, reasoning=False).value == pytest.approx(1.05)
    assert ifeval_points(Response("<think>one two</think>"), reference).value == 0.0
    assert ifeval_points(Response("<think>a b c d e</think>one"), reference).value == pytest.approx(1.05)


@pytest.mark.parametrize(
    ("constraint", "says"),
    [
        ({"type": "sentence", "exact": 1}, "did you mean 'sentences'"),
        ({"type": "check_code", "text": "def check(x): return True"}, "unknown constraint 'check_code'"),
        ({"type": "bullets"}, "needs its number as one of: exact"),
        ({"type": "bullets", "min": 1}, "needs its number"),
        ({"type": "words", "min": 5, "max": 2}, "needs its number"),
        ({"type": "keyword", "text": "a", "exact": 2, "min": 1}, "needs its number"),
        ({"type": "letter", "letter": "a", "exact": 2}, "needs its number"),
        ({"type": "end_phrase"}, "lacks its argument 'text'"),
        ({"text": "a"}, "a constraint is an object with a type"),
        ("words", "a constraint is an object with a type"),
    ],
)
def test_unusable_constraints_are_refused(constraint: object, says: str) -> None:
    """Named with what is wrong; code that comes with the data is never run."""
    with pytest.raises(ReferenceUnparseable, match=says):
        ifeval_points(Response("</think>a"), {"language": "en", "constraints": [constraint]})


def test_no_constraints_are_refused() -> None:
    """An empty list, which every response would meet, and one of more than twenty."""
    for stated in ([], [{"type": "words", "max": 3}] * 21):
        with pytest.raises(ReferenceUnparseable, match="1 to 20"):
            ifeval_points(Response("</think>a"), {"language": "en", "constraints": stated})
    with pytest.raises(ReferenceUnparseable, match="unknown language 'de'"):
        ifeval_points(Response("</think>a"), {"language": "de", "constraints": [{"type": "words", "max": 3}]})


def test_twenty_constraints_stay_within_the_range() -> None:
    """The best that can be earned is the declared upper end."""
    stated = [{"type": "letter", "letter": "q", "exact": 0}] * 20
    assert earned("abc", "en", *stated) == pytest.approx(ifeval_points.info.range[1])
