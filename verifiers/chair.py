"""``chair``: objects that a caption mentions and that are not there."""

import re
from collections.abc import Mapping
from typing import Literal

from rewardhub.errors import NoAnswer, ReferenceUnparseable
from rewardhub.registry import Example, verifier
from rewardhub.types import Json, Response, Score, Status
from rewardhub.verifiers.answerlib.labels import texts_of

MAX_NAMES = 5_000
MAX_CHARS = 100_000

# One class repeated: linear time.
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_LONGEST_NAME = 5

_SCENE = {
    "objects": ["dog", "ball", "tree", "car", "bench", "cat"],
    "vocabulary": {
        "dog": ["dogs", "puppy"], "ball": [], "tree": ["trees"], "car": [], "bench": [], "cat": [], "bird": ["birds"],
        "traffic light": ["stoplight"], "person": ["man", "woman"],
    },
}  # fmt: skip
_EIGHT = "A puppy, a ball, two trees, a car, a bench and a cat. Birds sit on the traffic light."
_EXAMPLES = (
    Example(_EIGHT, _SCENE, 0.25),
    Example(_EIGHT, _SCENE, 1.0, {"measure": "any"}),
    Example("A dog chases a ball; the dog is fast.", _SCENE, 0.0),
    Example("A dog chases a ball.", _SCENE, 0.0, {"measure": "any"}),
    Example("A stoplight and a traffic light.", _SCENE, 1.0),
    Example("An empty sky.", _SCENE, 0.0),
    Example("A cat", {"objects": ["dog"], "vocabulary": ["dog", "cat"]}, 1.0),
    Example(" ", _SCENE, None, status=Status.NO_ANSWER),
    Example("A dog", {"objects": ["dog"]}, None, status=Status.REFERENCE_UNPARSEABLE),
    Example("A dog", {"objects": ["cow"], "vocabulary": ["dog"]}, None, status=Status.REFERENCE_UNPARSEABLE),
)


@verifier("chair", max_chars=MAX_CHARS, examples=_EXAMPLES, sources=("rewardhub.verifiers.answerlib.labels",))
def chair(response: Response, reference: Json, *, measure: Literal["share", "any"] = "share") -> Score:
    """The share of the mentioned objects that are not in the image, in [0, 1]; 0 is the best.

    CHAIR (Rohrbach et al. 2018): ``share`` is CHAIR_i, hallucinated over mentioned objects, each object once
    however often it is named; ``any`` is 1.0 where there is one (CHAIR_s for one caption). A caption that
    mentions no object hallucinates none. Reference: ``vocabulary``, the names that are looked for as whole
    words, a list, or an object from name to the list of its synonyms and plural forms; ``objects``, the
    names of those that are in the image. Case does not count. Details: ``mentioned``, ``hallucinated``.
    """
    names = _names(reference)
    present = {names[_spaced(text)] for text in _present(reference, names)}
    if not response.text.strip():
        raise NoAnswer("the response is empty")
    mentioned = _mentioned(response.text, names)
    hallucinated = sorted(mentioned - present)
    share = len(hallucinated) / max(1, len(mentioned))
    value = share if measure == "share" else float(bool(hallucinated))
    return Score(value, details={"mentioned": sorted(mentioned), "hallucinated": hallucinated})


def _mentioned(text: str, names: Mapping[str, str]) -> set[str]:
    """The objects named in the text; the longest name at a place wins."""
    words = _WORD.findall(text.casefold())
    found: set[str] = set()
    position = 0
    while position < len(words):
        sizes = range(min(_LONGEST_NAME, len(words) - position), 0, -1)
        size = next((size for size in sizes if " ".join(words[position : position + size]) in names), 0)
        if size:
            found.add(names[" ".join(words[position : position + size])])
        position += max(1, size)
    return found


def _names(reference: Json) -> dict[str, str]:
    """Every name and synonym with the object it stands for."""
    field = "reference.vocabulary"
    vocabulary = reference.get("vocabulary")
    if not isinstance(vocabulary, Mapping):
        vocabulary = dict.fromkeys(texts_of(vocabulary, field), ())
    names: dict[str, str] = {}
    for name, synonyms in vocabulary.items():
        for text in (str(name), *(texts_of(synonyms, field) if synonyms else ())):
            names[_checked(text)] = str(name)
    if not 0 < len(names) <= MAX_NAMES:
        raise ReferenceUnparseable(f"{field} must hold 1 to {MAX_NAMES} names", field=field)
    return names


def _present(reference: Json, names: Mapping[str, str]) -> list[str]:
    """The objects in the image; none may be."""
    field = "reference.objects"
    listed = reference.get("objects")
    texts = [] if listed in ([], ()) else texts_of(listed, field)
    unknown = next((text for text in texts if _spaced(text) not in names), None)
    if unknown is not None:
        raise ReferenceUnparseable(f"{field}: {unknown[:40]!r} is not in the vocabulary", field=field)
    return texts


def _checked(text: str) -> str:
    name = _spaced(text)
    if not name or name.count(" ") >= _LONGEST_NAME:
        reason = f"reference.vocabulary: {text[:40]!r} is not a name of 1 to {_LONGEST_NAME} words"
        raise ReferenceUnparseable(reason, field="reference.vocabulary")
    return name


def _spaced(text: str) -> str:
    return " ".join(_WORD.findall(text.casefold()))
