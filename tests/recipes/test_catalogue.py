"""The catalogue's worked examples hold, a wrong one is found, and every row of the table has its recipe."""

from difflib import get_close_matches

import pytest

from rewardhub.config import HubConfig
from rewardhub.errors import ConfigError, UnknownName
from rewardhub.recipe_book import CATALOGUE, catalogue
from rewardhub.recipe_check import check_recipes, explain
from rewardhub.recipes.coverage import ROWS, needs_of, rows_of, table
from rewardhub.recipes.recipe import parse_recipe
from rewardhub.registry import builtin_registry
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


RUBRIC = """\
name: misspelt
terms: {judged: {scorer: judge, with: {rubric: equivalense}}}
value: judged
tests: [{group: {reference: "1", responses: ["1"]}, given: {judged: [1]}, values: [1]}]
"""


def test_a_rubric_that_there_is_not_is_found(tmp_path):
    """The judge is not at hand in a check; its rubric must exist all the same."""
    path = tmp_path / "misspelt.yaml"
    path.write_text(RUBRIC)
    (failure,) = check_recipes(HubConfig(workers=1, recipes=(path,)), ["misspelt"]).failures
    assert "did you mean 'equivalence'" in failure


NEEDY = """\
name: needy
terms: {right: {scorer: math}}
value: right
tests: [{group: {reference: "1", responses: ["1"]}, needs: [no_such_module], values: [0]}]
"""


def test_an_example_whose_library_is_missing_is_named(tmp_path):
    """It is neither a failure nor among the examples that were run."""
    path = tmp_path / "needy.yaml"
    path.write_text(NEEDY)
    report = check_recipes(HubConfig(workers=1, recipes=(path,)), ["needy"])
    assert (report.checked, report.failures) == (0, [])
    assert report.text().startswith("not run needy: example 1: no_such_module is not installed")


def test_every_row_is_claimed_once():
    """All 148 rows have a recipe, none names a row that is none, and no two claim one."""
    assert len(ROWS) == 148
    claimed = rows_of(catalogue())
    assert [row for row in ROWS if row not in claimed] == []
    doubled = [parse_recipe(f"name: {name}\n{ROW}", name) for name in ("one", "other")]
    with pytest.raises(ConfigError, match="the row A1 is claimed by one and other"):
        rows_of(doubled)
    with pytest.raises(ConfigError, match="there is no row A78"):
        rows_of([parse_recipe(f"name: one\n{ROW}".replace("A1", "A78"), "one")])


ROW = "about: {rows: [A1], year: 2025, source: nowhere}\nterms: {right: {scorer: math}}\nvalue: right"


def test_the_recipe_of_a_row_carries_examples():
    """A published system without a worked example proves nothing."""
    assert [recipe.name for recipe in rows_of(catalogue()).values() if not recipe.tests] == []


def test_a_partial_recipe_says_what_is_missing():
    """Partial without a reason is a gap nobody can close."""
    found = rows_of(catalogue()).values()
    assert [each.name for each in found if each.about.state == "partial" and not each.about.note] == []


def test_files_are_named_after_their_recipes():
    """A recipe is found where its name says."""
    assert [recipe.name for recipe in catalogue()] == [path.stem for path in sorted(CATALOGUE.glob("*.yaml"))]


def test_the_table_is_fresh():
    """`rewardhub recipes table > rewardhub/recipes/CATALOGUE.md` was run after the last change."""
    assert (CATALOGUE.parent / "CATALOGUE.md").read_text("utf-8") == table(catalogue(), builtin_registry().names())


def test_what_a_recipe_needs_is_no_misspelt_verifier():
    """A name that no hub has is a judge or a reward model; one that is nearly a verifier's is a slip."""
    builtin = builtin_registry().names()
    needed = {name.split()[0] for recipe in catalogue() for name in needs_of(recipe, builtin)}
    assert "judge" in needed
    assert {name: near for name in needed if (near := get_close_matches(name, builtin, n=1, cutoff=0.85))} == {}
