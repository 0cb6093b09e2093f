"""The catalogue's worked examples hold, and a wrong one is found."""

import pytest

from rewardhub.config import HubConfig
from rewardhub.errors import UnknownName
from rewardhub.recipe_check import check_recipes, explain
from rewardhub.types import Call, Group, Response

WRONG = """\
name: wrong
about: {rows: [A1, B2], year: 2025, source: nowhere, state: partial, note: the weights are not known}
terms: {right: {scorer: math}, judged: {scorer: judge}}
value: right + judged
tests:
  - {group: {reference: "1", responses: ["1", "2"]}, given: {judged: [0.5, null]}, values: [1.5, null]}
  - {group: {reference: "1", responses: ["1", "2"]}, given: {judged: [0.5, 0.5]}, values: [1.5, 0.6]}
  - {group: {reference: "1", responses: ["1"]}, values: [null]}
"""


def test_every_example_of_the_catalogue_holds():
    """`rewardhub recipes check` finds nothing."""
    report = check_recipes(HubConfig(workers=1), [])
    assert report.failures == []
    assert report.checked >= 3


def test_a_wrong_example_is_found(tmp_path):
    """The second example is wrong by 0.1; the others hold, a missing judge gives no value."""
    path = tmp_path / "wrong.yaml"
    path.write_text(WRONG)
    report = check_recipes(HubConfig(workers=1, recipes=(path,)), ["wrong"])
    assert report.checked == 3
    (failure,) = report.failures
    assert "example 2" in failure
    assert report.text().splitlines()[-1] == "0 of 148 rows covered (ok 0, partial 2, none 0)"
    assert "the weights are not known" in report.text()
    with pytest.raises(UnknownName, match="did you mean 'wrong'"):
        check_recipes(HubConfig(workers=1, recipes=(path,)), ["wrng"])


def test_explain_shows_each_step():
    """Waves, terms, lets and the value of each group, in its own words."""
    text = 'name: e\nterms: {a: {scorer: math}, b: {scorer: tags, when: "a == 1"}}\nlet: {m: g_mean(a)}\nvalue: a - m'
    group = Group("g1", "", (Response("1"), Response("2")), {"answer": "1"})
    (shown,) = explain(HubConfig(workers=1), [group], Call(recipe_text=text))
    lines = [line.strip() for line in shown.splitlines()]
    assert lines[0].startswith("group g1: recipe e ")
    assert lines[1:] == [
        "wave 1  a = math: 1, 0",
        "wave 2  b = tags: 0, skipped",
        "let     m = g_mean(a): 0.5, 0.5",
        "value   a - m: 0.5, -0.5",
    ]
