"""``boxed`` and ``box_text``: whether a response marks its answer with the right number of boxes, and with what."""

from typing import Annotated, Literal

from pydantic import Field

from rewardhub.errors import NoAnswer
from rewardhub.registry import Example, verifier
from rewardhub.types import Json, Response, Score, Status
from rewardhub.verifiers.tags import last_tagged

Mark = Literal["boxed", "box_tokens"]

_MARKS = {"boxed": ("\\boxed{", "}"), "box_tokens": ("<|begin_of_box|>", "<|end_of_box|>")}
_EXAMPLES = (
    Example("so \\boxed{12}", {}, 1.0),
    Example("so \\boxed{\\frac{1}{2}}.", {}, 1.0),
    Example("so 12", {}, 0.0),
    Example("\\boxed{1} or \\boxed{2}", {}, 0.0),
    Example("\\boxed{1} and \\boxed{2}", {}, 1.0, {"count": 2}),
    Example("\\boxed{ }", {}, 0.0),
    Example("\\boxed{1", {}, 0.0),
    Example("<think>\\boxed{1}</think><answer>\\boxed{2}</answer>", {}, 1.0, {"within": "answer"}),
    Example("<answer><|begin_of_box|>12<|end_of_box|></answer>", {}, 1.0, {"mark": "box_tokens"}),
    Example("<|begin_of_box|>12<|end_of_box|> <|begin_of_box|>1<|end_of_box|>", {}, 0.0, {"mark": "box_tokens"}),
    Example("", {}, 0.0),
)  # fmt: skip


@verifier("boxed", examples=_EXAMPLES, sources=("rewardhub.verifiers.tags",))
def boxed(
    response: Response,
    reference: Json,  # noqa: ARG001  # a format has no reference
    *,
    count: Annotated[int, Field(ge=1, le=100)] = 1,
    mark: Mark = "boxed",
    within: str = "",
    filled: bool = True,
) -> Score:
    """1.0 where the response holds exactly ``count`` closed boxes, else 0.0 with the reason.

    A box is ``\\boxed{…}`` with balanced braces, or with ``mark="box_tokens"`` a pair of GLM's
    ``<|begin_of_box|>``, ``<|end_of_box|>``. ``within`` names the tag whose last closed element is looked
    at; ``filled`` asks for something other than blanks in each box. A single box is what GLM-4.1V
    (THUDM/GLM-4.1V-Thinking) and RL with Cold Start demand. Linear in the response.
    """
    text: str | None = response.text
    if within:
        text = last_tagged(response.text, within)
        if text is None:
            return Score(0.0, details={"reason": f"<{within}> is missing"})
    reason = _wrong(text or "", mark, count, filled)
    return Score(0.0, details={"reason": reason}) if reason else Score(1.0)


_TOKENS = {"mark": "box_tokens"}
_BOX = "<|begin_of_box|>12<|end_of_box|>"


@verifier(
    "box_text",
    sources=("rewardhub.verifiers.tags",),
    examples=(
        Example("so \\boxed{12}", {}, 1.0),
        Example(f"<answer>{_BOX}</answer>", {}, 1.0, _TOKENS | {"within": "answer"}),
        Example("<answer><|begin_of_box|><|end_of_box|></answer>", {}, 1.0, _TOKENS),
        Example(f"<think>{_BOX}</think><answer>12</answer>", {}, None, _TOKENS | {"within": "answer"},
                status=Status.NO_ANSWER),
        Example(f"{_BOX} or {_BOX}", {}, None, _TOKENS, status=Status.NO_ANSWER),
        Example("12", {}, None, status=Status.NO_ANSWER),
    ),
)  # fmt: skip
def box_text(
    response: Response,
    reference: Json,  # noqa: ARG001  # reads the response alone
    *,
    mark: Mark = "boxed",
    within: str = "",
) -> Score:
    """1.0 where the response holds exactly one closed box, empty or not; else there is no answer.

    ``details.text`` is what the box holds, less lone surrogates; a term that names this one as its
    ``input`` scores it instead of the response. ``mark`` and ``within`` as for ``boxed``. Linear in the response.
    """
    text = last_tagged(response.text, within) if within else response.text
    reason = f"<{within}> is missing" if text is None else _wrong(text, mark, 1, filled=False)
    if reason or text is None:
        raise NoAnswer(reason)
    opening, closing = _MARKS[mark]
    rest = text.partition(opening)[2]
    inner = _balanced(rest) if mark == "boxed" else _before(rest, closing)
    return Score(1.0, details={"text": inner or ""})


def _wrong(text: str, mark: Mark, count: int, filled: bool) -> str:
    opening, closing = _MARKS[mark]
    found = text.count(opening)
    if found != count:
        return f"{found} boxes, expected {count}"
    pieces = text.split(opening)[1:]
    inner = [_balanced(piece) if mark == "boxed" else _before(piece, closing) for piece in pieces]
    if None in inner or (mark == "box_tokens" and text.count(closing) != count):
        return "a box is not closed"
    return "a box is empty" if filled and not all((each or "").strip() for each in inner) else ""


def _before(text: str, closing: str) -> str | None:
    head, found, _ = text.partition(closing)
    return head if found else None


def _balanced(text: str) -> str | None:
    depth = 1
    for position, char in enumerate(text):
        depth += (char == "{") - (char == "}")
        if depth == 0:
            return text[:position]
    return None
