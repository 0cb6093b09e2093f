"""What a term scores, and against what: an earlier term's text, a field of the reference."""

from rewardhub.assembly import make_hub
from rewardhub.config import HubConfig
from rewardhub.local import LocalHub
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


def score(reference, *texts):
    """The scores of these responses under the recipe above."""
    group = Group("g", "", tuple(map(Response, texts)), reference)
    with LocalHub(lambda: make_hub(HubConfig(workers=1))) as hub:
        (scores,) = hub.score([group], Call(recipe_text=CAPTIONED))
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
