"""Whether two trees are equal under a policy: True, False, or None where exact arithmetic cannot tell."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rewardhub.verifiers.mathlib import intervals
from rewardhub.verifiers.mathlib.modular import congruent, modulus
from rewardhub.verifiers.mathlib.policy import Policy
from rewardhub.verifiers.mathlib.relations import relation_equal, unwrapped
from rewardhub.verifiers.mathlib.scalars import Oracle, scalar_equal
from rewardhub.verifiers.mathlib.shapes import expanded, unit_of, unitless
from rewardhub.verifiers.mathlib.tree import Call, Matrix, Mul, Node, Num, Quantity, Relation, Seq, Text

_SETS = frozenset({"union", "intersection", "difference"})


class Outcome(NamedTuple):
    """``equal`` is None where only the symbolic tier can tell; ``reason`` says what was compared."""

    equal: bool | None
    reason: str


def compare(reference: Node, answer: Node, policy: Policy, oracle: Oracle) -> Outcome:
    """The verdict on ``answer``. ``oracle`` decides the scalars that exact arithmetic cannot.

    Raises ``TooLarge`` where a side exceeds the limits.
    """
    return _compare(expanded(reference), expanded(answer), policy, oracle)


def _compare(reference: Node, answer: Node, policy: Policy, oracle: Oracle) -> Outcome:
    reference, answer = unwrapped(reference, answer, policy)
    if not isinstance(reference, Relation) and not isinstance(answer, Relation):
        same = congruent(reference, answer)
        if same is not None:
            return _said(same, "residues")
    if policy.units == "match" and unit_of(reference) != unit_of(answer):
        return Outcome(False, "different units")
    if {unit_of(reference), unit_of(answer)} == {"am", "pm"}:
        return Outcome(False, "different halves of the day")
    if _bases_differ(unit_of(reference), unit_of(answer)):
        return _said(_in_base_ten(reference) == _in_base_ten(answer) is not None, "numerals of different bases")
    reference, answer = unitless(reference), unitless(answer)
    if isinstance(reference, Text) or isinstance(answer, Text):
        same = isinstance(reference, Text) and isinstance(answer, Text) and _words(reference) == _words(answer)
        return Outcome(same, "equal words" if same else "different words")
    if isinstance(reference, Relation) and isinstance(answer, Relation):
        return _relations(reference, answer, policy, oracle)
    if isinstance(reference, Relation) or isinstance(answer, Relation):
        return _relation_and_set(reference, answer, policy, oracle)
    if isinstance(reference, Seq) and isinstance(answer, Seq):
        return _sequences(reference, answer, policy, oracle)
    if _is_set(reference) or _is_set(answer):
        return _unions(reference, answer, policy, oracle)
    if isinstance(reference, Seq) or isinstance(answer, Seq):
        return _sequence_and_other(reference, answer, policy, oracle)
    if isinstance(reference, Matrix) or isinstance(answer, Matrix):
        return _matrices(reference, answer, policy, oracle)
    return _said(scalar_equal(reference, answer, policy, oracle), "values")


def _said(equal: bool | None, what: str) -> Outcome:
    return Outcome(equal, f"{'equal' if equal else 'different' if equal is False else 'undecided'} {what}")


def _words(node: Text) -> str:
    return "".join(node.words.casefold().split()).strip(".()")


def _bases_differ(one: str, two: str) -> bool:
    return one.startswith("base") and two.startswith("base") and one != two


def _in_base_ten(node: Node) -> int | None:
    """The value of a numeral with its base, such as ``52_8``; None where a digit does not fit."""
    if not isinstance(node, Quantity) or not isinstance(node.value, Num):
        return None
    base = int(node.unit.removeprefix("base "))
    try:
        return int(str(node.value.value), base) if 2 <= base <= 36 else None
    except ValueError:
        return None


def _relations(reference: Relation, answer: Relation, policy: Policy, oracle: Oracle) -> Outcome:
    if reference.ops == answer.ops == ("in",) or (modulus(reference) and modulus(answer)):
        head = scalar_equal(reference.sides[0], answer.sides[0], policy, oracle)
        return _said(head, "variables") if not head else _compare(reference.sides[1], answer.sides[1], policy, oracle)
    if (reference.ops == ("in",)) != (answer.ops == ("in",)) and policy.interval_relation != "never":
        one, two = intervals.as_set(reference), intervals.as_set(answer)
        return _compare(one, two, policy, oracle) if one and two else Outcome(False, "different relations")
    if len(reference.sides) == len(answer.sides) == 2 and set(reference.ops + answer.ops) <= {"=", "~"}:
        sides = [*reference.sides, *answer.sides]
        if any(isinstance(side, Seq | Matrix) or _is_set(side) for side in sides):
            pairs = zip(reference.sides, answer.sides, strict=True)
            return _said(_all(_compare(a, b, policy, oracle).equal for a, b in pairs), "relations")
    return _said(relation_equal(reference, answer, policy, oracle), "relations")


def _relation_and_set(reference: Node, answer: Node, policy: Policy, oracle: Oracle) -> Outcome:
    """An inequality against an interval, as far as the policy lets one stand for the other."""
    allowed = policy.interval_relation
    if isinstance(reference, Relation) and allowed != "never":
        made = intervals.as_set(reference)
        return _compare(made, answer, policy, oracle) if made else Outcome(False, "a relation and another kind")
    if isinstance(answer, Relation) and allowed == "both":
        made = intervals.as_set(answer)
        return _compare(reference, made, policy, oracle) if made else Outcome(False, "a relation and another kind")
    return Outcome(False, "a relation and another kind")


def _unordered(node: Seq, policy: Policy) -> bool:
    return node.opening == "{" or (node.opening == "" and node.closing == "" and not policy.list_order)


def _sequences(reference: Seq, answer: Seq, policy: Policy, oracle: Oracle) -> Outcome:
    pair = reference.items, answer.items
    if reference.closing == ":" or answer.closing == ":":
        return _said(reference.closing == answer.closing and _ratios(*pair, policy, oracle), "ratios")
    if _unordered(reference, policy) and _unordered(answer, policy):
        return _said(_same_set(*pair, policy, oracle), "sets")
    reference, answer = intervals.opened(reference), intervals.opened(answer)
    same = (reference.opening, reference.closing) == (answer.opening, answer.closing)
    if not same and not _interchangeable(reference, answer, policy):
        return Outcome(False, "different brackets")
    if not same and _unordered(reference, policy):
        return _said(_same_set(*pair, policy, oracle), "sets")
    return _said(_in_order(*pair, policy, oracle), "sequences")


def _interchangeable(reference: Seq, answer: Seq, policy: Policy) -> bool:
    """(1,2) may stand for 1,2; [1,2] is an interval, and (1,2] only equals itself."""
    if not policy.tuple_as_list:
        return False
    for node in (reference, answer):
        if intervals.is_interval(node) and (node.opening, node.closing) != ("(", ")"):
            return False
    return True


def _ratios(one: Sequence[Node], two: Sequence[Node], policy: Policy, oracle: Oracle) -> bool | None:
    """a:b:c equals k·a:k·b:k·c."""
    if len(one) != len(two):
        return False
    return _all(
        scalar_equal(Mul((a, two[0])), Mul((b, one[0])), policy, oracle) for a, b in zip(one[1:], two[1:], strict=True)
    )


def _in_order(one: Sequence[Node], two: Sequence[Node], policy: Policy, oracle: Oracle) -> bool | None:
    if len(one) != len(two):
        return False
    return _all(_compare(a, b, policy, oracle).equal for a, b in zip(one, two, strict=True))


def _same_set(one: Sequence[Node], two: Sequence[Node], policy: Policy, oracle: Oracle) -> bool | None:
    """Every member has an equal on the other side; a member written twice counts once."""
    if not one or not two:
        return not one and not two
    table = [[_compare(a, b, policy, oracle).equal for b in two] for a in one]
    return _all([_any(row) for row in table] + [_any(column) for column in zip(*table, strict=True)])


def _all(found: Iterable[bool | None]) -> bool | None:
    open_ = False
    for each in found:
        if each is False:
            return False
        open_ |= each is None
    return None if open_ else True


def _any(found: Iterable[bool | None]) -> bool | None:
    open_ = False
    for each in found:
        if each:
            return True
        open_ |= each is None
    return None if open_ else False


def _is_set(node: Node) -> bool:
    return isinstance(node, Call) and node.name in _SETS


def _unions(reference: Node, answer: Node, policy: Policy, oracle: Oracle) -> Outcome:
    ours, theirs = intervals.spans(reference), intervals.spans(answer)
    if ours is not None and theirs is not None:
        return _said(ours == theirs, "unions")
    if isinstance(reference, Call) and isinstance(answer, Call) and reference.name == answer.name:
        if reference.name == "union":
            one, two = intervals.parts(reference), intervals.parts(answer)
            return _said(_same_set(one, two, policy, oracle), "unions")
        return _said(_in_order(reference.args, answer.args, policy, oracle), "sets")
    return Outcome(False, "a union and another kind")


def _sequence_and_other(reference: Node, answer: Node, policy: Policy, oracle: Oracle) -> Outcome:
    """{5} stands for 5; a column stands for a tuple where the policy says so."""
    for node, other in ((reference, answer), (answer, reference)):
        if isinstance(node, Seq) and isinstance(other, Matrix) and policy.vector_as_tuple:
            flat = [entry for row in other.rows for entry in row]
            if 1 in {len(other.rows), len(other.rows[0])}:
                return _said(_in_order(node.items, flat, policy, oracle), "vectors")
    if isinstance(reference, Seq) and len(reference.items) == 1:
        return _compare(reference.items[0], answer, policy, oracle)
    if isinstance(answer, Seq) and (
        len(answer.items) == 1 or (not isinstance(reference, Seq) and answer.items and answer.opening in {"", "{"})
    ):
        return _said(_all(_compare(reference, item, policy, oracle).equal for item in answer.items), "values")
    return Outcome(False, "a collection and a single value")


def _matrices(reference: Node, answer: Node, policy: Policy, oracle: Oracle) -> Outcome:
    if not (isinstance(reference, Matrix) and isinstance(answer, Matrix)):
        return Outcome(False, "a matrix and another kind")
    if len(reference.rows) != len(answer.rows):
        return Outcome(False, "matrices of different shapes")
    found = [_in_order(a, b, policy, oracle) for a, b in zip(reference.rows, answer.rows, strict=True)]
    return _said(_all(found), "matrices")
