"""The line: prepare the reference, extract the answer, then text, exact and symbolic tier."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from rewardhub.errors import NoAnswer, OverLimit, ReferenceUnparseable
from rewardhub.scorer import need
from rewardhub.types import Json, Score
from rewardhub.verifiers.mathlib import normalise
from rewardhub.verifiers.mathlib.algebra import WORK
from rewardhub.verifiers.mathlib.compare import compare
from rewardhub.verifiers.mathlib.extract import boxed, extract
from rewardhub.verifiers.mathlib.grammar import parse
from rewardhub.verifiers.mathlib.limits import MAX_CHARS, MAX_DEPTH, MAX_DIGITS, MAX_WORK, TooLarge, Unparseable
from rewardhub.verifiers.mathlib.plain import Plain, decimals_equal, plain, plain_equal
from rewardhub.verifiers.mathlib.policy import Policy, Source
from rewardhub.verifiers.mathlib.relations import settled
from rewardhub.verifiers.mathlib.scalars import Oracle
from rewardhub.verifiers.mathlib.screen import screen
from rewardhub.verifiers.mathlib.shapes import unitless
from rewardhub.verifiers.mathlib.tree import Mul, Neg, Node, Num, Seq, Text, walk
from rewardhub.verifiers.tags import said

Tier = Literal["text", "exact", "symbolic"]
_FIELD = "reference.answer"
_NOTHING = Seq("{", (), "}")
"""The empty set, which is also "no solution"."""


class Prepared(NamedTuple):
    """A reference, ready: as written, its key, its tree (None: words), its value if it is a plain number."""

    written: str
    key: str
    tree: Node | None
    plain: Plain | None


def grade(text: str, reference: Json, policy: Policy, order: Sequence[Source], oracle: Oracle) -> Score | None:
    """The verdict on one response; None where ``oracle`` leaves a scalar open.

    Raises ``ReferenceUnparseable``, ``NoAnswer`` and ``OverLimit``.
    """
    WORK.left = MAX_WORK
    text = said(text)
    ours = _prepared(need(reference, "answer", (str, int, float)), policy)
    if "last" in order and text.strip() == ours.written:
        return _score(True, "text", "equal after normalising", text.strip(), "last")
    found = extract(text, order, words=ours.tree is None or ours.tree == _NOTHING)
    if found is None:
        raise NoAnswer("the response holds nothing to score")
    answer, source = found
    try:
        return _graded(ours, answer, source, policy, oracle)
    except TooLarge as error:
        raise OverLimit(str(error)) from None


def _graded(ours: Prepared, answer: str, source: Source, policy: Policy, oracle: Oracle) -> Score | None:
    if ours.plain and ours.plain.integer and answer.isdecimal() and answer.isascii() and len(answer) <= MAX_DIGITS:
        same = ours.plain.value == int(answer)
        if same or not (policy.abs_tol or policy.rel_tol):
            return _numbers(same, answer, source)
    theirs = _key(answer, policy)
    if _same_text(ours, theirs, policy):
        return _score(True, "text", "equal after normalising", answer, source)
    number = plain(theirs) if ours.plain else None
    if ours.plain and number:
        return _numbers(plain_equal(ours.plain, number, policy), answer, source)
    if policy.decimal_comma is None and decimals_equal(ours.key, theirs, policy):
        return _numbers(True, answer, source)
    if ours.tree is None:
        return _score(False, "text", "other words", answer, source)
    try:
        tree = _tree(answer, policy)
        screen(tree)
    except Unparseable as error:
        return _score(False, "text", f"not a known form: {error}", answer, source)
    symbolic = _Counted(oracle)
    equal_or_open, reason = compare(ours.tree, tree, policy, symbolic)
    if equal_or_open is None:
        return None
    return _score(equal_or_open, "symbolic" if symbolic.used else "exact", reason, answer, source)


def _numbers(equal: bool, answer: str, source: Source) -> Score:
    return _score(equal, "exact", "equal numbers" if equal else "different numbers", answer, source)


def left_open(one: Node, two: Node) -> None:  # the shape of an oracle
    """The oracle that does not answer: the verdict stays open."""


class _Counted:
    """An oracle that remembers whether it was asked."""

    def __init__(self, oracle: Oracle) -> None:
        self.oracle = oracle
        self.used = False

    def __call__(self, one: Node, two: Node) -> bool | None:
        self.used = True
        return self.oracle(one, two)


def _score(equal: bool, tier: Tier, reason: str, answer: str, source: Source) -> Score:
    details = {
        "verdict": "right" if equal else "wrong", "tier": tier, "reason": reason,
        "extracted": answer if len(answer) <= 200 else answer[:200] + "…", "source": source,
    }  # fmt: skip
    return Score(1.0 if equal else 0.0, details=details)


def _same_text(ours: Prepared, theirs: str, policy: Policy) -> bool:
    return ours.key == theirs or (ours.tree is None and policy.ignore_case and ours.key == theirs.casefold())


def _key(text: str, policy: Policy) -> str:
    cleaned = normalise.clean(text)
    return normalise.key(normalise.numbered(cleaned) if policy.number_words else cleaned)


def _tree(text: str, policy: Policy) -> Node:
    cleaned = normalise.clean(text)
    if len(cleaned) > MAX_DEPTH and normalise.nesting(cleaned) > MAX_DEPTH:
        raise TooLarge(f"more than {MAX_DEPTH} nested groups")
    if policy.number_words:
        cleaned = normalise.numbered(cleaned)
    return parse(cleaned, decimal_comma=bool(policy.decimal_comma))


def _prepared(answer: Any, policy: Policy) -> Prepared:
    if isinstance(answer, float) and not math.isfinite(answer):
        raise ReferenceUnparseable("reference.answer is not a finite number", field=_FIELD)
    if isinstance(answer, int) and answer.bit_length() > 3 * MAX_CHARS:
        raise ReferenceUnparseable("reference.answer is too large", field=_FIELD)
    return _prepare(answer if isinstance(answer, str) else repr(answer), policy)


@lru_cache(maxsize=1024)
def _prepare(answer: str, policy: Policy) -> Prepared:
    """Raises ``ReferenceUnparseable`` where the answer is empty, unbalanced or too large."""
    written = answer.strip()
    if "\\boxed" in answer[:MAX_CHARS]:
        answer = boxed(answer) or answer
    try:
        key = _key(answer, policy)
        if not key.strip("$ ") or key == "{}":
            raise ReferenceUnparseable("reference.answer is empty", field=_FIELD)
        if written.lstrip("+-").isdecimal() and (number := plain(key)):
            return Prepared(written, key, _integer(number), number)
        if not normalise.balanced(key) or normalise.open_dollar(answer):
            raise ReferenceUnparseable("reference.answer has unbalanced braces or delimiters", field=_FIELD)
        tree = _reference_tree(answer, policy)
        if tree is not None:
            compare(tree, tree, policy, left_open)
    except TooLarge as error:
        raise ReferenceUnparseable(f"reference.answer is too large: {error}", field=_FIELD) from None
    folded = key.casefold() if tree is None and policy.ignore_case else key
    return Prepared(written, folded, tree, plain(key))


def _integer(number: Plain) -> Node:
    """What the grammar makes of a written integer."""
    return Num(int(number.value)) if number.value >= 0 else Neg(Num(int(-number.value)))


def _reference_tree(answer: str, policy: Policy) -> Node | None:
    """The tree; None for plain words. Mathematics with an open bracket is unusable, words are not."""
    try:
        tree = settled(_tree(answer, policy))
        screen(tree)
        if isinstance(tree, Mul) and normalise.is_word(normalise.key(normalise.clean(answer))):
            return None
    except Unparseable:
        if not normalise.brackets_close(answer) and not normalise.has_words(answer):
            raise ReferenceUnparseable("reference.answer has an unbalanced bracket", field=_FIELD) from None
        return None
    return None if any(isinstance(each, Text) for each in walk(unitless(tree))) else tree
