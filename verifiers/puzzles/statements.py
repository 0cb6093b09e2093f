"""Knights and knaves: statements as nested lists, and the brute-force search for their solutions."""

from collections.abc import Sequence
from itertools import product
from typing import Any

MOST = 10
"""Inhabitants of an island."""
_DEEPEST, _WIDEST = 8, 16

KNIGHT, KNAVE = "telling-truth", "lying"


class BadStatementError(ValueError):
    """A statement is none."""


def solutions(statements: Sequence[Any]) -> list[tuple[bool, ...]]:
    """Every assignment (True: knight) in which exactly the knights' statements are true.

    A statement is ``["telling-truth", i]``, ``["lying", i]``, ``["not", s]``, ``["and", s, …]``, ``["or", s, …]``,
    ``["->", s, t]`` or ``["<=>", s, t]``, with i from 0: the form of Xie et al. 2024 (Memorization in LLM
    reasoning). Raises ``BadStatementError``. 2ⁿ evaluations, n at most 10.
    """
    count = len(statements)
    if not 2 <= count <= MOST:
        raise BadStatementError(f"expected 2 to {MOST} statements")
    for statement in statements:
        _check(statement, count, 0)
    return [
        island
        for island in product((True, False), repeat=count)
        if all(_holds(statement, island) == honest for statement, honest in zip(statements, island, strict=True))
    ]


def _check(statement: Any, count: int, depth: int) -> None:
    good = isinstance(statement, list | tuple) and 2 <= len(statement) <= _WIDEST and isinstance(statement[0], str)
    if not good or depth > _DEEPEST:
        raise BadStatementError("a statement is a list of an operator and its operands")
    operator, *operands = statement
    if operator in (KNIGHT, KNAVE):
        index = operands[0]
        if len(operands) != 1 or not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < count:
            raise BadStatementError(f"{operator} needs the number of an inhabitant")
        return
    if operator not in _ARITY or len(operands) not in _ARITY[operator]:
        raise BadStatementError(f"no operator {operator[:20]!r} with {len(operands)} operands")
    for operand in operands:
        _check(operand, count, depth + 1)


_ARITY = {
    "not": range(1, 2), "and": range(1, _WIDEST), "or": range(1, _WIDEST), "->": range(2, 3), "<=>": range(2, 3),
}  # fmt: skip


def _holds(statement: Any, island: tuple[bool, ...]) -> bool:
    operator, *operands = statement
    if operator in (KNIGHT, KNAVE):
        return bool(island[operands[0]] == (operator == KNIGHT))
    values = [_holds(operand, island) for operand in operands]
    if operator == "and":
        return all(values)
    if operator == "or":
        return any(values)
    if operator == "not":
        return not values[0]
    return values[0] == values[1] if operator == "<=>" else values[1] or not values[0]
