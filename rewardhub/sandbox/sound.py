"""Makes the assertions of a suffix ask Python's own types, not objects that the program made up.

``assert f(2) == 5`` holds only where the stored data of both sides are equal, and so does what leaves or
raises under an ``if``: what compares is put into the code of the suffix as a constant, not a name. Loaded
by the guard inside, as a module that the program cannot find.
"""

from __future__ import annotations

# The functions below keep these builtins, whatever the program does to the shared ones.
__builtins__ = dict(vars(__import__("builtins")))  # type: ignore[assignment]

from types import CodeType

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ast
    from collections.abc import Iterator
    from typing import Any

    Made = dict[str, Any]

COMPARE, MARK, ANY_EXCEPTION = "\0compare", "\0mark", "\0exception"
_COMPARISONS = ("Eq", "NotEq", "Lt", "LtE", "Gt", "GtE", "In", "NotIn")
_ARITHMETIC = ("Add", "Sub", "Mult", "Div", "FloorDiv", "Mod", "Pow")
_UNITTEST = {
    "assertEqual": "Eq", "assertNotEqual": "NotEq", "assertIn": "In", "assertNotIn": "NotIn", "assertLess": "Lt",
    "assertLessEqual": "LtE", "assertGreater": "Gt", "assertGreaterEqual": "GtE", "assertListEqual": "Eq",
    "assertDictEqual": "Eq", "assertTupleEqual": "Eq", "assertSetEqual": "Eq", "assertMultiLineEqual": "Eq",
}  # fmt: skip
_WORDS = ("assert", "raise", "exit", "quit", "fail")
_CLOSE = ("assertAlmostEqual", "assertAlmostEquals", "assertNotAlmostEqual")


def compile_suffix(source: str, name: str, flags: int, made: Made) -> CodeType:
    """The suffix with its assertions made sound; raises what ``compile`` raises.

    ``made`` are the functions that stand in its code for ``COMPARE`` and, called with its name at the end
    of every test function, for ``MARK``.
    """
    if not any(word in source for word in _WORDS) and MARK not in made:
        plain: CodeType = compile(source, name, "exec", flags, dont_inherit=True)
        return plain
    import ast

    tree = _rewritten(ast.parse(source, name))
    if MARK in made:
        _mark_tests(tree)
    return _embed(compile(ast.fix_missing_locations(tree), name, "exec", flags, dont_inherit=True), made)


def _mark_tests(tree: ast.Module) -> None:
    import ast

    for name, node in _tests(tree):
        mark = ast.Call(_constant(MARK), [ast.Constant(name)], [])
        node.body.append(ast.copy_location(ast.Expr(mark), node.body[-1]))


def _tests(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef]]:
    """The test functions of pytest and of unittest, with their names."""
    import ast

    for node in tree.body:
        suite = isinstance(node, ast.ClassDef) and (node.name.startswith("Test") or _is_case(node))
        inner = node.body if suite and isinstance(node, ast.ClassDef) else [node]
        owner = f"{node.name}." if isinstance(node, ast.ClassDef) else ""
        for each in inner:
            if isinstance(each, ast.FunctionDef) and each.name.startswith("test"):
                yield owner + each.name, each


def _is_case(node: ast.ClassDef) -> bool:
    import ast

    return any(ast.unparse(base).endswith("TestCase") for base in node.bases)


def owed_tests(source: str) -> set[str]:
    """The methods of unittest's test cases, which are all to come to their ends, without those that may be skipped."""
    if "TestCase" not in source:
        return set()
    import ast

    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):  # the rest of a function, say
        return set()
    cases = {node.name for node in tree.body if isinstance(node, ast.ClassDef) and _is_case(node)}
    excused = ("skip", "expectedFailure")
    return {
        name
        for name, node in _tests(tree)
        if name.partition(".")[0] in cases and not any(word in ast.unparse(node) for word in excused)
    }


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

        def visit_If(self, node: ast.If) -> ast.AST:
            self.generic_visit(node)
            if _fails(node.body[0]):
                node.test = _sound_test(node.test)
            return node

        def visit_Expr(self, node: ast.Expr) -> ast.AST:
            return _as_assert(node) or node

        def visit_With(self, node: ast.With) -> ast.AST:
            self.generic_visit(node)
            return _as_try(node) or node

    Rewrite().visit(tree)
    return tree


def _fails(node: ast.stmt) -> bool:
    """Whether a statement gives up: it raises, or calls something named after leaving or failing."""
    import ast

    called = ast.unparse(node.value.func) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) else ""
    return isinstance(node, ast.Raise) or called.rpartition(".")[2] in ("exit", "_exit", "quit", "fail")


def _sound_test(test: ast.expr) -> ast.expr:
    """The condition of an assertion with its comparisons replaced."""
    import ast

    if isinstance(test, ast.BoolOp):
        test.values = [_sound_test(each) for each in test.values]
    elif isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        test.operand = _sound_test(test.operand)
    elif isinstance(test, ast.Compare) and all(type(each).__name__ in _COMPARISONS for each in test.ops):
        operations = " ".join(type(each).__name__ for each in test.ops)
        return _call(operations, test, *map(_sound_operand, (test.left, *test.comparators)))
    elif isinstance(test, ast.Call) and isinstance(test.func, ast.Name) and test.func.id in ("all", "any"):
        for each in test.args:
            if isinstance(each, ast.GeneratorExp | ast.ListComp):
                each.elt = _sound_test(each.elt)
    return test


def _sound_operand(node: ast.expr) -> ast.expr:
    """One side of a comparison with its arithmetic replaced."""
    import ast

    if isinstance(node, ast.BinOp) and type(node.op).__name__ in _ARITHMETIC:
        return _call(type(node.op).__name__, node, _sound_operand(node.left), _sound_operand(node.right))
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("abs", "round", "max", "min")
    ):
        node.args = [_sound_operand(each) for each in node.args]
    elif isinstance(node, ast.UnaryOp):
        node.operand = _sound_operand(node.operand)
    return node


def _call(operations: str, at: ast.AST, *sides: ast.expr) -> ast.Call:
    import ast

    return ast.copy_location(ast.Call(_constant(COMPARE), [ast.Constant(operations), *sides], []), at)


def _as_assert(node: ast.Expr) -> ast.Assert | None:
    """``self.assertEqual(a, b)`` of ``unittest`` as an assertion; None for any other statement."""
    import ast

    call = node.value
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)):
        return None
    if not (isinstance(call.func.value, ast.Name) and call.func.value.id == "self"):
        return None
    name, given = call.func.attr, call.args
    named = {each.arg: each.value for each in call.keywords if each.arg != "msg"}
    if name in _CLOSE and len(given) >= 2 and named.keys() <= {"places", "delta"}:
        test: ast.expr = _call(
            "Close",
            node,
            *given[:2],
            *(given[2:3] or [named.get("places", ast.Constant(None))]),
            named.get("delta", ast.Constant(None)),
        )
        return _asserted(test, node, negated=name == "assertNotAlmostEqual")
    if named:
        return None
    if name in ("assertTrue", "assertFalse") and given:
        return _asserted(_sound_test(given[0]), node, negated=name == "assertFalse")
    if _UNITTEST.get(name) and len(given) >= 2:
        return _asserted(_call(_UNITTEST[name], node, *map(_sound_operand, given[:2])), node)
    return None


def _asserted(test: ast.expr, at: ast.stmt, *, negated: bool = False) -> ast.Assert:
    import ast

    return ast.fix_missing_locations(
        ast.copy_location(ast.Assert(ast.UnaryOp(ast.Not(), test) if negated else test, None), at)
    )


def _as_try(node: ast.With) -> ast.Try | None:
    """``with pytest.raises(E):`` or ``self.assertRaises(E)`` without patchable helpers; None for any other."""
    import ast

    call = node.items[0].context_expr
    known = isinstance(call, ast.Call) and ast.unparse(call.func) in ("pytest.raises", "self.assertRaises")
    if not known or len(node.items) > 1 or node.items[0].optional_vars:
        return None
    if not isinstance(call, ast.Call) or len(call.args) != 1 or call.keywords:
        return None
    raised = ast.Assert(_call("Raises", call, ast.Name("_raised", ast.Load()), call.args[0]), None)
    handler = ast.ExceptHandler(_constant(ANY_EXCEPTION), "_raised", [raised])
    missed = ast.Assert(ast.Constant(value=False), None)
    tried = ast.Try(node.body, [handler], [missed], [])
    return ast.fix_missing_locations(ast.copy_location(tried, node))
