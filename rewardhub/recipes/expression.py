"""The expression language of recipes: Python's syntax read by ``ast.parse``, run as array functions.

An expression is compiled once to closures over NumPy arrays with one entry per response; NaN means
"no value" and is never turned into a number: a comparison with it is unknown, ``and``/``or`` follow
Kleene's three-valued logic, and only :func:`if_skipped` gives a value to a *skipped* term.
"""

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rewardhub.errors import ConfigError, nearest
from rewardhub.recipes import functions
from rewardhub.recipes.functions import Array, Scope

MAX_CHARS = 2_000
MAX_DEPTH = 40
MAX_COMPARED = 100
"""Characters of comparisons: Python reads a chain of them in the square of its length."""
Value = Array | float | str
Node = Callable[[Scope], Any]

_BINARY: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: np.true_divide,
    ast.Mod: np.mod,
}
_COMPARE: dict[type, Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {**functions.PLAIN, **functions.GROUP, **functions.READS}


@dataclass(frozen=True)
class Expression:
    """A compiled expression; ``names`` are the terms and lets that it reads, ``needs`` those without which no row has
    a value.
    """

    text: str
    run: Node
    names: frozenset[str] = frozenset()
    needs: frozenset[str] = frozenset()
    uses_group: bool = False

    def __call__(self, scope: Scope) -> NDArray[np.float64]:
        """One float per response; NaN where there is no value."""
        with np.errstate(all="ignore"):
            result = np.asarray(self.run(scope), dtype=np.float64)
        return result if result.shape == (scope.size,) else np.broadcast_to(result, (scope.size,))


def compile_expression(text: str, known: Mapping[str, Any], where: str) -> Expression:
    """Compiles ``text`` against the ``known`` names; raises ``ConfigError`` naming ``where``."""
    if len(text) > MAX_CHARS:
        raise ConfigError(f"{where}: over {MAX_CHARS} characters", field=where)
    if sum(map(text.count, "<>=")) > MAX_COMPARED:
        raise ConfigError(f"{where}: over {MAX_COMPARED} of < > =", field=where)
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ConfigError(f"{where}: not an expression: {_reason(error)}", field=where) from None
    compiler = _Compiler(known, where)
    run = compiler.visit(tree.body, 0)
    return Expression(text, run, frozenset(compiler.names), frozenset(compiler.needs), compiler.uses_group)


def _reason(error: Exception) -> str:
    at = f" at character {error.offset}" if isinstance(error, SyntaxError) and error.offset else ""
    return f"{error.msg if isinstance(error, SyntaxError) else error}{at}"


@dataclass
class _Compiler:
    known: Mapping[str, Any]
    where: str
    names: set[str] = field(default_factory=set)
    needs: set[str] = field(default_factory=set)
    uses_group: bool = False

    def visit(self, node: ast.AST, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise self.error(f"nested deeper than {MAX_DEPTH}")
        method = getattr(self, f"visit_{type(node).__name__}", None)
        if method is None:
            raise self.error(f"{type(node).__name__} is not part of the language")
        run: Node = method(node, depth + 1)
        return run

    def _spare(self, node: ast.expr, depth: int) -> Node:
        """A part without whose value the whole may have one."""
        needs = set(self.needs)
        run = self.visit(node, depth)
        self.needs = needs
        return run

    def error(self, message: str) -> ConfigError:
        return ConfigError(f"{self.where}: {message}", field=self.where)

    def visit_Constant(self, node: ast.Constant, depth: int) -> Node:
        value = node.value
        if isinstance(value, str):
            raise self.error(f"the text {value!r} can only be compared")
        if not isinstance(value, int | float) or abs(value) > 1e300:
            raise self.error(f"{str(value)[:40]} is not a number up to 1e300")
        number = float(value)
        return lambda _: number

    def visit_Name(self, node: ast.Name, depth: int) -> Node:
        name = node.id
        if name in functions.TEXTS:
            raise self.error(f"{name} is a text and can only be compared")
        if name in functions.FIELDS:
            self.uses_group |= name in functions.GROUP_FIELDS
            return functions.FIELDS[name]
        if name not in self.known:
            raise self.error(f"unknown name {name!r}{nearest(name, [*self.known, *functions.NAMES])}")
        self.names.add(name)
        self.needs.add(name)
        return lambda scope: scope.values[name]

    def visit_BinOp(self, node: ast.BinOp, depth: int) -> Node:
        operate = _BINARY.get(type(node.op))
        if operate is None:
            raise self.error(f"{type(node.op).__name__} is not part of the language")
        left, right = self.visit(node.left, depth), self.visit(node.right, depth)
        if isinstance(node.op, ast.Div | ast.Mod) and not (isinstance(node.right, ast.Constant) and node.right.value):
            return lambda scope: functions.divided(scope, operate, left(scope), right(scope))
        return lambda scope: operate(left(scope), right(scope))

    def visit_UnaryOp(self, node: ast.UnaryOp, depth: int) -> Node:
        operand = self.visit(node.operand, depth)
        if isinstance(node.op, ast.USub):
            return lambda scope: -operand(scope)
        if isinstance(node.op, ast.UAdd):
            return operand
        if isinstance(node.op, ast.Not):
            return lambda scope: functions.negate(operand(scope))
        raise self.error(f"{type(node.op).__name__} is not part of the language")

    def visit_Compare(self, node: ast.Compare, depth: int) -> Node:
        operands = [self._compared(each, depth) for each in (node.left, *node.comparators)]
        kinds = [_COMPARE.get(type(each)) for each in node.ops]
        if None in kinds:
            raise self.error("only == != < <= > >= compare")
        pairs = list(zip(kinds, operands, operands[1:], strict=False))

        def run(scope: Scope) -> Any:
            links = [functions.compare(kind, left(scope), right(scope)) for kind, left, right in pairs if kind]
            return reduce(functions.both, links)

        return run

    def _compared(self, node: ast.expr, depth: int) -> Node:
        """An operand of a comparison: the one place for a text, and for a field that may hold one."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
            return lambda _: text
        if isinstance(node, ast.Name) and node.id in functions.TEXTS:
            return functions.TEXTS[node.id]
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "field":
            return self._read("field", node, text=True)
        return self._spare(node, depth)

    def visit_BoolOp(self, node: ast.BoolOp, depth: int) -> Node:
        operands = [self._spare(each, depth) for each in node.values]
        combine = functions.both if isinstance(node.op, ast.And) else functions.either
        return lambda scope: reduce(combine, [operand(scope) for operand in operands])

    def visit_IfExp(self, node: ast.IfExp, depth: int) -> Node:
        test, yes, no = self.visit(node.test, depth), self._spare(node.body, depth), self._spare(node.orelse, depth)
        return lambda scope: functions.where(test(scope), yes(scope), no(scope))

    def visit_Call(self, node: ast.Call, depth: int) -> Node:
        if not isinstance(node.func, ast.Name):
            raise self.error("only named functions can be called")
        name = node.func.id
        if name not in _FUNCTIONS:
            raise self.error(f"unknown function {name!r}{nearest(name, _FUNCTIONS)}")
        if name in functions.READS:
            return self._read(name, node)
        strict = name in functions.STRICT
        arguments = [self.visit(each, depth) if strict else self._spare(each, depth) for each in node.args]
        keywords = {each.arg or "**": self._spare(each.value, depth) for each in node.keywords}
        if len(keywords) < len(node.keywords):
            raise self.error(f"{name} has a keyword twice")
        self._check_arity(name, len(arguments), set(keywords))
        if name in functions.GROUP:
            self.uses_group = True
            operate = functions.GROUP[name]
            return lambda scope: operate(
                scope, *(run(scope) for run in arguments), **{key: run(scope) for key, run in keywords.items()}
            )
        function = functions.PLAIN[name]
        return lambda scope: function(*(run(scope) for run in arguments))

    def _check_arity(self, name: str, count: int, keywords: set[str]) -> None:
        expected, allowed = functions.arity(_FUNCTIONS[name], in_group=name in functions.GROUP)
        if count != expected or not keywords <= allowed:
            plural = "" if expected == 1 else "s"
            named = f", and by name {', '.join(sorted(allowed))}" if allowed else ""
            raise self.error(f"{name} takes {expected} argument{plural}{named}")

    def _read(self, name: str, node: ast.Call, *, text: bool = False) -> Node:
        """``signal("x")``, ``has("x")``, ``field("x")`` or ``field("x", easy=1)``, ``input("x", default)``."""
        if name in functions.OF_TERM:
            return self._read_term(name, node)
        first = node.args[0] if node.args else None
        most = 2 if name == "input" else 1
        if not isinstance(first, ast.Constant) or not isinstance(first.value, str) or len(node.args) > most:
            raise self.error(f"{name} takes one text" + (" and a default" if most == 2 else ""))
        if len(node.args) == 2:
            otherwise, option = self._spare(node.args[1], 0), first.value
            return lambda scope: float(scope.call.inputs[option]) if option in scope.call.inputs else otherwise(scope)
        key, read, numbers = first.value, functions.READS[name], self._numbers(name, node)
        if text and not numbers:
            return lambda scope: functions.text_or_number(scope, key)
        return lambda scope: read(scope, key, **numbers)

    def _read_term(self, name: str, node: ast.Call) -> Node:
        """``if_skipped(term, default)``, ``steps_min(term)``, ``detail(term, "faults", default)`` and their like."""
        wanted = functions.OF_TERM[name]
        first = node.args[0] if node.args else None
        known = isinstance(first, ast.Name) and first.id in self.known
        if not isinstance(first, ast.Name) or not known or len(node.args) != wanted.count(",") + 1 or node.keywords:
            raise self.error(f"{name} takes {wanted}")
        self.names.add(first.id)
        term, read = first.id, functions.READS[name]
        if len(node.args) == 1:
            return lambda scope: read(scope, term)
        default = self._spare(node.args[-1], 0)
        if name == "if_skipped":
            self.needs.add(first.id)
            return lambda scope: np.where(scope.skipped_rows(term), default(scope), scope.values[term])
        key = node.args[1]
        if not isinstance(key, ast.Constant) or not isinstance(key.value, str):
            raise self.error(f"{name} takes {wanted}")
        text = key.value
        return lambda scope: read(scope, term, text, default(scope))

    def _numbers(self, name: str, node: ast.Call) -> dict[str, float]:
        """The numbers that ``field`` maps texts to."""
        numbers = {each.arg: each.value.value for each in node.keywords if isinstance(each.value, ast.Constant)}
        stated = {key: float(value) for key, value in numbers.items() if key and isinstance(value, int | float)}
        if len(stated) != len(node.keywords) or (stated and name != "field"):
            raise self.error(f"{name} takes one text" + (" and numbers by name" if name == "field" else ""))
        return stated
