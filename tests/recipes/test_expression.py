"""Expressions: arithmetic over a group that never turns "no value" into a number."""

import math
import operator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewardhub.errors import ConfigError
from rewardhub.recipes.expression import compile_expression
from rewardhub.recipes.functions import Scope
from rewardhub.types import Call, Group, Response

NAN = math.nan


def run(text, minimum=2, strict=False, call=None, group=None, **terms):
    size = max((len(values) for values in terms.values()), default=1)
    group = group or Group("g", responses=tuple(Response("x" * (n + 1)) for n in range(size)))
    scope = Scope(group, call or Call(), minimum=minimum, strict=strict)
    scope.values = {name: np.array(values, dtype=float) for name, values in terms.items()}
    return compile_expression(text, terms, "value")(scope).tolist()


def same(left, right):
    return all((math.isnan(a) and math.isnan(b)) or a == pytest.approx(b) for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.9*a + 0.1*b", [0.9, 0.1]),
        ("where(a == 1, 2, b)", [2.0, 1.0]),
        ("a if a > b else b", [1.0, 1.0]),
        ("div(a, b, -1)", [-1.0, 0.0]),
        ("clip(3*a - b, 0, 1)", [1.0, 0.0]),
        ("not a", [0.0, 1.0]),
        ("a == 1 and b == 0", [1.0, 0.0]),
        ("0 <= a < 1", [0.0, 1.0]),
        ("min(a, b) + max(a, b)", [1.0, 1.0]),
        ("exp(0*a) + log(1 + 0*a)", [1.0, 1.0]),
        ("g_mean(a)", [0.5, 0.5]),
        ("a - g_mean(a)", [0.5, -0.5]),
        ("g_std(a)", [0.5, 0.5]),
        ("g_std(a, ddof=1)", [math.sqrt(0.5)] * 2),
        ("g_rank(a)", [2.0, 1.0]),
        ("g_count(a)", [1.0, 1.0]),
        ("g_mean(b, where=a == 0)", [1.0, 1.0]),
        ("g_pass_at(a, 1)", [0.5, 0.5]),
        ("g_pass_at(a, 2)", [1.0, 1.0]),
        ("chars", [1.0, 2.0]),
        ("group_size", [2.0, 2.0]),
    ],
)
def test_values(text, expected):
    """Each operator of the language gives the value worked out by hand."""
    assert same(run(text, a=[1, 0], b=[0, 1]), expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a + 1", [NAN, 2.0]),
        ("a == 1", [NAN, 1.0]),
        ("where(a == 1, 1, 0)", [NAN, 1.0]),
        ("1 if a < 5 else 0", [NAN, 1.0]),
        ("not a", [NAN, 0.0]),
        ("a and 0", [0.0, 0.0]),
        ("a or 1", [1.0, 1.0]),
        ("a and 1", [NAN, 1.0]),
        ("max(a, 0)", [NAN, 1.0]),
        ("clip(a, 0, 1)", [NAN, 1.0]),
    ],
)
def test_no_value_is_never_a_number(text, expected):
    """What depends on a missing value is missing, unless the other operand alone decides."""
    assert same(run(text, a=[NAN, 1.0]), expected)


def test_group_operators_skip_missing_and_obey_the_minimum():
    """A group mean skips None, and is None below the stated number of valid members."""
    assert same(run("g_mean(a)", a=[1, NAN, 3]), [2.0] * 3)
    assert same(run("g_mean(a)", a=[1, NAN, NAN]), [NAN] * 3)
    assert same(run("g_mean(a)", minimum=1, a=[1, NAN, NAN]), [1.0] * 3)
    assert same(run("g_mean(a)", strict=True, a=[1, NAN, 3]), [NAN] * 3)
    assert same(run("g_min(a, where=a > 10)", a=[1, 2, 3]), [NAN] * 3)
    assert same(run("g_rank(a)", a=[3, NAN, 1]), [2.0, NAN, 1.0])
    assert same(run("g_rank(a)", a=[3, NAN, NAN]), [NAN] * 3)
    assert same(run("g_rank(a)", strict=True, a=[3, NAN, 1]), [NAN] * 3)


@given(st.lists(st.sampled_from([0.0, 1.0, 2.5, -3.0, NAN]), min_size=1, max_size=12))
def test_ranks_are_those_of_counting(values):
    """Rank = how many are lower, plus half of the equal ones and a half."""
    known = [value for value in values if not math.isnan(value)]
    ranks = [NAN if math.isnan(v) else sum(o < v for o in known) + (sum(o == v for o in known) + 1) / 2 for v in values]
    assert same(run("g_rank(a)", a=values), ranks if len(known) > 1 else [NAN] * len(values))


def test_reads():
    """Signals, inputs and fields are read by name; what is absent has no value."""
    responses = (Response("a", tokens=5, signals={"entropy": 0.5}), Response("b"))
    group = Group("g", responses=responses, metadata={"difficulty": 3}, problem_type="mcq")
    call = Call(inputs={"stage": 2})
    text = 'signal("entropy") + input("stage") + field("difficulty")'
    assert same(run(text, call=call, group=group, a=[0, 0]), [5.5, NAN])
    assert same(run('input("stage", 1) + input("bonus", 0.5)', call=call, group=group, a=[0, 0]), [2.5, 2.5])
    assert same(run('problem_type == "mcq"', call=call, group=group, a=[0, 0]), [1.0, 1.0])
    assert same(run("tokens", call=call, group=group, a=[0, 0]), [5.0, NAN])


@pytest.mark.parametrize(
    "text",
    [
        "a ** 2",
        "a.b",
        "a[0]",
        "__import__('os')",
        "(lambda: 1)()",
        "[x for x in a]",
        "f'{a}'",
        "a @ b",
        "a // b",
        "exp(a, b)",
        "g_mean(a, axis=0)",
        "a := 1",
        "1e400",
        "~a",
        "a in b",
        "a" * 2001,
        "(" * 41 + "a" + ")" * 41 + "+" + "-" * 45 + "a",
        "'x' * 'y' + nope",
        "",
        "a b",
        "exp.__class__(a)",
        "signal(a)",
        "if_skipped(1, 2)",
        "g_mean(a, where=a, where=b)",
        "exp(**a)",
        "(b := a)",
        "1e301",
        "1j",
        "None",
        "await a",
        "{a: b}",
        "'text'",
        "problem_type",
        "problem_type + a",
        "where(a, 'x', 'y') == 'x'",
        "g_count(problem_type)",
        "input('x', 'y')",
    ],
)
def test_the_language_is_an_allow_list(text):
    """Anything outside the language is refused when the recipe is loaded."""
    with pytest.raises(ConfigError) as caught:
        run(text, a=[1], b=[1])
    assert "value" in str(caught.value)


def test_unknown_names_come_with_the_nearest():
    """A misspelt name is told what it may have meant."""
    with pytest.raises(ConfigError, match="did you mean 'accuracy'"):
        run("acuracy", accuracy=[1])
    with pytest.raises(ConfigError, match="did you mean 'g_mean'"):
        run("g_meen(a)", a=[1])


@given(st.text(max_size=60))
def test_any_text_compiles_or_is_refused(text):
    """No text makes the compiler raise anything but ConfigError."""
    try:
        run(text, a=[1.0, NAN], b=[0.0, 2.0])
    except ConfigError:
        pass


def _operations(inner):
    def of(operate, *arguments):
        values = tuple(value for _, value in arguments)
        return operate[0].format(*(text for text, _ in arguments)), operate[1](*values)

    two = [
        ("({} + {})", operator.add),
        ("({} - {})", operator.sub),
        ("({} * {})", operator.mul),
        ("({} % (abs({}) + 1))", lambda a, b: a % (abs(b) + 1)),
        ("div({}, {}, 7)", lambda a, b: a / b if b else 7.0),
        ("min({}, {})", min),
        ("max({}, {})", max),
        ("({} <= {})", lambda a, b: float(a <= b)),
        ("({} and {})", lambda a, b: float(bool(a) and bool(b))),
        ("({} or not {})", lambda a, b: float(bool(a) or not b)),
    ]
    three = [
        ("({1} if {0} else {2})", lambda a, b, c: b if a else c),
        ("where({} > {}, {}, -1)", lambda a, b, c: c if a > b else -1.0),
        ("({} < {} < {})", lambda a, b, c: float(a < b < c)),
        ("clip({}, {}, {})", lambda a, b, c: min(max(a, b), c)),
    ]
    return st.builds(of, st.sampled_from(two), inner, inner) | st.builds(
        of, st.sampled_from(three), inner, inner, inner
    )


_VALUES = {"a": 0.5, "b": -3.0, "c": 0.0}
_LEAVES = st.sampled_from([*_VALUES.items(), ("2", 2.0), ("0.25", 0.25)])


@given(st.recursive(_LEAVES, _operations, max_leaves=8))
def test_numbers_are_those_of_python(case):
    """Any mixture of operators gives what plain Python gives for the same numbers."""
    text, expected = case
    try:
        [found, again] = run(text, **{name: [value, value] for name, value in _VALUES.items()})
    except ConfigError as error:
        assert "nested deeper" in str(error) or "over 2000" in str(error)
    else:
        assert found == again == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_a_text_field_is_no_number():
    """Outside a comparison a field that holds a text is missing, and is named as such."""
    group = Group("g", responses=(Response("x"),), metadata={"level": "hard", "huge": 10**400})
    scope = Scope(group, Call())
    assert math.isnan(compile_expression('field("level") + 1', {}, "value")(scope)[0])
    assert scope.absent.keys() == {"metadata.level as a number"}
    assert same(run('where(field("level") == "hard", 2, 1)', group=group), [2.0])
    assert same(run('field("huge")', group=group), [NAN])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a / b", [0.5, NAN, NAN]),
        ("clip(a / b, 0, 1)", [0.5, NAN, NAN]),
        ("max(a / b, 0) + min(b / b, 2)", [1.5, NAN, NAN]),
        ("where(a / b > 0, 1, 0)", [1.0, NAN, NAN]),
        ("1 / (a / b)", [2.0, NAN, NAN]),
        ("a % b", [1.0, NAN, NAN]),
        ("where(b == 0, 7, a / b)", [0.5, 7.0, 7.0]),
        ("g_mean(where(b == 0, 1, a / b))", [2.5 / 3] * 3),
        ("g_mean(a / b, where=b > 0)", [0.5] * 3),
        ("g_mean(a / b)", [NAN] * 3),
        ("clip(g_max(b / b), 0, 1)", [NAN] * 3),
        ("g_count(a / b > 0)", [NAN] * 3),
        ("g_rank(a / b)", [NAN] * 3),
        ("a / 0", [NAN] * 3),
        ("a / 2", [0.5, 0.0, 1.0]),
    ],
)
def test_a_division_by_zero_never_becomes_a_number(text, expected):
    """Not by clipping, comparing or dividing again, nor by a group operator that would skip it; div states a number."""
    assert same(run(text, a=[1, 0, 2], b=[2, 0, 0]), expected)


def test_a_deviation_needs_more_rows_than_it_takes_away():
    """What has no deviation has no value, and no warning is given."""
    assert same(run("g_std(a, ddof=1)", minimum=1, a=[1]), [NAN])
    assert same(run("g_std(a, ddof=2)", a=[1, 2]), [NAN, NAN])
    assert same(run("g_std(a, ddof=a)", a=[1, 2]), [NAN, NAN])
    assert same(run("g_std(a, ddof=-1)", a=[1, 2]), [NAN, NAN])
    assert same(run("g_std(a, ddof=0.5)", a=[1, 2]), [NAN, NAN])


def test_pass_at_k_is_the_unbiased_estimate():
    """1 - C(n-c, k) / C(n, k): 0.9167 for 3 of 10 and k = 5; more draws than rows have no estimate."""
    assert run("g_pass_at(a, 5)", a=[1] * 3 + [0] * 7)[0] == pytest.approx(1 - 21 / 252)
    assert run("g_pass_at(a, 4)", a=[1, 0, 1, 0, 0, 0, 0, 0])[0] == pytest.approx(0.7857, abs=5e-5)
    assert run("g_pass_at(a, 5)", a=[0] * 10)[0] == 0.0
    assert math.isnan(run("g_pass_at(a, 3)", a=[1, 0])[0])
    assert run("g_pass_at(a, 2)", a=[1, 0, NAN])[0] == 1.0
    assert math.isnan(run("g_pass_at(a, a)", a=[1, 2])[0])


def test_a_text_field_becomes_the_number_stated_for_it():
    """``field("difficulty", easy=1, hard=1.5)``; a text nobody stated is missing, never a default."""
    text = 'field("difficulty", easy=1, hard=1.5)'
    for said, expected in {"easy": 1.0, "hard": 1.5, "hrad": NAN}.items():
        group = Group("g", responses=(Response("x"),), metadata={"difficulty": said})
        assert same(run(text, group=group), [expected])
    assert same(run(text, group=Group("g", responses=(Response("x"),))), [NAN])
    for wrong in ('signal("x", a=1)', 'field("x", a=b)', 'field("x", a="b")', 'field("x", 1)'):
        with pytest.raises(ConfigError, match="takes one text"):
            run(wrong, b=[1])


def test_has_asks_whether_something_was_sent():
    """Lists and objects count too; empty ones, and names nobody sent, do not."""
    group = Group(
        "g", responses=(Response("x"),), reference={"facts": ["a"], "none": [], "zero": 0}, metadata={"k": "v"}
    )
    found = {name: run(f'has("{name}")', group=group)[0] for name in ("facts", "none", "zero", "k", "other")}
    assert found == {"facts": 1.0, "none": 0.0, "zero": 1.0, "k": 1.0, "other": 0.0}


def test_details_of_a_term_are_read():
    """Numbers and truth values by name; the default where there is none; nothing where the term has no value."""
    scope = Scope(Group("g", responses=(Response("x"),) * 4), Call())
    scope.values = {"judged": np.array([0.8, 0.4, 0.4, NAN])}
    scope.details = {"judged": [{"faults": 2}, {"faults": True}, None, {"faults": 3}]}
    found = compile_expression('detail(judged, "faults", 0)', {"judged": None}, "value")(scope).tolist()
    assert same(found, [2.0, 1.0, 0.0, NAN])
    for wrong in ('detail(judged, "faults")', "detail(judged, judged, 0)", 'detail("judged", "faults", 0)'):
        with pytest.raises(ConfigError, match="detail takes a term, a text, a default"):
            compile_expression(wrong, {"judged": None}, "value")


def test_step_scores_are_reduced():
    """The four aggregates of process models; a response without steps, or with a missing one, has no value."""
    scope = Scope(Group("g", responses=(Response("x"),) * 4), Call())
    scope.values = {"chain": np.ones(4)}
    scope.steps = {"chain": [(0.9, 0.8, 0.5), (0.7, 0.7, 0.7), (), (0.9, None)]}
    expected = {"min": [0.5, 0.7], "mean": [2.2 / 3, 0.7], "last": [0.5, 0.7], "product": [0.36, 0.343]}
    for name, values in expected.items():
        found = compile_expression(f"steps_{name}(chain)", {"chain": None}, "value")(scope).tolist()
        assert same(found, [*values, NAN, NAN])
    assert {name: rows.tolist() for name, rows in scope.absent.items()} == {
        "the steps of chain": [False, False, True, True]
    }
    with pytest.raises(ConfigError, match="steps_min takes a term"):
        compile_expression("steps_min(1)", {"chain": None}, "value")


def test_a_missing_field_is_not_the_text_it_is_compared_with():
    """Neither a missing field nor a number equals a text, so both differ from it."""
    for metadata, equal in (({}, 0.0), ({"form": 3}, 0.0), ({"form": "paper"}, 1.0), ({"form": "code"}, 0.0)):
        group = Group("g", responses=(Response("x"),), metadata=metadata)
        assert run('field("form") == "paper"', group=group) == [equal]
        assert run('field("form") != "paper"', group=group) == [1.0 - equal]
        assert run('field("form") < "a"', group=group) == [0.0]
