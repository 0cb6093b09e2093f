"""``tags``: whether a response has the tags its prompt asked for; and finding what stands in a tag."""

from functools import lru_cache
from typing import Literal

import re2

from rewardhub.errors import ConfigError
from rewardhub.registry import Example, verifier
from rewardhub.types import Json, Response, Score

Between = Literal["whitespace", "newline", "anything"]

BOXED = "boxed"
"""In a layout: a ``\\boxed{…}`` instead of a tag."""

_MAX_BOXED = 10_000
_NEXT_TO = 40
_JOINING = frozenset({"or", "and", ",", "/", "|", ", or", ", and", "or maybe", "or perhaps", "and also"})

_NAME = re2.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_GAPS = {"whitespace": r"\s*", "newline": r"\n", "anything": r".*?"}
_BOX_PATTERN = r"\\boxed\{.*\}"

_GOOD = "<think>two and two</think>\n<answer>4</answer>"
_OBSERVE = [["observe", "think", "answer"], ["think", "observe", "answer"]]
_REFLECT = [["think", "answer", "reflection", "think", "answer"]]
_NEWLINES = "<think>\nx\n</think>\n<answer>\n\\boxed{4}\n</answer>"
_EXAMPLES = (
    Example(_GOOD, {}, 1.0),
    Example(" " + _GOOD + "\n", {}, 1.0),
    Example("<think>a</think> so <answer>4</answer>", {}, 0.0),
    Example("<think>a</think><answer>4</answer> bye", {}, 0.0),
    Example("<think><think>x</think></think><answer>1</answer>", {}, 0.0),
    Example("<think><think>x</think></think><answer>1</answer>", {}, 1.0, {"once": False}),
    Example("<think>a</think><answer>4</answer> so <answer>5</answer>", {}, 0.0),
    Example("<answer>4</answer><think>a</think>", {}, 0.0),
    Example("<think>a</think>\\boxed{4}", {}, 1.0, {"layouts": [["think", "boxed"]]}),
    Example("<think>a</think>4", {}, 0.0, {"layouts": [["think", "boxed"]]}),
    Example(_NEWLINES, {}, 1.0, {"between": "newline", "boxed_in": "answer"}),
    Example(_GOOD, {}, 0.0, {"between": "newline"}),
    Example("<think>a</think><observe>b</observe><answer>c</answer>", {}, 1.0, {"layouts": _OBSERVE}),
    Example(_GOOD + "<reflection>r</reflection>" + _GOOD, {}, 1.0, {"layouts": _REFLECT}),
    Example(_GOOD + _GOOD, {}, 0.0, {"layouts": _REFLECT}),
    Example("< think >a< / think ><answer>b</ answer>", {}, 1.0, {"collapse": True}),
    Example("< think >a< / think ><answer>b</ answer>", {}, 0.0),
    Example("first\n<answer>4</answer>", {}, 1.0, {"layouts": [["answer"]], "before": True}),
    Example("first\n<answer>4</answer>", {}, 0.0, {"layouts": [["answer"]]}),
    Example("<think> </think><answer>4</answer>", {}, 0.0, {"filled": True}),
    Example("<think>a</think><answer>\\boxed{4}</answer>", {}, 0.0, {"forbidden": ["\\boxed{"]}),
    Example("", {}, 0.0),
)  # fmt: skip


@verifier(
    "tags",
    libraries=("google-re2",),
    examples=_EXAMPLES,
)
def tags(
    response: Response,
    reference: Json,  # noqa: ARG001  # a format has no reference
    *,
    layouts: list[list[str]] = [["think", "answer"]],  # noqa: B006  # read only
    between: Between = "whitespace",
    before: bool = False,
    after: bool = False,
    once: bool = True,
    filled: bool = False,
    collapse: bool = False,
    boxed_in: str = "",
    forbidden: list[str] = [],  # noqa: B006
    at_most_once: list[str] = [],  # noqa: B006
) -> Score:
    """1.0 where the whole response is one of the layouts, else 0.0 with the reason.

    A layout is a sequence of tag names; ``boxed`` in it is a ``\\boxed{…}``. ``between`` is what may
    stand between the elements: white space, exactly one newline (also inside, next to each tag), or
    anything; ``before`` and ``after`` allow text around. ``once``: each tag occurs as often as the
    layout names it, so not within itself. ``filled``: no element is blank. ``collapse`` drops white
    space around ``<``, ``>`` and ``/`` first. ``boxed_in`` names a tag that must hold exactly one
    ``\\boxed{…}``. ``forbidden`` and ``at_most_once`` are plain texts.

    The layouts of published systems: think, answer with ``once=False`` (OneThinker, GRPO-CARE,
    TimeLens) or without (LMM-R1, R1-Reward); think, boxed (PAPO, PEARL; with ``collapse``); newline and
    ``boxed_in="answer"`` (Perception-R1); context, think, answer (HumanOmniV2); observe in two places
    (Observe-R1); think, rethink, answer (Affordance-R1); think, answer, reflection, think, answer
    (SRPO); caption, bbox, answer (SATORI); think, class, extension (TimeMaster); ``forbidden`` and
    ``at_most_once`` boxes (GLM-4.1V); ``before`` with answer alone (VLM-R3).
    """
    text = _collapsed(response.text) if collapse else response.text
    reason = _extra(text, forbidden, at_most_once)
    for layout in layouts if not reason else ():
        reason = _mismatch(text, tuple(layout), between, before, after, once, filled, boxed_in)
        if not reason:
            return Score(1.0, details={"layout": [*layout]})
    return Score(0.0, details={"reason": reason})


def last_tagged(text: str, tag: str) -> str | None:
    """What stands in the last closed ``<tag>…</tag>``, or None. Linear in the text."""
    end = text.rfind(f"</{tag}>")
    start = text.rfind(f"<{tag}>", 0, end) if end >= 0 else -1
    return text[start + len(tag) + 2 : end] if start >= 0 else None


def last_boxed(text: str) -> str | None:
    """What stands in the last ``\\boxed{…}`` with balanced braces, or None.

    Linear in the text; a box of more than 10,000 characters is none.
    """
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    inner = text[start + 7 : start + 7 + _MAX_BOXED]
    depth = 1
    for position, char in enumerate(inner):
        depth += (char == "{") - (char == "}")
        if depth == 0:
            return inner[:position]
    return None


def said(text: str) -> str:
    """What a response says outside its thoughts: behind the last ``</think>`` and before a ``<think>`` left open."""
    if ">" not in text:
        return text
    behind = text.rpartition("</think>")[2]
    return behind.partition("<think>")[0]


def stated_answer(text: str) -> str | None:
    """What a response marks as its answer: the last answer tag outside its thoughts, else the last box, else None.

    Where "or" or the like joins it to the one before, it is both of them, with "or" between.
    """
    text = said(text)
    tagged = last_tagged(text, "answer")
    if tagged is None:
        boxed = last_boxed(text)
        return boxed if boxed is None else _alternatives(text, "\\boxed{", "}", boxed)
    boxed = last_boxed(tagged)
    return _alternatives(text, "<answer>", "</answer>", tagged if boxed is None else boxed)


def _alternatives(text: str, opening: str, closing: str, last: str) -> str:
    start = text.rfind(opening, 0, text.rfind(closing))
    end = text.rfind(closing, max(0, start - _NEXT_TO), max(0, start))
    if end < 0 or text[end + len(closing) : start].strip(" $.\n").lower() not in _JOINING:
        return last
    before = last_boxed(text[: end + 1]) if closing == "}" else last_tagged(text[: end + len(closing)], "answer")
    return last if before is None or before == last else f"{before} or {last}"


def _collapsed(text: str) -> str:
    """The text without white space around ``<``, ``>`` and ``/``."""
    for mark in "<>/":
        text = mark.join(part.strip() for part in f"|{text}|".split(mark))[1:-1]
    return text


def _extra(text: str, forbidden: list[str], at_most_once: list[str]) -> str:
    for mark in forbidden:
        if mark in text:
            return f"{mark!r} is forbidden"
    for mark in at_most_once:
        if text.count(mark) > 1:
            return f"{mark!r} occurs more than once"
    return ""


def _mismatch(
    text: str, layout: tuple[str, ...], between: Between, before: bool, after: bool, once: bool,
    filled: bool, boxed_in: str,
) -> str:  # fmt: skip
    """Why the text is not of this layout, or nothing."""
    pattern = _pattern(layout, between, before, after)
    if once and (wrong := _miscounted(text, layout)):
        return wrong
    match = pattern.match(text)
    if match is None:
        return _missing(text, layout) or "text outside the tags, or tags out of order"
    parts = dict(zip(layout, match.groups(), strict=True))
    if filled and (blank := next((name for name, part in parts.items() if not part.strip()), "")):
        return f"<{blank}> is blank"
    if boxed_in and parts.get(boxed_in, "").count("\\boxed{") != 1:
        return f"<{boxed_in}> does not hold exactly one \\boxed{{}}"
    return ""


@lru_cache(maxsize=256)
def _pattern(layout: tuple[str, ...], between: Between, before: bool, after: bool) -> "re2._Regexp[str]":
    if not layout or len(layout) > 16:
        raise ConfigError("a layout has 1 to 16 elements", field="layouts")
    edge = "\n" if between == "newline" else ""
    elements = [_element(name, edge) for name in layout]
    head, tail = (r"(?s)\A" + (".*?" if before else r"\s*")), (".*" if after else r"\s*") + r"\z"
    return re2.compile(head + _GAPS[between].join(elements) + tail)


def _element(name: str, edge: str) -> str:
    if name == BOXED:
        return f"({_BOX_PATTERN})"
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is not a tag name", field="layouts")
    return f"<{name}>{edge}(.*?){edge}</{name}>"


def _miscounted(text: str, layout: tuple[str, ...]) -> str:
    for name in dict.fromkeys(layout):
        if name == BOXED:
            continue
        wanted, opened, closed = layout.count(name), text.count(f"<{name}>"), text.count(f"</{name}>")
        if opened != wanted or closed != wanted:
            return f"<{name}> opens {opened} and closes {closed} times, expected {wanted}"
    return ""


def _missing(text: str, layout: tuple[str, ...]) -> str:
    for name in layout:
        mark = "\\boxed{" if name == BOXED else f"<{name}>"
        if mark not in text:
            return f"{mark} is missing"
    return ""
