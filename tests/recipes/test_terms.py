"""What a term scores, and against what: an earlier term's text, a field of the reference."""

from rewardhub.assembly import make_hub
from rewardhub.config import HubConfig
from rewardhub.local import LocalHub
from rewardhub.registry import default_registry, verifier
from rewardhub.types import Call, Group, Response, Status

CAPTIONED = """\
name: captioned
terms:
  caption_text: {scorer: tag_text, with: {tag: caption}}
  caption: {scorer: exact_in_list, input: caption_text, reference: caption}
  boxes: {scorer: union_iou, reference: seen}
value: caption + 10 * boxes
"""
ANSWER = "<caption>a red bus</caption> [[0, 0, 10, 10]]"


def score(reference, *texts, recipe=CAPTIONED):
    """The scores of these responses under a recipe, the one above by default."""
    group = Group("g", "", tuple(map(Response, texts)), reference)
    with LocalHub(lambda: make_hub(HubConfig(workers=1))) as hub:
        (scores,) = hub.score([group], Call(recipe_text=recipe))
    return scores


def test_a_term_scores_against_a_field_of_the_reference():
    """A text stands as ``answer``, an object as the whole reference; an absent tag is nothing to score."""
    reference = {"answer": "no", "caption": "a red bus", "seen": {"boxes": [[0, 0, 10, 10]]}}
    scores = score(reference, ANSWER, "[[0, 0, 10, 5]]")
    assert scores.values == [11.0, 5.0]
    assert scores.parts["caption"].statuses == [Status.OK, Status.NO_ANSWER]


def test_a_missing_field_is_the_callers_fault():
    """It is ``reference_unparseable`` with the field's name, never a number."""
    (found,) = score({"answer": "a red bus", "seen": {"boxes": []}}, ANSWER)
    assert (found.value, found.status) == (None, Status.REFERENCE_UNPARSEABLE)
    assert "reference.caption" in found.details["reason"]


def test_of_equally_grave_failures_the_first_term_is_blamed():
    """The order is that of the recipe, not one that the process drew for itself."""
    names = [f"t{number}" for number in range(12)]
    terms = "".join(f"  {name}: {{scorer: math, reference: {name}}}\n" for name in names)
    (found,) = score({"answer": "1"}, "1", recipe=f"name: many\nterms:\n{terms}value: {' + '.join(reversed(names))}\n")
    assert found.details["reason"] == "reference.t0 is missing"


def test_a_term_reads_nothing_but_what_its_input_made():
    """Of a trajectory too: its turns and its steps are those of another text."""
    seen = []

    @verifier("seen")
    def look(response, reference) -> float:
        seen.append(response)
        return 1.0

    registry = default_registry(())
    registry.add(look)
    turns = ({"role": "assistant", "content": "another text"},)
    group = Group("g", "", (Response("<caption>a bus</caption>", turns, tokens=9, steps=((0, 5),)),))
    recipe = (
        "name: fed\nterms:\n  a: {scorer: tag_text, with: {tag: caption}}\n  b: {scorer: seen, input: a}\nvalue: b\n"
    )
    with LocalHub(lambda: make_hub(HubConfig(workers=1), registry)) as hub:
        assert hub.score([group], Call(recipe_text=recipe))[0].values == [1.0]
    assert seen == [Response("a bus", tokens=9)]
