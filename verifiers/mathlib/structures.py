"""Brackets, functions, commands and matrices of the grammar."""

from rewardhub.verifiers.mathlib import intervals
from rewardhub.verifiers.mathlib.cursor import Rules
from rewardhub.verifiers.mathlib.limits import MAX_ITEMS, TooLarge, Unparseable
from rewardhub.verifiers.mathlib.series import SERIES, series
from rewardhub.verifiers.mathlib.tokens import Token
from rewardhub.verifiers.mathlib.tree import Call, Const, Div, Matrix, Mul, Neg, Node, Num, Pow, Relation, Seq, Sym

_CLOSERS = {"(": (")", "]"), "[": ("]", ")"), "\\{": ("\\}",), "{": ("}",), "⌊": ("⌋",), "⌈": ("⌉",), "|": ("|",)}
_ROUNDED = {"⌊": "floor", "⌈": "ceil", "|": "abs"}
_MATRICES = frozenset({"matrix", "pmatrix", "bmatrix", "Bmatrix", "vmatrix", "smallmatrix", "array"})
_ACCENTS_TEXT = """
    overline=overline bar=overline vec=vec overrightarrow=vec hat=hat widehat=hat tilde=tilde angle=angle
    measuredangle=angle triangle=triangle
"""
_ACCENTS = dict(pair.split("=") for pair in _ACCENTS_TEXT.split())
SPLITS = frozenset({("command", "choose"), ("command", "over")})
_SUCH_THAT = frozenset({("op", ":"), ("op", "|")})
_IN_REALS = [("op", "in"), ("symbol", "mathbbR")]
_END = ("close", "end")
_UNKNOWN_FUNCTIONS = frozenset("fghFGHP")


def group(parser: Rules) -> Node:
    """``{…}``: invisible braces around one expression."""
    parser.expect("open", "{")
    return _inside(parser, "{")


def bracket(parser: Rules, opening: str) -> Node:
    """What an opening bracket, already taken, encloses."""
    if opening == "{":
        return _inside(parser, "{")
    if opening in _ROUNDED:
        return Call(_ROUNDED[opening], (_inside(parser, opening),))
    parser.deeper()
    condition = _builder(parser) if opening == "\\{" else None
    if condition is not None:
        parser.depth -= 1
        return condition
    items: list[Node] = []
    if parser.peek()[:2] not in {("close", closer) for closer in _CLOSERS[opening]}:
        items = parser.items()
    closing = parser.take()
    if closing.kind != "close" or closing.text not in _CLOSERS[opening]:
        raise Unparseable(f"{opening!r} is not closed")
    parser.depth -= 1
    if len(items) == 1 and opening == "(" and closing.text == ")":
        return items[0]
    return Seq(opening.strip("\\"), tuple(items), closing.text.strip("\\"))


def _inside(parser: Rules, opening: str) -> Node:
    parser.deeper()
    items = parser.items()
    if opening == "{":
        items = split(parser, items)
    closing = parser.take()
    if closing.kind != "close" or closing.text not in _CLOSERS[opening]:
        raise Unparseable(f"{opening!r} is not closed")
    parser.depth -= 1
    return items[0] if len(items) == 1 else Seq("", tuple(items), "")


def split(parser: Rules, items: list[Node]) -> list[Node]:
    r"""``{n \choose k}`` and ``{a \over b}``: a command between the halves of a group."""
    if len(items) != 1 or parser.peek()[:2] not in SPLITS:
        return items
    name = parser.take().text
    below = parser.sum()
    return [Call("binom", (items[0], below)) if name == "choose" else Div(items[0], below)]


def _builder(parser: Rules) -> Node | None:
    r"""``\{x : x < 3\}``, ``\{x \in R \mid x \neq 0\}``: the condition, the opening brace already taken."""
    ahead = [token[:2] for token in parser.tokens[parser.at : parser.at + 4]]
    if ahead[:1] and ahead[0][0] == "symbol" and ahead[1:2] and ahead[1] in _SUCH_THAT:
        parser.at += 2
    elif ahead[:1] and ahead[0][0] == "symbol" and ahead[1:3] == _IN_REALS and ahead[3:4] and ahead[3] in _SUCH_THAT:
        parser.at += 4
    else:
        return None
    items = parser.items()
    parser.expect("close", "\\}")
    condition = items[0] if len(items) == 1 else Seq("", tuple(items), "")
    inside = intervals.as_set(condition) if isinstance(condition, Relation) else None
    return Relation(("in",), (Sym(ahead[0][1]), inside)) if inside else condition


def bars(parser: Rules) -> Node:
    """``|x|``, the first bar already taken."""
    parser.deeper()
    value = parser.sum()
    parser.expect("op", "|")
    parser.depth -= 1
    return Call("abs", (value,))


def symbol(parser: Rules, name: str) -> Node:
    """A variable with its subscript, or an unknown function applied, as in ``f(x)``."""
    if parser.sees("_"):
        parser.take()
        name += "_" + _subscript(parser)
    if name == "mathbbR":
        return Seq("(", (Neg(Const("oo")), Const("oo")), ")")
    if name in _UNKNOWN_FUNCTIONS and parser.peek()[:2] == ("open", "("):
        parser.take()
        argument = bracket(parser, "(")
        items = argument.items if isinstance(argument, Seq) else (argument,)
        return Call("?" + name, items)
    return Sym(name)


def _subscript(parser: Rules) -> str:
    """The subscript as written; its text is part of the name."""
    if parser.peek()[:2] != ("open", "{"):
        token = parser.take()
        if token.kind not in {"number", "symbol", "const", "text"}:
            raise Unparseable("a subscript")
        return token.text
    parser.take()
    parts: list[str] = []
    while parser.peek()[:2] != ("close", "}"):
        token = parser.take()
        if token.kind not in {"number", "symbol", "const", "text", "op", "unit"}:
            raise Unparseable("a subscript")
        parts.append(token.text)
    parser.take()
    return "".join(parts)


def function(parser: Rules, name: str) -> Node:
    r"""A known function: ``\sin x``, ``\sin^2 x``, ``\log_2 8``, ``\max(a,b)``, ``sqrt(2)``."""
    if name == "sqrt":
        return _root(parser)
    base: Node | None = None
    exponent: Node | None = None
    for _ in range(2):
        if name == "log" and base is None and parser.sees("_"):
            parser.take()
            base = parser.script()
        elif exponent is None and parser.sees("^"):
            parser.take()
            exponent = parser.script()
    if exponent == Neg(Num(1)) and "arc" + name in _INVERSES:
        name, exponent = "arc" + name, None
    args = _arguments(parser)
    if name == "exp":
        value: Node = Pow(Const("e"), args[0])
    else:
        value = Call(name, args if base is None else (*args, base))
    return value if exponent is None else Pow(value, exponent)


_INVERSES = frozenset({"arcsin", "arccos", "arctan", "arccot"})


def _arguments(parser: Rules) -> tuple[Node, ...]:
    if parser.peek().kind == "open":
        inner = bracket(parser, parser.take().text)
        inner = parser.units(inner)
        if isinstance(inner, Seq) and inner.opening in {"", "("}:
            if not inner.items:
                raise Unparseable("a function of nothing")
            return inner.items
        return (inner,)
    parser.deeper()
    factors = [parser.signed()]
    while parser.peek().kind in {"number", "symbol", "const", "command"}:
        factors.append(parser.power())
    if parser.sees("/") and isinstance(factors[-1], Const | Num):
        parser.take()
        factors[-1] = Div(factors[-1], parser.power())
    parser.depth -= 1
    return (factors[0] if len(factors) == 1 else Mul(tuple(factors)),)


def command(parser: Rules, name: str) -> Node:
    r"""``\frac``, ``\sqrt``, ``\binom``, ``\begin{…matrix}`` and accents."""
    if name == "frac":
        top, bottom = argument(parser), argument(parser)
        return Div(top, bottom)
    if name == "sqrt":
        return _root(parser)
    if name in {"binom", "dbinom", "tbinom"}:
        return Call("binom", (argument(parser), argument(parser)))
    if name == "begin":
        return _matrix(parser)
    if name in SERIES:
        return series(parser, name, argument)
    if name in _ACCENTS:
        return Sym(f"{_ACCENTS[name]}_{_letters(parser)}")
    raise Unparseable(f"\\{name} here")


def _letters(parser: Rules) -> str:
    r"""The points of ``\overline{AB}`` or ``\angle ABC``, braces or not."""
    braced = parser.peek()[:2] == ("open", "{")
    if braced:
        parser.take()
    letters = ""
    while parser.peek().kind in {"symbol", "text"} or (braced and parser.peek().kind == "const"):
        letters += parser.take().text
    if not letters:
        raise Unparseable("no points")
    if braced:
        parser.expect("close", "}")
    return letters


def argument(parser: Rules) -> Node:
    r"""A LaTeX argument: a group, or a single sign (``\frac43`` is 4/3)."""
    token = parser.peek()
    if token[:2] == ("open", "{"):
        return group(parser)
    if token.kind == "number":
        digit, rest = token.text[0], token.text[1:]
        if rest:
            parser.tokens[parser.at] = Token("number", rest)
        else:
            parser.take()
        if not digit.isdigit():
            raise Unparseable("an argument")
        return Num(int(digit))
    if token.kind in {"symbol", "const", "command"}:
        parser.deeper()
        value = parser.primary()
        parser.depth -= 1
        return value
    if token.kind == "open":
        return bracket(parser, parser.take().text)
    raise Unparseable("a missing argument")


def _root(parser: Rules) -> Node:
    index: Node | None = None
    if parser.peek()[:2] == ("open", "["):
        parser.take()
        index = bracket(parser, "[")
        if not isinstance(index, Seq) or len(index.items) != 1:
            raise Unparseable("the index of a root")
        index = index.items[0]
    radicand = argument(parser)
    return Pow(radicand, Div(Num(1), index or Num(2)))


def _matrix(parser: Rules) -> Node:
    name = _environment(parser)
    if name not in _MATRICES:
        raise Unparseable(f"environment {name!r}")
    if name == "array" and parser.peek()[:2] == ("open", "{"):
        _environment(parser)
    parser.deeper()
    rows: list[tuple[Node, ...]] = []
    row = [parser.relation()]
    while True:
        token = parser.take()
        if token[:2] == ("op", "&"):
            row.append(parser.relation())
        elif token[:2] in {("op", "\\\\"), _END}:
            rows.append(tuple(row))
            if token[:2] == _END or parser.peek()[:2] == _END:
                break
            row = [parser.relation()]
        else:
            raise Unparseable(f"{token.text!r} in a matrix")
        if len(rows) > MAX_ITEMS or len(row) > MAX_ITEMS:
            raise TooLarge(f"a matrix of more than {MAX_ITEMS} rows or columns")
    if token[:2] != _END:
        parser.take()
    if _environment(parser) != name or len({len(each) for each in rows}) != 1:
        raise Unparseable("a ragged matrix")
    parser.depth -= 1
    return Call("det", (Matrix(tuple(rows)),)) if name == "vmatrix" else Matrix(tuple(rows))


def _environment(parser: Rules) -> str:
    parser.expect("open", "{")
    parts: list[str] = []
    while parser.peek()[:2] != ("close", "}") and parser.peek().kind != "end":
        parts.append(parser.take().text)
    parser.expect("close", "}")
    return "".join(parts)
