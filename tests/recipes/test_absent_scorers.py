"""Published recipes on a hub without the judge or the model that some of their terms ask."""

import pytest

from rewardhub.assembly import make_hub
from rewardhub.config import HubConfig
from rewardhub.errors import ConfigError
from rewardhub.local import LocalHub
from rewardhub.types import Call, Group, Response, Status

BOXED = "<think>x</think><answer><|begin_of_box|>{}<|end_of_box|></answer>"
OWN = "name: mine\nterms: {asked: {scorer: nobody}}\nvalue: asked\n"


@pytest.fixture(scope="module")
def hub():
    with LocalHub(lambda: make_hub(HubConfig(workers=1))) as hub:
        yield hub


def scores(hub, answers, **call):
    group = Group(
        "g", "", tuple(Response(BOXED.format(each)) for each in answers), {"answer": "7"}, problem_type="math"
    )
    return hub.score([group], Call(recipe="glm_4_1v_thinking", **call))[0]


def test_terms_that_need_no_judge_decide(hub):
    """With the judge switched off, and where the rule decides, nothing is missing."""
    assert scores(hub, ["7", "8"], inputs={"judge": 0}).values == [1.0, 0.0]
    assert scores(hub, ["7"]).values == [1.0]


def test_what_asks_the_judge_has_no_value(hub):
    """The rule found no match: the judge would decide, and is named as what is missing."""
    right, wrong = scores(hub, ["7", "8"])
    assert (right.value, right.status) == (1.0, Status.OK)
    assert (wrong.value, wrong.status) == (None, Status.INVALID_INPUT)
    assert wrong.parts["rule"].value == 0.0
    assert "'judge', which this hub does not have" in wrong.parts["judged"].details["reason"]
    assert "'judge'" in wrong.details["reason"]


def test_the_list_says_which_recipes_lack_something(hub):
    """Not ready without a judge; ready where all that a recipe names is at hand."""
    ready = {row["name"]: row["ready"] for row in hub.hub.scorers()}
    assert (ready["glm_4_1v_thinking"], ready["lmm_r1"]) == (False, True)


def test_an_operators_own_recipe_is_refused(tmp_path):
    """A name that nobody has is a slip there, found when the hub starts."""
    path = tmp_path / "mine.yaml"
    path.write_text(OWN)
    with pytest.raises(ConfigError, match="nobody"):
        make_hub(HubConfig(workers=1, recipes=(path,))).book.compile_own()
