"""Recipes as YAML: what is wrong is named with file, line and the nearest known name."""

import time

import pytest

from rewardhub.errors import ConfigError
from rewardhub.recipes.plan import compile_plan
from rewardhub.recipes.recipe import Limits, parse_inline, parse_recipe
from rewardhub.registry import Registry, verifier
from rewardhub.types import Group

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


ONE = "name: a\nterms:\n  t: {scorer: hit}\n"


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
        ("both:", "accuracy:", "demo.yaml:7: let.accuracy: 'accuracy' is no free name"),
        ("both:", "tokens:", "demo.yaml:7: let.tokens: 'tokens' is no free name"),
        ("  accuracy: {", "  chars: {", "demo.yaml:4: terms.chars: 'chars' is no free name"),
        ("  accuracy: {", "  problem_type: {", "terms.problem_type: 'problem_type' is no free name"),
        ("  accuracy: {", "  if: {", "terms.if: 'if' is no free name"),
        ("  accuracy: {", "  a-b: {", "terms.a-b: 'a-b' is no free name"),
        ("  accuracy: {", "  \ufb01t: {", "is no free name"),
        ("when: ", "input: acuracy, when: ", "demo.yaml:5: .*unknown term 'acuracy'; did you mean 'accuracy'"),
        ("both / 2", "both ** 2", "demo.yaml:8: value: Pow is not part of the language"),
        ("if_skipped(style, 0)", "(style", "demo.yaml:7: let.both: not an expression: .* at character 12"),
        ('"accuracy == 1"', '"acc == 1"', "demo.yaml:5: terms.style.when: unknown name 'acc'"),
        ("value:", "no_answer: .nan\nvalue:", "demo.yaml:8: no_answer: Input should be a finite number"),
        (
            "value:",
            "tests: [{group: {}, vals: []}]\nvalue:",
            "tests.0.vals: unknown field 'vals'; did you mean 'values'",
        ),
        ("name: demo", "name: [", "demo.yaml:3: not YAML: did not find expected"),
        ("name: demo", "name: !!int x", "demo.yaml: not YAML: invalid literal"),
        ("name: demo", "name: !!bool x", "demo.yaml: not YAML"),
        ("name: demo", "name: !!timestamp x", "demo.yaml: not YAML"),
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
    with pytest.raises(ConfigError, match="over 2500 commas"):
        parse_inline(f"{ONE}value: t\nsummary: [{'a,' * 2_500}]", Limits())
    with pytest.raises(ConfigError, match="over 64 lets"):
        parse_inline(f"{ONE}let:\n{lets(65, 't')}value: t", Limits())
    wide = f"t{' ' * 990}+t"
    with pytest.raises(ConfigError, match="over 6000 characters"):
        parse_inline(f"{ONE}let:\n{lets(7, wide)}value: t", Limits())


def lets(count, expression):
    return "".join(f"  l{n}: {expression}\n" for n in range(count))


SLOW = {
    "lets": "let:\n" + lets(64, "t1*2+t"),
    "calls": "let:\n" + lets(3, "abs(t)" + " and abs(t)" * 150),
    "comparisons": "let:\n" + lets(25, "1" + "<1" * 100),
    "numbers": f"  u: {{scorer: hit, with: {{word: [{'1.5,' * 2_300}]}}}}\n",
    "stars": f'summary: "{"a*b " * 4_500}"\n',
}


@pytest.mark.parametrize("shape", SLOW)
def test_no_inline_recipe_holds_up_the_event_loop(registry, shape):
    """Whatever the limits let through is compiled, or refused, within 20 ms; the test leaves room for a busy machine."""
    terms = "".join(f"  t{n}: {{scorer: hit}}\n" for n in range(14))
    text = f"{ONE}{terms}{SLOW[shape]}value: t"
    took = []
    for _ in range(5):
        started = time.perf_counter()
        try:
            compile_plan(parse_inline(text, Limits()), registry, "x")
        except ConfigError as error:
            assert shape in {"numbers"} and "word" in error.message
        took.append(time.perf_counter() - started)
    assert min(took) < 0.04


def test_a_chain_of_comparisons_is_short(registry):
    """Python reads one in the square of its length."""
    with pytest.raises(ConfigError, match="x:4: value: over 100 of < > ="):
        compile_plan(parse_recipe(f"{ONE}value: 1{'<1' * 101}", "x"), registry, "x")


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


def test_a_route_that_fits_no_group_is_the_callers_to_mend(registry):
    """The reason names what was sent and every case of the routes that the value reads."""
    text = "name: r\nterms: {a: {route: {cases: {math: {scorer: hit}}}}, b: {route: {cases: {mcq: {scorer: hit}}}}}\n"
    plan = compile_plan(parse_recipe(text + "value: if_skipped(a, b)", "r"), registry, "r")
    assert plan.unrouted(Group("g")) == {
        "reason": "the recipe r has no scorer for a group without problem_type; known: math, mcq",
        "field": "problem_type",
    }
    assert "'maht'; did you mean 'math'" in plan.unrouted(Group("g", problem_type="maht"))["reason"]
