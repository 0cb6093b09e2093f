"""The rows of the reward catalogue's table of rule verifiers (A 3.1, B 4.1 and its cards), each as it stands there.

A row names the verifier, its parameters, a response, the reference, and the value. The recipes of the same systems
are tested in ``tests/recipes``.
"""

import math

import pytest

from rewardhub.registry import default_registry
from rewardhub.scorer import Verifier
from rewardhub.types import Group, Response, Status

REGISTRY = default_registry()
TEN = {"box": [0, 0, 10, 10]}
FOUR = {"answer": "B", "options": ["w", "x", "y", "z"]}
BEATS = [[0, 0, 10, 10]] * 4
TAGGED = "<think>a</think><answer>1</answer>"
THREE = {"extract": "whole"}
CHINESE, WORDS = "中" * 60, "word " * 210

ROWS: list[tuple[str, dict, str, dict, float]] = [
    ("tags", {}, "<think><think>x</think></think><answer>1</answer>", {}, 0.0),
    ("tags", {}, TAGGED, {}, 1.0), ("tags", {}, "<think>a</think> so <answer>1</answer>", {}, 0.0),
    ("tags", {}, TAGGED + " junk <answer>2</answer>", {}, 0.0), ("tags", {}, "<think>a", {}, 0.0),
    ("math", {}, "\\boxed{\\frac{1}{2}}", {"answer": "0.5"}, 1.0), ("math", {}, "\\boxed{7 3/4}", {"answer": "7.75"}, 1.0),
    ("math", {}, "\\boxed{x=2 \\text{ or } x=-2}", {"answer": "\\pm 2"}, 1.0), ("math", {}, "\\boxed{10 (or 8)}", {"answer": "10"}, 0.0),
    ("math", {}, "\\boxed{10 (or 8)}", {"answer": "8"}, 0.0), ("math", {}, "\\boxed{3.14}", {"answer": "\\pi"}, 0.0),
    ("math", {"pi_approx": True}, "\\boxed{3.14}", {"answer": "\\pi"}, 1.0), ("math", {}, "42", {"answer": "42.0"}, 1.0),
    ("math", {}, "1/2", {"answer": "0.5"}, 1.0), ("math", {}, "3/2", {"answer": "1.5"}, 1.0), ("math", {}, "x+1", {"answer": "1+x"}, 1.0),
    ("math", {}, "7", {"answer": "9"}, 0.0), ("math", {}, "banana", {"answer": "a red car"}, 0.0), ("math", {}, "9", {"answer": "7"}, 0.0),
    ("math", {"abs_tol": 0.01}, "18.005", {"answer": "18"}, 1.0), ("math", {"abs_tol": 0.01}, "17", {"answer": "18"}, 0.0),
    ("math", {"number_words": True}, "\\boxed{2 \\text{ million}}", {"answer": "2000000"}, 1.0),
    ("math", {}, "\\boxed{y=|x+9|}", {"answer": "|x+9|"}, 1.0),
    ("mcq", {}, "(B).", FOUR, 1.0), ("mcq", {}, "Not A, B", FOUR, 0.0), ("mcq", {}, "Therefore the answer is (B).", FOUR, 1.0),
    ("mcq", {}, "B. x", FOUR, 1.0), ("mcq", {}, "Banana", FOUR, 0.0), ("mcq", {}, "A or B or C", {"answer": "A"}, 0.0),
    ("mcq", {}, "C, A", {"answer": "A, C", "options": ["w", "x", "y", "z"]}, 1.0),
    ("mcq", {"measure": "label"}, "III", {"answer": "III", "options": ["w", "x", "y", "z"]}, 1.0),
    ("mcq", {"measure": "label"}, "C", {"answer": "III", "options": ["w", "x", "y", "z"]}, 0.0),
    ("mcq", {"measure": "content"}, "C", {"answer": "III", "options": ["w", "x", "y", "z"]}, 1.0),
    ("mcq", {}, "I", {"answer": "III", "options": ["w", "x", "y", "z"]}, 0.0),
    ("yes_no", {}, "True, because it is round", {"answer": "yes"}, 1.0), ("yes_no", {}, "yes, or no", {"answer": "yes"}, 0.0),
    ("numeric", {}, "1,200", {"answer": 1200}, 1.0), ("numeric", {"comma_parity": True}, "1,200", {"answer": 1200}, 0.0),
    ("numeric", {"decimal_parity": True}, "42", {"answer": "42.0"}, 0.0), ("numeric", {}, "42", {"answer": "42.0"}, 1.0),
    ("numeric", {}, "3.141", {"answer": "3.142"}, 1.0), ("numeric", {}, "3", {"answer": "3.0"}, 1.0),
    ("regression", {}, "108", {"answer": 100}, 0.92), ("regression", {}, "151", {"answer": 100}, 0.49), ("regression", {}, "12", {"answer": 10}, 0.8),
    ("regression", {"form": "mra"}, "108", {"answer": 100}, 0.9),
    ("regression", {"form": "mra"}, "122", {"answer": 100}, 0.6),
    ("regression", {"form": "mra"}, "151", {"answer": 100}, 0.0),
    ("count", {}, "07", {"answer": "7"}, 1.0), ("count", {}, "<answer>seven</answer>", {"answer": "7"}, 0.0),
    ("label", {}, "Sea Horse", {"answer": "sea horse"}, 1.0), ("label", {}, "horse", {"answer": "sea horse"}, 0.0),
    ("label", {**THREE, "normalise": "none", "ignore_case": False}, "sea horse", {"answer": "sea horse"}, 1.0),
    ("label", {**THREE, "normalise": "none", "ignore_case": False}, "sea horse", {"answer": "Sea Horse"}, 0.0),
    ("label", {**THREE, "normalise": "none", "ignore_case": False}, "Golden Retriever.", {"answer": "Golden Retriever"}, 0.0),
    ("ocr_wer", {}, "the cat", {"answer": "the cat sat"}, 2 / 3), ("ocr_wer", {}, "a b c d e f", {"answer": "a b"}, 0.0),
    ("ocr_wer", {}, "the cat sat", {"answer": "the cat sat down"}, 0.75),
    ("ocr_edit", {}, "kitten", {"answer": "sitting"}, 4 / 7), ("ocr_edit", {}, "hello wurld", {"answer": "hello world"}, 0.9),
    ("ocr_edit", {}, "abcd", {"answer": "axyz"}, 0.25), ("anls", {}, "abcd", {"answer": "axyz"}, 0.0), ("ocr_edit", {}, "", {"answer": ""}, 1.0),
    ("anls", {}, "six", {"answer": ["6", "six"]}, 1.0), ("anls", {}, "ab", {"answer": "ax"}, 0.5), ("ocr_edit", {}, "Sale", {"answer": "Sales"}, 0.8),
    ("chart_relaxed", {"tolerance": 0.025, "inclusive": False}, "102", {"answer": 100}, 1.0),
    ("chart_relaxed", {"tolerance": 0.025, "inclusive": False}, "103", {"answer": 100}, 0.0),
    ("chart_relaxed", {}, "2019", {"answer": 2020}, 0.0), ("chart_relaxed", {}, "104", {"answer": 100}, 1.0), ("chart_relaxed", {}, "106", {"answer": 100}, 0.0),
    ("box_iou", {}, "[5, 0, 15, 10]", TEN, 1 / 3), ("box_iou", {"convention": "inclusive"}, "[5, 0, 15, 10]", TEN, 0.375),
    ("box_iou", {}, "[9, 0, 19, 10]", TEN, 1 / 19), ("box_iou", {"threshold": 0.5}, "[0, 0, 10, 5]", TEN, 0.0),
    ("giou", {}, "[20, 0, 30, 10]", TEN, -1 / 3),
    ("union_iou", {}, "[[0, 0, 10, 10]]", {"boxes": [[0, 0, 10, 10], [10, 0, 20, 10]]}, 0.5),
    ("union_iou", {}, "[[0, 0, 10, 10], [0, 0, 10, 10]]", {"boxes": [[0, 0, 10, 10], [10, 0, 20, 10]]}, 0.5),
    ("temporal_iou", {}, "[10, 20]", {"time": [15, 25]}, 1 / 3), ("temporal_iou", {}, "[0, 5]", {"time": [10, 20]}, 0.0),
    ("temporal_iou", {}, "[0, 10]", {"time": [2, 4]}, 0.2), ("temporal_iou", {}, "20 - 10", {"time": [15, 25]}, 0.0),
    ("temporal_iou", {}, "00:01:05 to 00:01:15", {"time": [65, 75]}, 1.0),
    ("temporal_iou", {"ramp": [0.2, 0.8]}, "[0, 6]", {"time": [0, 10]}, 2 / 3),
    ("spatio_temporal", {}, '{"time": [0, 2], "boxes": {"1": [0, 0, 10, 5]}}', {"time": [0, 2], "boxes": {"0": [0, 0, 10, 10], "1": [0, 0, 10, 10]}}, 0.75),
    ("tracking", {}, '{"boxes": {"0": [0, 0, 10, 10], "1": [0, 0, 10, 10]}}', {"boxes": dict(zip("0123", BEATS, strict=True))}, 0.5),
    ("mask_iou", {}, '{"size": [10, 30], "counts": [50, 100, 150]}', {"mask": {"size": [10, 30], "counts": [0, 100, 200]}}, 1 / 3),
    ("points", {}, "(10, 5)", TEN, 1.0), ("multi_label_f1", {}, "A, B, E", {"answer": "A, E"}, 0.8),
    ("jaccard", {}, "cat, dog", {"answer": "cat, dog, bird"}, 2 / 3),
    ("exact_in_list", {}, "<answer>Paris </answer>", {"answer": ["Paris"]}, 1.0),
    ("rouge", {}, "two words", {"answer": "two words"}, 1.0), ("rouge", {}, "word", {"answer": "word"}, 2 / 3),
    ("rouge", {}, "dogs running", {"answer": "dog run"}, 1.0), ("rouge", {"stemming": False}, "dogs running", {"answer": "dog run"}, 0.0),
    ("rouge", {}, "nothing alike", {"answer": "the cat sat"}, 0.0), ("rouge", {}, "a cat sits", {"answer": "a cat sits on a mat"}, 0.6349206),
    ("bleu", {}, "the cat sat down", {"answer": "the cat sat down"}, 1.0),
    ("meteor", {}, "the cat sat down", {"answer": "the cat sat down"}, 0.9921875),
    ("cubic_rank", {"k": 3}, "[2, 7, 5]", {"relevant": [2, 5]}, (1 + 1 / 27) / (1 + 1 / 8)), ("ndcg", {"k": 3}, "[2, 7, 5]", {"relevant": [2, 5]}, 0.9197207891),
    ("jigsaw", {}, "1 2 4 3", {"grid": [[1, 2], [3, 4]]}, 0.5), ("jigsaw", {"measure": "connections"}, "1 2 4 3", {"grid": [[1, 2], [3, 4]]}, 0.25),
    ("jigsaw", {}, "1 2 5 4", {"grid": [[1, 2], [3, 4]]}, 0.0),
    ("checklist", {}, "<a1>1</a1>", {"items": [{"answer": "1"}, {"answer": "2"}, {"answer": "3"}, {"answer": "4"}]}, 0.25),
    ("checklist", {}, "<a1>1</a1><a2>2</a2><a3>3</a3>", {"items": [{"answer": "1"}, {"answer": "2"}, {"answer": "3"}, {"answer": "4"}]}, 0.75),
    ("log_score", {}, "<answer>4</answer><confidence>0.8</confidence>", {"answer": "4"}, math.log(0.8)),
    ("log_score", {}, "<answer>5</answer><confidence>0.8</confidence>", {"answer": "4"}, math.log(0.2) - 1),
    ("log_score", {}, "<answer>5</answer><confidence>1</confidence>", {"answer": "4"}, math.log(1e-10) - 1),
    ("length", {"start": 1.0, "end": 0.5, "limit": 4, "unit": "words"}, "a", {}, 0.9267767),
    ("repetition", {"n": 3, "max_penalty": -1.0}, "a b c a b c a b c", {}, -4 / 7), ("repetition", {"n": 20}, "a b c", {}, 0.0),
    ("language_mix", {}, f"{CHINESE}\n\n{WORDS}", {}, 0.0), ("language_mix", {}, f"{CHINESE}\n{WORDS}", {}, 1.0),
    ("language_mix", {}, CHINESE, {}, 1.0), ("language_mix", {}, WORDS, {}, 1.0),
    ("keyword_recall", {}, "a red bus", {"keywords": ["red", "bus", "stop sign"]}, 2 / 3),
    ("gui_action", {}, '{"action": "click", "point": [112, 116]}', {"action": {"action": "click", "point": [100, 100]}}, 0.8),
    ("gui_action", {}, '{"action": "type", "text": "abce"}', {"action": {"action": "type", "text": "abcd"}}, 0.65),
    ("gui_action", {"style": "androidworld"}, '{"action": "tap", "box_2d": [0, 0, 10, 5]}', {"action": {"action": "tap", "box_2d": [0, 0, 10, 10]}}, 0.5),
    ("region_calls", {}, 'see {"bbox_2d": [0, 0, 10, 10]} a dog', {}, 1.0), ("region_calls", {}, 'see {"bbox_2d": [0, 0, 10} a dog', {}, 0.0),
    ("stop_list", {}, "(B, C)", {"stops": ["B", "C"]}, 1.0), ("stop_list", {}, "(B, B, X)", {"stops": ["B", "C"]}, -0.5),
    ("grid_puzzle", {}, "[[5,6,7,8],[7,8,5,6],[6,5,8,7],[8,7,6,5]]", {"puzzle": "sudoku", "size": 4}, 0.0),
    ("grid_puzzle", {}, "[[0,0,0,0],[0,0,0,0],[0,0,0,0],[0,0,0,0]]", {"puzzle": "sudoku", "size": 4}, 0.0),
    ("grid_puzzle", {}, "[[s,e],[s,s]]", {"puzzle": "kakurasu", "clues": {"row": [1, 3], "col": [3, 2]}}, 1.0),
    ("reasonif", {}, "<think>Step 1, add</think>4", {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}, 0.0),
    ("reasonif", {}, "4", {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}, 0.0),
]  # fmt: skip


@pytest.mark.parametrize(("name", "params", "text", "reference", "value"), ROWS, ids=lambda each: str(each)[:30])
def test_row(name, params, text, reference, value) -> None:
    """As the catalogue computed it by hand."""
    scorer = REGISTRY.get(name)
    assert isinstance(scorer, Verifier)
    score = scorer.bind(params).score(Group("g", responses=(Response(text),), reference=reference), [0]).row(0)
    assert (score.status, score.value) == (Status.OK, pytest.approx(value, abs=1e-6))
