"""Recipes as YAML: what is wrong is named with file, line and the nearest known name."""

import pytest

from rewardhub.errors import ConfigError
from rewardhub.recipes.plan import compile_plan
from rewardhub.recipes.recipe import Limits, parse_inline, parse_recipe
from rewardhub.registry import Registry, verifier

GOOD = """\
name: demo
version: 2
terms:
  accuracy: {scorer: hit}
  style: {scorer: hit, with: {word: please}, when: "accuracy == 1"}
let:
  both: "accuracy + if_skipped(style, 0)"
value: "both / 2"
"""


@verifier("hit")
def hit(response, reference, *, word: str = "yes") -> float:
    """Whether the response holds a word."""
    return float(word in response.text)


@pytest.fixture
def registry():
    registry = Registry()
    registry.add(hit)
    return registry


def test_a_good_recipe_compiles_to_waves(registry):
    """Terms that others wait for come in earlier waves."""
    plan = compile_plan(parse_recipe(GOOD, "demo.yaml"), registry, "demo.yaml")
    assert [[term.name for term in wave] for wave in plan.waves] == [["accuracy"], ["style"]]
    assert plan.recipe.version == "2"
    assert not plan.needs_group
    assert plan.reads == ("accuracy", "style")


def test_a_let_that_the_value_does_not_read_costs_nothing(registry):
    """Only what the value reads, through lets too, makes it wait for the group; the rest is for explain."""
    shown = GOOD.replace("let:", "let:\n  rank: g_rank(accuracy)\n  order: rank / 2")
    plan = compile_plan(parse_recipe(shown, "x"), registry, "x")
    assert (list(plan.steps), plan.needs_group, plan.reads) == (["both"], False, ("accuracy", "style"))
    plan = compile_plan(parse_recipe(shown.replace("both / 2", "order"), "x"), registry, "x")
    assert (list(plan.steps), plan.needs_group, plan.reads) == (["rank", "order"], True, ("accuracy",))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("scorer: hit}", "scorr: hit}", r"demo.yaml:4: .*unknown field 'scorr'; did you mean 'scorer'"),
        ("value:", "valeu:", r"unknown field 'valeu'; did you mean 'value'"),
        ("scorer: hit}", "scorer: hitt}", r"terms.accuracy: unknown scorer 'hitt'; did you mean 'hit'"),
        ("word: please", "wrod: please", r"terms.style: hit has no parameter 'wrod'; did you mean 'word'"),
        ("word: please", "word: 3", r"parameter 'word'"),
        ("both / 2", "bth / 2", r"value: unknown name 'bth'; did you mean 'both'"),
        ("accuracy: {scorer: hit}", 'accuracy: {scorer: hit, when: "style"}', "wait for each other"),
        ("name: demo", "name: De mo", "demo.yaml:1: name"),
        ("terms:", "terms: {}\nx:", "terms"),
        ("{scorer: hit}", "{}", "exactly one of scorer and route"),
        ("both:", "accuracy:", "let.accuracy is no free name"),
        ("name: demo", "name: [", "not YAML"),
        ("name: demo", "name: !!python/object/apply:os.system ['true']", "not YAML"),
    ],
)
def test_faults_are_named(registry, old, new, message):
    """Each fault is refused at load with its place."""
    with pytest.raises(ConfigError, match=message):
        compile_plan(parse_recipe(GOOD.replace(old, new, 1), "demo.yaml"), registry, "demo.yaml")


def test_deep_plans_are_refused(registry):
    """More than eight waves are too many."""
    terms = "".join(f'  t{n}: {{scorer: hit, when: "t{n - 1}"}}\n' if n else "  t0: {scorer: hit}\n" for n in range(9))
    with pytest.raises(ConfigError, match="9 waves"):
        compile_plan(parse_recipe(f"name: deep\nterms:\n{terms}value: t0\n", "deep"), registry, "deep")


def test_inline_recipes_are_limited():
    """A half-trusted caller gets neither aliases nor endless terms nor long texts."""
    with pytest.raises(ConfigError, match="aliases"):
        parse_inline("name: a\nterms: &x {t: {scorer: hit}}\nlet: *x\nvalue: t", Limits())
    many = "".join(f"  t{n}: {{scorer: hit}}\n" for n in range(17))
    with pytest.raises(ConfigError, match="over 16 terms"):
        parse_inline(f"name: a\nterms:\n{many}value: t0", Limits())
    with pytest.raises(ConfigError, match="over 20000 characters"):
        parse_inline("x" * 20_001, Limits())


def test_the_fingerprint_follows_the_content(registry):
    """Any change of the recipe or of a parameter changes the fingerprint."""
    texts = [
        GOOD,
        GOOD.replace("/ 2", "/ 3"),
        GOOD.replace("please", "thanks"),
        GOOD.replace("version: 2", "version: 3"),
    ]
    prints = {compile_plan(parse_recipe(text, "x"), registry, "x").fingerprint for text in texts}
    assert len(prints) == 4
