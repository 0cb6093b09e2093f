"""``tag_text`` and ``json_text``: one part of a response, for other terms of a recipe to score."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from rewardhub.errors import NoAnswer
from rewardhub.registry import Example, verifier
from rewardhub.types import Json, Response, Score, Status
from rewardhub.verifiers.geometry.reading import MAX_ITEMS, answer_text, find_json
from rewardhub.verifiers.tags import last_tagged

_CAPTION = {"tag": "caption"}


@verifier(
    "tag_text",
    sources=("rewardhub.verifiers.tags",),
    examples=(
        Example("<caption>a red bus</caption><answer>bus</answer>", {}, 1.0, _CAPTION),
        Example("<answer>4</answer> <answer>5</answer>", {}, 1.0),
        Example("<caption> </caption>", {}, None, _CAPTION, status=Status.NO_ANSWER),
        Example("<caption>a red bus", {}, None, _CAPTION, status=Status.NO_ANSWER),
        Example("<answer>First. Then. Last.</answer>", {}, 1.0, {"behind": "."}),
        Example("<answer>Only one.</answer>", {}, 1.0, {"behind": "."}),
        Example("a red bus", {}, None, status=Status.NO_ANSWER),
        Example("a red bus", {}, 1.0, {"whole": True}),
        Example("<answer> </answer>", {}, None, {"whole": True}, status=Status.NO_ANSWER),
    ),
)
def tag_text(
    response: Response,
    reference: Json,  # noqa: ARG001  # reads the response alone
    *,
    tag: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,63}$")] = "answer",
    whole: bool = False,
    behind: Annotated[str, Field(max_length=64)] = "",
) -> Score:
    """1.0 where the last closed ``<tag>…</tag>`` holds more than blanks; without one there is no answer.

    ``details.text`` is what it holds. A term that names this one as its ``input`` scores that text instead
    of the response: a caption, a list of boxes or one of several answers, each against its own
    ``reference``. With ``behind`` it is what follows the first such text in the tag, where there is one:
    VideoRFT leaves out the first sentence of the thoughts. ``whole``: the response itself stands for a tag
    that is not there. Linear in the response.
    """
    text = last_tagged(response.text, tag)
    if text is None and whole:
        text = response.text
    if text and behind:
        head, _, tail = text.partition(behind)
        text = tail or head
    if text is None or not text.strip():
        raise NoAnswer(f"<{tag}> is missing or blank")
    return Score(1.0, details={"text": text.strip()})


@verifier(
    "json_text",
    sources=("rewardhub.verifiers.tags", "rewardhub.verifiers.boxes", "rewardhub.verifiers.geometry.reading"),
    examples=(
        Example('<answer>[{"affordance": "hold"}, {"affordance": "pour"}]</answer>', {}, 1.0, {"field": "affordance"}),
        Example('{"answer": "red", "box": [0, 0, 1, 1]}', {}, 1.0, {"field": "answer"}),
        Example('{"answer": 3}', {}, None, {"field": "answer"}, status=Status.NO_ANSWER),
        Example('{"colour": "red"}', {}, None, {"field": "answer"}, status=Status.NO_ANSWER),
        Example("red", {}, None, {"field": "answer"}, status=Status.NO_ANSWER),
    ),
)
def json_text(
    response: Response,
    reference: Json,  # noqa: ARG001  # reads the response alone
    *,
    field: Annotated[str, Field(min_length=1, max_length=64)],
) -> Score:
    """1.0 where the answer is a JSON object, or a list of some, with texts under ``field``; else no answer.

    ``details.text`` is these texts, each once, joined by ", ", for terms that name this one as their
    ``input``. The answer is the answer tag or box, else the last JSON of the response.
    """
    found = find_json(answer_text(response)[0])
    items = found if isinstance(found, list) else [found]
    texts = [item.get(field) for item in items[:MAX_ITEMS] if isinstance(item, Mapping)]
    said = dict.fromkeys(text.strip() for text in texts if isinstance(text, str) and text.strip())
    if not said:
        raise NoAnswer(f"no text under {field!r}")
    text = ", ".join(said).encode("utf-8", "replace").decode()  # an escape of JSON may be half a surrogate pair
    return Score(1.0, details={"text": text})
