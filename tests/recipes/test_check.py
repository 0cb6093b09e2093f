"""Worked examples under ``recipes check``, and who is blamed for a total without a value."""

from rewardhub.config import HubConfig
from rewardhub.recipe_check import check_recipes, explain
from rewardhub.types import Call, Group, Response, Status

EXAMPLES = """\
name: mine
terms:
  a: {scorer: math}
value: a
tests:
  - {group: {reference: "4", respnses: ["4"]}, values: [1]}
  - {group: {reference: "4", responses: ["4"]}, values: [1], given: {aa: [0.5]}}
  - {group: {reference: "4", responses: ["4", "5"]}, values: [1, 0], given: {a: [0.5]}}
  - {group: {reference: "4", responses: ["4", "5"]}, values: [1, 0]}
"""


def test_an_ill_stated_example_fails_with_its_fault(tmp_path):
    """A misspelt field, a stated value of no term and too few stated values are told, the others run on."""
    path = tmp_path / "mine.yaml"
    path.write_text(EXAMPLES)
    report = check_recipes(HubConfig(recipes=(path,)), ["mine"])
    assert report.failures == [
        "mine: example 1: unknown field 'respnses'; did you mean 'responses'?",
        "mine: example 2: given names 'aa', which is no term; did you mean 'a'?",
        "mine: example 3: given.a is stated for 1 of 2 responses",
    ]
    path.write_text(EXAMPLES.replace("value: a", "value: a + b"))
    [fault] = check_recipes(HubConfig(recipes=(path,)), ["mine"]).failures
    assert fault.startswith(f"{path}:4: value: unknown name 'b'")


def test_explain_gives_the_reason_of_what_has_no_value():
    """Below each line stand the reasons of its failures, once each; inputs are those of the call."""
    group = Group("g", "1 + 1?", (Response("2"), Response("3")), reference={"answer": "\\frac{1"})
    [text] = explain(HubConfig(), [group], Call(recipe="lmm_r1"))
    lines = text.splitlines()
    assert lines[1] == "  wave 1  accuracy = math: reference_unparseable, reference_unparseable"
    assert "reference.answer" in lines[2]
    [text] = explain(HubConfig(), [group], Call(recipe="othink_mr1", inputs={"step": 50}))
    assert "kl_weight = input(" in text and ": 0.02, 0.02" in text


def test_explain_tells_over_how_many_a_group_operator_went():
    """Where a member was left out, by a condition or for want of a value."""
    text = "name: t\nterms: {a: {scorer: external}}\nlet: {m: g_mean(a)}\nvalue: m + g_max(a, where=a < 3)"
    responses = tuple(Response("x", signals={"reward": each}) for each in (1.0, 2.0, 3.0))
    [whole] = explain(HubConfig(), [Group("g", "p", responses)], Call(recipe_text=text))
    assert [line.strip() for line in whole.splitlines()][2:] == [
        "let     m = g_mean(a): 2, 2, 2",
        "value   m + g_max(a, where=a < 3): 4, 4, 4 (over 2 of 3)",
    ]
    [lacking] = explain(HubConfig(), [Group("g", "p", (*responses, Response("y")))], Call(recipe_text=text))
    assert "g_mean(a): 2, 2, 2, 2 (over 3 of 4)" in lacking


async def test_a_skipped_term_hides_nothing(score):
    """What the caller left out is named where another term of the total was skipped on purpose."""
    text = "name: t\nterms: {a: {scorer: math}, b: {scorer: math, when: a == 0}}\nvalue: where(a == 1, tokens, b)"
    group = Group("g", "1 + 1?", (Response("2"), Response("2", tokens=7)), reference={"answer": "2"})
    [found] = await score("", group, inline=text)
    assert [(each.value, each.status) for each in found] == [(None, Status.INVALID_INPUT), (7.0, Status.OK)]
    assert found[0].details["reason"] == "the recipe reads tokens, which is missing"


async def test_a_member_that_failed_is_named_with_its_own_reason(score):
    """A group-wide total without a value tells why the member that failed did."""
    text = "name: t\nterms: {a: {scorer: external}}\nvalue: g_mean(a)\ngroup_strict: true"
    group = Group("g", "p", (Response("x", signals={"reward": 1.0}), Response("y")))
    [found] = await score("", group, inline=text)
    assert found.values == [None, None]
    assert found[0].status is found[1].status is found.parts["a"].statuses[1]
    assert found[0].details["reason"] == found[1].details["reason"] == found.parts["a"].row(1).details["reason"]
