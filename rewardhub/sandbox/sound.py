"""Makes the assertions of a suffix ask Python's own types, not objects that the program made up.

``assert f(2) == 5`` holds only where the stored data of both sides are equal: an object that equals
everything does not pass, whatever its class redefines. Loaded by the guard inside, as a module that the
program cannot find; what it puts into the code of the suffix is a constant there, not a name.
"""

from __future__ import annotations

# The functions below keep these builtins, whatever the program does to the shared ones.
__builtins__ = dict(vars(__import__("builtins")))  # type: ignore[assignment]

import operator
from _collections import deque  # type: ignore[import-not-found]  # collections costs milliseconds
from types import CodeType, FunctionType, WrapperDescriptorType

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ast
    from collections.abc import Callable
    from typing import Any

    Made = dict[str, Any]

COMPARE, MARK, ANY_EXCEPTION = "\0compare", "\0mark", "\0exception"
_OPERATIONS: dict[str, Callable[[Any, Any], bool]] = {
    "Eq": operator.eq, "NotEq": operator.ne, "Lt": operator.lt, "LtE": operator.le, "Gt": operator.gt,
    "GtE": operator.ge,
    "In": lambda left, right: left in right, "NotIn": lambda left, right: left not in right,
}  # fmt: skip
_ASKED = ("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__")
_UNITTEST = {
    "assertEqual": "Eq", "assertNotEqual": "NotEq", "assertIn": "In", "assertNotIn": "NotIn", "assertLess": "Lt",
    "assertLessEqual": "LtE", "assertGreater": "Gt", "assertGreaterEqual": "GtE", "assertListEqual": "Eq",
    "assertDictEqual": "Eq", "assertTupleEqual": "Eq", "assertSetEqual": "Eq", "assertCountEqual": "",
}  # fmt: skip
_DEEPEST = 100
_CONTAINERS: tuple[Any, ...] = (list, tuple, set, frozenset, deque)
_VIEWS: tuple[type, ...] = (type({}.keys()), type({}.items()))
_SCALARS = (bool, int, float, complex, str, bytes, bytearray)


class _Unsound(Exception):
    """A value answers comparisons by the program's own code."""


def compile_suffix(source: str, name: str, flags: int, made: Made) -> CodeType:
    """The suffix with its assertions made sound; raises what ``compile`` raises.

    ``made`` are the functions that stand in its code for ``COMPARE`` and, called with its name at the end
    of every test function, for ``MARK``.
    """
    if "assert" not in source and MARK not in made:
        plain: CodeType = compile(source, name, "exec", flags, dont_inherit=True)
        return plain
    import ast

    tree = _rewritten(ast.parse(source, name))
    if MARK in made:
        _mark_tests(tree)
    return _embed(compile(ast.fix_missing_locations(tree), name, "exec", flags, dont_inherit=True), made)


def _mark_tests(tree: ast.Module) -> None:
    import ast

    for node in tree.body:
        inner = node.body if isinstance(node, ast.ClassDef) and node.name.startswith("Test") else [node]
        owner = f"{node.name}." if isinstance(node, ast.ClassDef) else ""
        for each in inner:
            if isinstance(each, ast.FunctionDef) and each.name.startswith("test"):
                mark = ast.Call(_constant(MARK), [ast.Constant(owner + each.name)], [])
                each.body.append(ast.copy_location(ast.Expr(mark), each.body[-1]))


def _constant(placeholder: str) -> ast.expr:
    import ast

    # Inside ``or``, because the compiler warns of a constant that is called.
    return ast.BoolOp(ast.Or(), [ast.Constant(placeholder), ast.Constant(0)])


def _embed(code: CodeType, made: Made) -> CodeType:
    made = made | {ANY_EXCEPTION: BaseException}
    constants = tuple(
        _embed(each, made) if type(each) is CodeType else made.get(each, each) if type(each) is str else each
        for each in code.co_consts
    )
    return code.replace(co_consts=constants)


def _rewritten(tree: ast.Module) -> ast.Module:
    import ast

    class Rewrite(ast.NodeTransformer):
        def visit_Assert(self, node: ast.Assert) -> ast.AST:
            node.test = _sound_test(node.test)
            return node

        def visit_Expr(self, node: ast.Expr) -> ast.AST:
            return _as_assert(node) or node

        def visit_With(self, node: ast.With) -> ast.AST:
            self.generic_visit(node)
            return _as_try(node) or node

    Rewrite().visit(tree)
    return tree


def _sound_test(test: ast.expr) -> ast.expr:
    """The condition of an assertion with its comparisons replaced."""
    import ast

    if isinstance(test, ast.BoolOp):
        test.values = [_sound_test(each) for each in test.values]
    elif isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        test.operand = _sound_test(test.operand)
    elif isinstance(test, ast.Compare) and len(test.ops) == 1 and type(test.ops[0]).__name__ in _OPERATIONS:
        return _call(type(test.ops[0]).__name__, test.left, test.comparators[0], test)
    elif isinstance(test, ast.Call) and isinstance(test.func, ast.Name) and test.func.id in ("all", "any"):
        for each in test.args:
            if isinstance(each, ast.GeneratorExp | ast.ListComp):
                each.elt = _sound_test(each.elt)
    return test


def _call(operation: str, left: ast.expr, right: ast.expr, at: ast.AST) -> ast.Call:
    import ast

    return ast.copy_location(ast.Call(_constant(COMPARE), [ast.Constant(operation), left, right], []), at)


def _as_assert(node: ast.Expr) -> ast.Assert | None:
    """``self.assertEqual(a, b)`` of ``unittest`` as an assertion; None for any other statement."""
    import ast

    call = node.value
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and not call.keywords):
        return None
    if not (isinstance(call.func.value, ast.Name) and call.func.value.id == "self"):
        return None
    name, given = call.func.attr, call.args
    if name in ("assertTrue", "assertFalse") and given:
        test = _sound_test(given[0])
        return ast.copy_location(ast.Assert(test if name == "assertTrue" else ast.UnaryOp(ast.Not(), test), None), node)
    if _UNITTEST.get(name) and len(given) >= 2:
        return ast.copy_location(ast.Assert(_call(_UNITTEST[name], given[0], given[1], node), None), node)
    return None


def _as_try(node: ast.With) -> ast.Try | None:
    """``with pytest.raises(E):`` or ``self.assertRaises(E)`` without patchable helpers; None for any other."""
    import ast

    call = node.items[0].context_expr
    known = isinstance(call, ast.Call) and ast.unparse(call.func) in ("pytest.raises", "self.assertRaises")
    if not known or len(node.items) > 1 or node.items[0].optional_vars:
        return None
    if not isinstance(call, ast.Call) or len(call.args) != 1 or call.keywords:
        return None
    raised = ast.Assert(_call("Raises", ast.Name("_raised", ast.Load()), call.args[0], call), None)
    handler = ast.ExceptHandler(_constant(ANY_EXCEPTION), "_raised", [raised])
    missed = ast.Assert(ast.Constant(value=False), None)
    tried = ast.Try(node.body, [handler], [missed], [])
    return ast.fix_missing_locations(ast.copy_location(tried, node))


def make_compare(library: tuple[str, ...]) -> Callable[[str, Any, Any], bool]:
    """``compare(operation, left, right)`` on sound values.

    Two objects of the program's own classes are compared as they wish, and so is membership in one; one
    of them is never equal, less or greater than a value of Python's or the library's types.
    """

    def compare(operation: str, left: Any, right: Any) -> bool:
        if operation == "Raises":
            kinds = type.__dict__["__mro__"].__get__(type(left))
            return any(each is kind for each in kinds for kind in (right if type(right) is tuple else (right,)))
        sides, unsound = [left, right], [False, False]
        for index in (0, 1):
            try:
                sides[index] = _sound(sides[index], library, 0)
            except _Unsound:
                unsound[index] = True
        mixed = unsound[0] != unsound[1]
        if mixed and not (operation in ("In", "NotIn") and unsound[1]):
            return operation in ("NotEq", "NotIn")
        return _OPERATIONS[operation](*sides)

    return compare


def _sound(value: Any, library: tuple[str, ...], depth: int) -> Any:
    """The value, or one of Python's own types with the same stored data; raises ``_Unsound``."""
    kind = type(value)
    if value is None or kind in _SCALARS:
        return value
    if depth > _DEEPEST:
        raise _Unsound
    for base in _CONTAINERS:
        if issubclass(kind, base):
            return _rebuilt(value, base, [*base.__iter__(value)], library, depth)
    if issubclass(kind, dict):
        keys, values = [*dict.keys(value)], [*dict.values(value)]
        inner = [_sound(each, library, depth + 1) for each in (*keys, *values)]
        same = _honest(kind, library) and _unchanged(inner, (*keys, *values))
        return value if same else dict(zip(inner[: len(keys)], inner[len(keys) :], strict=True))
    if kind in _VIEWS:
        return {_sound(each, library, depth + 1) for each in value}
    return value if _honest(kind, library) else _stored(value, kind)


def _rebuilt(value: Any, base: Any, parts: list[Any], library: tuple[str, ...], depth: int) -> Any:
    inner = [_sound(each, library, depth + 1) for each in parts]
    return value if _honest(type(value), library) and _unchanged(inner, parts) else base(inner)


def _unchanged(inner: list[Any], before: Any) -> bool:
    return all(one is other for one, other in zip(inner, before, strict=True))


def _stored(value: Any, kind: type) -> Any:
    """The number or text that an object of a subclass of Python's stores."""
    if issubclass(kind, int):
        return int.__index__(value)
    if issubclass(kind, float):
        return float.__pos__(value)
    if issubclass(kind, str):
        return str.__str__(value)
    if issubclass(kind, bytes):
        return bytes.__add__(value, b"")
    raise _Unsound


def _honest(kind: type, library: tuple[str, ...]) -> bool:
    """Whether the class answers comparisons by code of Python or of the library."""
    own = [type.__dict__["__dict__"].__get__(base) for base in type.__dict__["__mro__"].__get__(kind)]
    for name in _ASKED:
        found = next((space[name] for space in own if name in space), None)
        if type(found) is WrapperDescriptorType and found.__name__ == name:
            continue
        if type(found) is FunctionType and found.__code__.co_filename.startswith(library):
            continue
        return False
    return True
