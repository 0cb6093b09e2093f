"""Properties of the math verifier over generated answers and mutated LaTeX."""

import json
from fractions import Fraction

import hypothesis.strategies as st
from hypothesis import HealthCheck, given, settings

from rewardhub.types import Group, Response, Score, Status
from rewardhub.verifiers.math_answer import math
from rewardhub.verifiers.mathlib.policy import PRESETS

BOUND = math.bind({})
STATUSES = {Status.OK, Status.NO_ANSWER, Status.OVER_LIMIT, Status.REFERENCE_UNPARSEABLE}
quick = settings(max_examples=250, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def fast(text: str, answer: str) -> Score:
    group = Group(id="g", responses=(Response(text),), reference={"answer": answer})
    return BOUND.try_fast(group, [0]).row(0)


def full(text: str, answer: str, **params: object) -> Score:
    group = Group(id="g", responses=(Response(text),), reference={"answer": answer})
    return (math.bind(params) if params else BOUND).score(group, [0]).row(0)


anything = st.characters(codec=None, categories=None)
integers = st.integers(-999, 999)
atoms = st.one_of(
    integers.map(str),
    st.sampled_from(
        ["x", "y", "n", r"\pi", "e", "i", r"\alpha", "x_1", r"\infty", "0.5", ".25", "1,234", r"3\frac{1}{2}"]
    ),
)


def wider(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    two = st.tuples(inner, inner)
    return st.one_of(
        two.map(lambda p: rf"\frac{{{p[0]}}}{{{p[1]}}}"),
        two.map(lambda p: f"{p[0]}+{p[1]}"),
        two.map(lambda p: f"({p[0]}) - ({p[1]})"),
        two.map(lambda p: rf"{p[0]} \cdot {p[1]}"),
        two.map(lambda p: rf"\left({p[0]}, {p[1]}\right]"),
        two.map(lambda p: f"{p[0]}, {p[1]}"),
        two.map(lambda p: f"{p[0]} = {p[1]}"),
        two.map(lambda p: rf"{p[0]} \le {p[1]}"),
        two.map(lambda p: rf"\begin{{pmatrix}} {p[0]} \\ {p[1]} \end{{pmatrix}}"),
        inner.map(lambda s: rf"\sqrt{{{s}}}"),
        inner.map(lambda s: rf"\{{{s}\}}"),
        inner.map(lambda s: rf"\sin({s})"),
        inner.map(lambda s: rf"{{{s}}}^2"),
        inner.map(lambda s: rf"\pm {s}"),
        inner.map(lambda s: rf"{s}\%"),
        inner.map(lambda s: rf"{s} \text{{ cm}}^2"),
        inner.map(lambda s: f"|{s}|"),
    )


latex = st.recursive(atoms, wider, max_leaves=6)
pieces = st.sampled_from(
    [*"{}()[]^_$&%#~|!,;:.=<>+-*/\\'\"`? \n\t0123456789xyzeiπ½²−", r"\frac", r"\sqrt", r"\left", r"\right", r"\boxed", r"\text",
     r"\begin", r"\end", "pmatrix", r"\\", r"\pm", r"\cup", r"\in", r"\le", r"\circ", r"\sin", r"\log_", r"\binom", "answer is",
     "<answer>", "</answer>", "####", "9^9^9", "!", "or", "and", r"\infty", "1e999", r"\sqrt[3]", r"\overline", r"\choose"]
)  # fmt: skip


@quick
@given(latex)
def test_every_accepted_answer_equals_itself(answer):
    """verify(x, x) is right for every accepted x: bare, boxed, tagged, under every preset."""
    if fast("1", answer).status == Status.REFERENCE_UNPARSEABLE:
        return
    for text in (answer, rf"\boxed{{{answer}}}", f"<answer>{answer}</answer>", f"so\n#### {answer}"):
        assert fast(text, answer).value == 1.0, text
    for preset in PRESETS:
        assert full(rf"\boxed{{{answer}}}", answer, preset=preset).value == 1.0


@quick
@given(st.lists(pieces, max_size=30).map("".join))
def test_any_soup_equals_itself_or_is_refused(answer):
    """Also for text that no one would call an answer."""
    score = fast(answer, answer)
    assert score.status in STATUSES
    assert score.value == 1.0 or score.status != Status.OK


@quick
@given(st.lists(st.one_of(pieces, latex), max_size=14).map("".join), latex)
def test_mutated_latex_never_fails(response, answer):
    """Response and reference may be anything: a verdict or a status of theirs, never ours."""
    for text, gold in ((response, answer), (rf"\boxed{{{response}}}", answer), (answer, response)):
        assert fast(text, gold).status in {*STATUSES, Status.SKIPPED}


@quick
@given(st.text(anything, max_size=300), st.text(anything, max_size=60))
def test_any_text_never_fails(response, answer):
    """Unicode of every kind; the details are always JSON."""
    score = fast(response, answer)
    assert score.status in {*STATUSES, Status.SKIPPED}
    json.dumps(dict(score.details), ensure_ascii=False).encode()


@settings(quick, max_examples=120)
@given(latex, latex)
def test_fast_and_full_agree(one, two):
    """Where the fast function decides, the full one says the same."""
    quickly = fast(rf"\boxed{{{one}}}", two)
    if quickly.status != Status.SKIPPED:
        slowly = full(rf"\boxed{{{one}}}", two)
        assert (slowly.value, slowly.status) == (quickly.value, quickly.status)


@quick
@given(st.integers(-(10**30), 10**30), st.integers(1, 10**12), st.integers(2, 999))
def test_fractions_are_exact(top, bottom, factor):
    """A fraction equals its multiple and no neighbour, at any size."""
    scaled = rf"\boxed{{\frac{{{top * factor}}}{{{bottom * factor}}}}}"
    assert fast(scaled, f"{top}/{bottom}").value == 1.0
    assert fast(rf"\boxed{{\frac{{{top * factor + 1}}}{{{bottom * factor}}}}}", f"{top}/{bottom}").value == 0.0


@quick
@given(integers, integers, integers, st.integers(1, 50))
def test_polynomials_are_exact(a, b, c, d):
    """A product equals its expansion, and not the expansion with one coefficient changed."""
    product = f"({d}x+({a}))(x+({b}))(x+({c}))"
    terms = [d, a + d * (b + c), a * (b + c) + d * b * c, a * b * c]
    expanded = "+".join(f"({value})x^{3 - power}" for power, value in enumerate(terms))
    assert fast(rf"\boxed{{{expanded}}}", product).value == 1.0
    assert fast(rf"\boxed{{{expanded}+x}}", product).value == 0.0


@quick
@given(st.integers(1, 400), st.integers(1, 400), st.integers(1, 60))
def test_surds_are_exact(a, b, k):
    """Products of square roots, and denominators made rational."""
    assert fast(rf"\boxed{{\sqrt{{{a * b}}}}}", rf"\sqrt{{{a}}}\cdot\sqrt{{{b}}}").value == 1.0
    assert fast(rf"\boxed{{{k}\sqrt{{{a}}}}}", rf"\sqrt{{{k * k * a}}}").value == 1.0
    assert fast(rf"\boxed{{\frac{{\sqrt{{{a}}}}}{{{a}}}}}", rf"\frac{{1}}{{\sqrt{{{a}}}}}").value == 1.0
    assert fast(rf"\boxed{{{k}\sqrt{{{a}}}}}", rf"\sqrt{{{k * k * a + 1}}}").value == 0.0


@quick
@given(st.lists(integers, min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_sets_ignore_order_and_tuples_do_not(values, random):
    """A set equals every order of itself; a tuple only its own."""
    shuffled = list(values)
    random.shuffle(shuffled)
    one, two = ", ".join(map(str, values)), ", ".join(map(str, shuffled))
    assert fast(rf"\boxed{{\{{{two}\}}}}", rf"\{{{one}\}}").value == 1.0
    assert fast(rf"\boxed{{({two})}}", f"({one})").value == float(values == shuffled)


@quick
@given(st.decimals(-1000, 1000, places=4))
def test_decimals_equal_their_fraction(number):
    """A written decimal equals the fraction of the same value."""
    value = Fraction(str(number))
    assert fast(rf"\boxed{{{number}}}", f"{value.numerator}/{value.denominator}").value == 1.0
