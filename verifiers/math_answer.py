"""Mathematical answers: numbers, expressions, sets, intervals, matrices, relations, words.

Default verdicts follow Math-Verify 0.9 (huggingface/Math-Verify) where graders agree; hedged answers,
integers that differ by one and an unusable reference are where they deliberately do not. Every recorded difference
stands with its reason in ``tests/verifiers/math_verify_pairs.tsv`` and ``math_pairs.tsv``, in short in
``tests/bench/VERIFIERS.md``.
"""

from functools import lru_cache
from typing import Literal

from rewardhub.registry import verifier
from rewardhub.scorer import Example
from rewardhub.types import Json, Response, Score, Status
from rewardhub.verifiers.mathlib.grade import grade, left_open
from rewardhub.verifiers.mathlib.policy import SOURCES, Policy, Preset, Source, policy_of
from rewardhub.verifiers.mathlib.tree import Node

_MODULES = (
    "algebra", "canonical", "compare", "cursor", "extract", "grade", "grammar", "intervals", "limits", "modular",
    "normalise", "numeric", "plain", "policy", "relations", "scalars", "screen", "sentences", "series", "shapes",
    "spelling", "structures", "symbolic", "tokens", "tree", "units",
)  # fmt: skip


def _example(response: str, answer: str | float, value: float | None, **params: object) -> Example:
    return Example(response, {"answer": answer}, value, params)


def _status(response: str, answer: str | float, status: Status) -> Example:
    return Example(response, {"answer": answer}, None, status=status)


EXAMPLES = (
    _example(r"so \boxed{\frac{1}{2}}", "0.5", 1.0),
    _example("The answer is 7 3/4.", "7.75", 1.0),
    _example(r"\boxed{x=2 \text{ or } x=-2}", r"\pm 2", 1.0),
    _example(r"\boxed{10 (or 8)}", "10", 0.0),
    _example(r"\boxed{10 (or 8)}", "8", 0.0),
    _example(r"\boxed{10} or \boxed{8}", "8", 0.0),
    _example("<answer>1,200</answer>", 1200, 1.0),
    _example("work\n#### 70,000", "70000", 1.0),
    _example("42.0", 42, 1.0),
    _example(r"\boxed{99999999999}", "100000000000", 0.0),
    _example(r"\boxed{|x+9|}", "y=|x+9|", 1.0),
    _example("1+x", "x+1", 1.0),
    _example("(B)", "B", 1.0),
    _example(r"$\boxed{50\%}$", r"\frac{1}{2}", 1.0),
    _example(r"\boxed{50\%}", "50", 0.0, preset="strict"),
    _example(r"\boxed{3.14}", r"\pi", 0.0),
    _example(r"\boxed{3.14}", r"\pi", 1.0, preset="lenient"),
    _example(r"\boxed{(1,2)}", "1<x<2", 1.0),
    _example(r"\boxed{1<x<2}", "(1,2)", 0.0),
    _example(r"\boxed{1<x<2}", "(1,2)", 1.0, interval_relation="both"),
    _example(r"\boxed{(2,1)}", "(1,2)", 0.0),
    _example(r"\boxed{2, 1}", "1, 2", 1.0),
    _example(r"\boxed{\frac{\sqrt{2}}{2}}", r"\frac{1}{\sqrt{2}}", 1.0),
    _example(r"\boxed{1}", r"\sin^2 x + \cos^2 x", 1.0),
    _example(r"\boxed{15}", r"15\mbox{ cm}^2", 1.0),
    _example(r"\boxed{15}", r"15\mbox{ cm}^2", 0.0, units="match"),
    _example("a banana", "a red car", 0.0),
    _example("It is a red car", "a red car", 0.0),
    _example("2 million", "2000000", 1.0, number_words=True),
    _status("", "9", Status.NO_ANSWER),
    _status("<answer></answer>", "9", Status.NO_ANSWER),
    _status(r"\boxed{9^{9^{9}}}", "9", Status.OVER_LIMIT),
    _status("9", r"\frac{1}{2", Status.REFERENCE_UNPARSEABLE),
    _status("9", "", Status.REFERENCE_UNPARSEABLE),
)


def _symbolic(one: Node, two: Node) -> bool | None:
    from rewardhub.verifiers.mathlib.symbolic import symbolic_equal

    return symbolic_equal(one, two)


@lru_cache(maxsize=256)
def _settings(
    preset: Preset = "math_verify", extract: tuple[Source, ...] = SOURCES, **changes: object
) -> tuple[Policy, tuple[Source, ...]]:
    return policy_of(preset, **changes), extract


def math_fast(response: Response, reference: Json, **params: object) -> Score | None:
    """The text and exact tiers: bounded, without SymPy; None where only the symbolic tier can tell."""
    policy, order = _settings(**params)
    return grade(response.text, reference, policy, order, left_open)


@verifier(
    "math",
    lane="pool",
    fast=math_fast,
    examples=EXAMPLES,
    libraries=("sympy", "mpmath"),
    sources=("rewardhub.verifiers.tags", *(f"rewardhub.verifiers.mathlib.{name}" for name in _MODULES)),
)
def math(
    response: Response,
    reference: Json,
    *,
    preset: Preset = "math_verify",
    extract: tuple[Source, ...] = SOURCES,
    list_order: bool | None = None,
    tuple_as_list: bool | None = None,
    vector_as_tuple: bool | None = None,
    percent: Literal["value", "either"] | None = None,
    relation: Literal["keep", "rhs"] | None = None,
    interval_relation: Literal["never", "reference", "both"] | None = None,
    units: Literal["match", "ignore"] | None = None,
    decimal_comma: bool | None = None,
    pi_approx: bool | None = None,
    number_words: bool | None = None,
    ignore_case: bool | None = None,
    decimals: int | None = None,
    abs_tol: float | None = None,
    rel_tol: float | None = None,
) -> Score | None:
    """Whether the response's final answer equals ``reference.answer``: 1.0 or 0.0.

    ``extract`` is the order in which the answer is looked for, outside the thoughts (``<think>``, closed or
    left open). What a sentence denies is no answer, and what it names beside another is a list.
    ``preset`` sets every other choice (see :class:`~rewardhub.verifiers.mathlib.policy.Policy`); a choice
    given here wins over it.
    ``details`` hold ``verdict``, ``tier`` (text, exact, symbolic), ``reason``, ``extracted``, ``source``.
    Raises ``ReferenceUnparseable`` (empty, unbalanced, too large or of the wrong kind; plain words are
    compared as text), ``NoAnswer``, and ``OverLimit`` past the limits of ``mathlib.limits``.
    """
    params: dict[str, object] = {
        "preset": preset, "extract": extract, "list_order": list_order, "tuple_as_list": tuple_as_list,
        "vector_as_tuple": vector_as_tuple, "percent": percent, "relation": relation,
        "interval_relation": interval_relation, "units": units, "decimal_comma": decimal_comma,
        "pi_approx": pi_approx, "number_words": number_words, "ignore_case": ignore_case,
        "decimals": decimals, "abs_tol": abs_tol, "rel_tol": rel_tol,
    }  # fmt: skip
    policy, order = _settings(**params)
    return grade(response.text, reference, policy, order, _symbolic)
