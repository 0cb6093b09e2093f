"""What graders disagree on, as named choices with three presets."""

from dataclasses import dataclass, replace
from typing import Any, Literal

from rewardhub.errors import ConfigError

Preset = Literal["strict", "math_verify", "lenient"]
Source = Literal["boxed", "tag", "hashes", "phrase", "last"]
SOURCES: tuple[Source, ...] = ("boxed", "tag", "hashes", "phrase", "last")


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """How two answers are compared. Hashed by identity: one set of parameters makes one policy.

    ``list_order``: whether the order of ``1, 2`` written without brackets matters.
    ``tuple_as_list``: ``(1,2)`` also equals ``1,2`` and ``{1,2}``; ``vector_as_tuple``: a column equals it.
    ``percent``: 50% equals 0.5 only (``value``), or, if the number is written plainly and is at least 1, 50
    as well (``either``).
    ``relation``: ``x = 5`` equals 5 (``rhs``) or only another relation (``keep``).
    ``interval_relation``: whether ``1 < x < 2`` equals (1,2): ``never``, only where the reference is the
    relation (``reference``), or ``both`` ways.
    ``units``: dropped (``ignore``), or equal and present on both sides or on neither (``match``).
    ``decimal_comma``: 3,14 is 3.14, always, never, or (None) where the other side is one decimal.
    ``pi_approx``: 3.14 and 22/7 stand for pi.
    ``number_words``: seven, million. ``ignore_case``: of words and of single letters.
    ``decimals``: places to which a written decimal is compared with an exact value, and half as many of its
    leading digits (0.0000672 is not 0.000067).
    ``abs_tol``, ``rel_tol``: absolute and relative tolerance between two numbers, 0 is off.
    """

    list_order: bool = False
    tuple_as_list: bool = True
    vector_as_tuple: bool = False
    percent: Literal["value", "either"] = "either"
    relation: Literal["keep", "rhs"] = "rhs"
    interval_relation: Literal["never", "reference", "both"] = "reference"
    units: Literal["match", "ignore"] = "ignore"
    decimal_comma: bool | None = None
    pi_approx: bool = False
    number_words: bool = False
    ignore_case: bool = True
    decimals: int = 6
    abs_tol: float = 0.0
    rel_tol: float = 0.0


PRESETS: dict[Preset, Policy] = {
    "strict": Policy(
        tuple_as_list=False, percent="value", relation="keep", interval_relation="never", units="match",
        ignore_case=False, decimals=12, decimal_comma=False,
    ),
    "math_verify": Policy(),
    "lenient": Policy(
        vector_as_tuple=True, interval_relation="both", decimal_comma=True, pi_approx=True, number_words=True,
        decimals=4,
    ),
}  # fmt: skip


def policy_of(preset: Preset, **changes: Any) -> Policy:
    """The preset with every choice that is not None changed; raises ``ConfigError`` on a bad number."""
    policy = replace(PRESETS[preset], **{key: value for key, value in changes.items() if value is not None})
    if not 0 <= policy.decimals <= 12:
        raise ConfigError("math: decimals must be in 0…12", field="decimals")
    if not (0 <= policy.abs_tol < float("inf") and 0 <= policy.rel_tol < 1):
        raise ConfigError("math: abs_tol must be finite and rel_tol in [0, 1)", field="abs_tol")
    return policy
