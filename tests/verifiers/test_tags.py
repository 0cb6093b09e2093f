"""``tags``: the layouts of published systems, and the formats their regular expressions let through."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewardhub.types import Group, Response, Score, Status
from rewardhub.verifiers.tags import last_boxed, last_tagged, stated_answer, tags

T, A = "<think>why</think>", "<answer>4</answer>"


def score(text: str, **params: object) -> Score:
    """The score of one response; there is no reference."""
    return tags.bind(params).score(Group("g", responses=(Response(text),)), [0]).row(0)


VARIANTS = {
    "think, answer": ({}, [T + A, f" {T}\n\n{A}\n", f"{T}\t{A}", "<think></think><answer></answer>"],
        [T, A, A + T, T + " so " + A, "x" + T + A, T + A + "x", T + A + A, T + T + A, "", "<think>a<answer>4</answer>",
         "<think><think>x</think></think><answer>1</answer>", "<think>a</think><answer>1</answer ><b>",
         T + A + " junk <answer>5</answer>", "<THINK>a</THINK><ANSWER>b</ANSWER>", "< think>a</think>" + A]),
    "tags may hold themselves": ({"once": False}, [T + A, "<think><think>x</think></think><answer>1</answer>"],
        [T + " so " + A, A + T, T + A + "x"]),
    "think, box": ({"layouts": [["think", "boxed"]], "between": "anything", "after": True},
        [T + "\\boxed{4}", T + " so $\\boxed{\\frac{1}{2}}$."], [T + "4", "\\boxed{4}" + T, "\\boxed{4}"]),
    "newlines": ({"between": "newline", "boxed_in": "answer"},
        ["<think>\na\nb\n</think>\n<answer>\n\\boxed{4}\n</answer>"],
        [T + A, "<think>\na\n</think>\n<answer>\n4\n</answer>", "<think>\na\n</think><answer>\n\\boxed{4}\n</answer>",
         "<think>\na\n</think>\n<answer>\n\\boxed{4} \\boxed{5}\n</answer>"]),
    "context": ({"layouts": [["context", "think", "answer"]]}, ["<context>c</context>" + T + A], [T + A]),
    "observe in two places": ({"layouts": [["observe", "think", "answer"], ["think", "observe", "answer"]]},
        ["<observe>o</observe>" + T + A, T + "<observe>o</observe>" + A], [T + A + "<observe>o</observe>", T + A]),
    "reflection": ({"layouts": [["think", "answer", "reflection", "think", "answer"]]},
        [T + A + "<reflection>r</reflection>" + T + A], [T + A, T + A + "<reflection>r</reflection>"]),
    "caption, boxes": ({"layouts": [["caption", "bbox", "answer"]]},
        ["<caption>c</caption><bbox>[[0,0,1,1]]</bbox>" + A], [T + A]),
    "answer at the end": ({"layouts": [["answer"]], "before": True}, [A, "so\n" + A, T + A], ["so", A + "x"]),
    "each tag once, any prefix": ({"before": True, "after": True}, ["x" + T + A + "y"], [T + A + A, A + T]),
    "white space in tags": ({"collapse": True}, ["< think >a< / think > <answer>b</ answer>", T + A], [T]),
    "filled": ({"filled": True}, [T + A], ["<think> </think>" + A, T + "<answer>\n</answer>"]),
    "no box, special box once": ({"forbidden": ["\\boxed{"], "at_most_once": ["<|begin_of_box|>"]},
        [T + A, T + "<answer><|begin_of_box|>4<|end_of_box|></answer>"],
        [T + "<answer>\\boxed{4}</answer>", T + "<answer><|begin_of_box|><|begin_of_box|></answer>"]),
}  # fmt: skip


@pytest.mark.parametrize("name", VARIANTS)
def test_variant(name: str) -> None:
    """What the layout asks for is 1.0, anything else 0.0 with a reason."""
    params, right, wrong = VARIANTS[name]
    for text in right:
        assert score(text, **params).value == 1.0, text
    for text in wrong:
        result = score(text, **params)
        assert (result.value, result.status) == (0.0, Status.OK), text
        assert result.details["reason"]


def test_reasons_name_the_fault() -> None:
    """The reason says what to change."""
    assert score(T).details["reason"] == "<answer> opens 0 and closes 0 times, expected 1"
    assert score(T + "x" + A).details["reason"] == "text outside the tags, or tags out of order"
    assert score(T, layouts=[["think", "boxed"]]).details["reason"] == "\\boxed{ is missing"


@pytest.mark.parametrize("layouts", [[[]], [["a b"]], [["<think>"]], [["think"] * 17]])
def test_bad_layout_is_the_callers(layouts: list[list[str]]) -> None:
    """A layout that is none is invalid_input, never a number."""
    assert score(T + A, layouts=layouts).status is Status.INVALID_INPUT


def test_pieces() -> None:
    """The last closed tag, the last balanced box, and the answer that a response states."""
    assert last_tagged("<answer>1</answer><answer>2</answer><answer>3", "answer") == "2"
    assert last_tagged("</answer>1<answer>", "answer") is None
    assert last_boxed("\\boxed{1} \\boxed{\\frac{1}{2}} }") == "\\frac{1}{2}"
    assert last_boxed("\\boxed{1") is None
    assert stated_answer("\\boxed{1}<answer>2</answer>") == "2"
    assert stated_answer("<answer>\\boxed{3}</answer>\\boxed{4}") == "3"
    assert stated_answer("nothing") is None


@given(st.text(max_size=80))
def test_any_text_in_the_tags_passes(text: str) -> None:
    """Contents without the tags never matter."""
    clean = text.replace("<", "").replace(">", "")
    assert score(f"<think>{clean}</think>\n<answer>{clean}</answer>").value == 1.0


@pytest.mark.parametrize("part", ["<think>", "</think>", "<", " ", "<think></think>", "\\boxed{", "<answer>a"])
def test_linear_time(part: str) -> None:
    """A megabyte of anything is answered at once, in every mode."""
    text = (part * 1_000_000)[:1_000_000]
    for params in ({}, {"once": False}, {"collapse": True}, {"layouts": [["think", "boxed"]], "between": "anything"}):
        begun = time.thread_time()
        assert score(text, **params).value == 0.0
        assert time.thread_time() - begun < 1.5


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think><answer>5</answer></think>", None), ("<think>\\boxed{5}</think>\\boxed{3}", "3"), ("<think>\\boxed{5}", None),
        ("<answer>3</answer> or <answer>5</answer>", "3 or 5"), ("\\boxed{3}, \\boxed{5}", "3 or 5"), ("\\boxed{5} or \\boxed{5}", "5"),
        ("<answer>A</answer> wait, <answer>B</answer>", "B"), ("\\boxed{3} + 2 = \\boxed{5}", "5"), ("<answer>\\boxed{5}</answer>", "5"),
    ],
)  # fmt: skip
def test_the_stated_answer(text, answer):
    """Thoughts state nothing, and two answers joined by "or" are both stated."""
    assert stated_answer(text) == answer
