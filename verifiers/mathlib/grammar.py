"""The parser: from tokens to the typed tree, by precedence climbing over an allow-list.

From loose to tight: list, relation, union, sum, ratio, product (written or implied), sign, power, postfix.
"""

import re
from fractions import Fraction
from functools import lru_cache

from rewardhub.verifiers.mathlib import modular, structures
from rewardhub.verifiers.mathlib.cursor import END, Cursor
from rewardhub.verifiers.mathlib.limits import MAX_DIGITS, MAX_ITEMS, MAX_TREE, TooLarge, Unparseable
from rewardhub.verifiers.mathlib.tokens import Token, tokenise
from rewardhub.verifiers.mathlib.tree import (
    Add,
    Call,
    Const,
    Div,
    Mul,
    Neg,
    Node,
    Num,
    Percent,
    PlusMinus,
    Pow,
    Quantity,
    Relation,
    Seq,
    Text,
    depth,
)

_RELATIONS = frozenset({"=", "<", ">", "<=", ">=", "!=", "in", "~", "→"})
_SETS = {"∪": "union", "∩": "intersection", "∖": "difference"}
_UNIT_LETTERS = frozenset({*"mgsLhVNJWCA", "Omega"})
_UNIT_TAIL = re.compile(r"(\^(2|3|\{[23]\}))?(/[A-Za-z]{1,6}(\^(2|3|\{[23]\}))?)?")
_STARTS = frozenset({"open", "number", "symbol", "const", "func", "command", "text"})
_CURRENCY = frozenset("$€£¥₹")


_LONGEST_QUANTITY = 12


@lru_cache(maxsize=512)
def parse(text: str, *, decimal_comma: bool = False) -> Node:
    """The tree of a cleaned text; raises ``Unparseable`` or ``TooLarge``."""
    tokens = tokenise(text, decimal_comma=decimal_comma)
    if not tokens:
        raise Unparseable("nothing to parse")
    tree = Parser(tokens).whole()
    if depth(tree) > MAX_TREE:
        raise TooLarge(f"more than {MAX_TREE} nested operations")
    return tree


class Parser(Cursor):
    """One parse by precedence climbing; brackets, functions and matrices are in ``structures``."""

    def whole(self) -> Node:
        if self.sees("~", "="):
            self.take()
        self._lone_unit()
        items = structures.split(self, self.items())
        if self.peek() != END:
            raise Unparseable(f"unexpected {self.peek().text!r}")
        return items[0] if len(items) == 1 else Seq("", tuple(items), "")

    def _lone_unit(self) -> None:
        """``5 m`` and ``5 m/s^2`` as a whole answer are quantities; anywhere else m is a variable."""
        if 2 <= len(self.tokens) <= _LONGEST_QUANTITY and self.tokens[0].kind == "number":
            unit = self.tokens[1]
            tail = "".join(token.text for token in self.tokens[2:])
            if unit.kind == "symbol" and unit.spaced and unit.text in _UNIT_LETTERS and _UNIT_TAIL.fullmatch(tail):
                self.tokens[1] = Token("unit", unit.text, spaced=True)

    def items(self) -> list[Node]:
        """Relations separated by commas, semicolons, and, or."""
        found = [self.relation()]
        while self.sees(","):
            while self.sees(","):
                self.take()
            found.append(self.relation())
            if len(found) > MAX_ITEMS:
                raise TooLarge(f"more than {MAX_ITEMS} items")
        return found

    def relation(self) -> Node:
        sides, ops = [self.union()], []
        while self.peek().kind == "op" and self.peek().text in _RELATIONS:
            ops.append(self.take().text)
            sides.append(self.union())
        if self.peek().kind == "mod":
            self.take()
            sides[-1] = modular.moduli(self, sides[-1])
        return Relation(tuple(ops), tuple(sides)) if ops else sides[0]

    def union(self) -> Node:
        left = self.sum()
        while self.sees(*_SETS):
            left = Call(_SETS[self.take().text], (left, self.sum()))
        return left

    def sum(self) -> Node:
        terms: list[Node] = [Num(0) if self.sees("±", "∓") else self.ratio()]
        while self.sees("+", "-", "±", "∓"):
            sign = self.take().text
            term = self.ratio()
            if sign in "±∓":
                left = terms[0] if len(terms) == 1 else Add(tuple(terms))
                terms = [PlusMinus(left, term if sign == "±" else Neg(term))]
            else:
                terms.append(term if sign == "+" else Neg(term))
        return terms[0] if len(terms) == 1 else Add(tuple(terms))

    def ratio(self) -> Node:
        parts = [self.product()]
        while self.sees(":"):
            self.take()
            parts.append(self.product())
        if len(parts) == 2:
            last = parts[1]
            if isinstance(last, Mul) and isinstance(last.factors[-1], Text) and len(last.factors) == 2:
                return Mul((Div(parts[0], last.factors[0]), last.factors[-1]))
            return Div(parts[0], last)
        return Seq("", tuple(parts), ":") if len(parts) > 2 else parts[0]

    def product(self) -> Node:
        left = self.signed()
        while True:
            if self.sees("*"):
                self.take()
                left = _times(left, self.signed())
            elif self.sees("/"):
                self.take()
                left = Div(left, self.signed())
            elif self.starts_factor():
                left = self.implied(left)
            else:
                return left

    def implied(self, left: Node) -> Node:
        """Juxtaposition: a mixed number (``1\\frac{4}{5}``, ``7 3/4``) or a product."""
        before, here = self.tokens[self.at - 1], self.peek()
        right = self.power()
        if isinstance(right, Quantity) and _is_fraction(right.value):
            return Quantity(self._joined(left, right.value, before, here), right.unit)
        return self._joined(left, right, before, here)

    def _joined(self, left: Node, right: Node, before: Token, here: Token) -> Node:
        if _whole(left.value if isinstance(left, Neg) else left):
            if _is_fraction(right):
                return _mixed(left, right)
            if here.spaced and _whole(right) and self.sees("/"):
                self.take()
                return _mixed(left, Div(right, self.power()))
        if before.kind == here.kind == "number":
            raise Unparseable("two numbers side by side")
        return _times(left, right)

    def starts_factor(self) -> bool:
        return self.peek().kind in _STARTS and self.peek()[:2] not in structures.SPLITS

    def signed(self) -> Node:
        sign = 1
        while self.sees("+", "-"):
            sign = -sign if self.take().text == "-" else sign
        value = self.power()
        return value if sign == 1 else Neg(value)

    def power(self) -> Node:
        if self.peek().kind == "unit" and self.peek().text in _CURRENCY:
            unit = self.take().text
            if self.peek().kind == "unit":
                raise Unparseable("two currencies")
            return Quantity(self.signed(), unit)
        base = self.postfix(self.primary())
        while self.sees("^"):
            self.take()
            if self._degree():
                base = Quantity(base, "°")
                continue
            base = self.postfix(Pow(base, self.script()))
        return self.units(base)

    def _degree(self) -> bool:
        """``^\\circ``, ``^{\\circ}``: the sign is taken."""
        ahead = [token[:2] for token in self.tokens[self.at : self.at + 3]]
        if ahead[:2] == [("open", "{"), ("unit", "°")] and ahead[2:] == [("close", "}")]:
            self.at += 3
            return True
        if ahead[:1] == [("unit", "°")]:
            self.at += 1
            return True
        return False

    def script(self) -> Node:
        """What follows ``^`` or ``_``: a group, or one signed factor."""
        if self.peek()[:2] == ("open", "{"):
            return structures.group(self)
        self.deeper()
        if self.sees("-", "+"):
            sign, value = self.take().text, self.script()
            self.depth -= 1
            return Neg(value) if sign == "-" else value
        base = self.primary()
        if self.sees("^"):
            self.take()
            base = Pow(base, self.script())
        self.depth -= 1
        return base

    def postfix(self, value: Node) -> Node:
        while self.sees("!", "%", "'"):
            sign = self.take().text
            if sign == "'":
                raise Unparseable("a prime")
            value = Call("factorial", (value,)) if sign == "!" else Percent(value)
        return value

    def units(self, value: Node) -> Node:
        words: list[str] = []
        while self.peek().kind == "unit" or (words and self._unit_power()):
            words.append(self.take().text)
        return Quantity(value, " ".join(words)) if words else value

    def _unit_power(self) -> bool:
        """``cm^2`` and ``km/h``: signs that belong to the unit before them."""
        ahead = self.tokens[self.at : self.at + 4]
        if not ahead:
            return False
        if ahead[0][:2] == ("op", "^") and len(ahead) > 1:
            texts = [token.text for token in ahead[1:4]]
            drop = 2 if texts[:1] in (["2"], ["3"]) else 4 if texts in (["{", "2", "}"], ["{", "3", "}"]) else 0
            if drop:
                self.tokens[self.at : self.at + drop] = [Token("unit", "^" + texts[drop // 2 - 1])]
            return drop > 0
        slash = ahead[0][:2] == ("op", "/") and len(ahead) > 1 and ahead[1].kind in {"unit", "symbol"}
        if slash:
            self.tokens[self.at : self.at + 2] = [Token("unit", "/" + ahead[1].text)]
        return slash

    def primary(self) -> Node:
        token = self.take()
        match token.kind:
            case "number":
                return self.subscripted_number(_number(token.text))
            case "const":
                return Const(token.text) if token.text != "∅" else Seq("{", (), "}")
            case "symbol":
                return structures.symbol(self, token.text)
            case "func":
                return structures.function(self, token.text)
            case "text":
                return Text(token.text)
            case "command":
                return structures.command(self, token.text)
            case "open":
                return structures.bracket(self, token.text)
        if token[:2] == ("op", "|"):
            return structures.bars(self)
        raise Unparseable(f"unexpected {token.text or 'end'!r}")

    def subscripted_number(self, value: Num) -> Node:
        """``52_8``: a numeral with its base, kept like a unit."""
        if not self.sees("_"):
            return value
        self.take()
        base = self.script()
        if not isinstance(base, Num) or not _whole(base) or not 2 <= base.value <= 36:
            raise Unparseable("a subscript on a number")
        return Quantity(value, f"base {base.value}")


def _is_fraction(node: Node) -> bool:
    return isinstance(node, Div) and _whole(node.top) and _whole(node.bottom)


def _mixed(whole: Node, part: Node) -> Node:
    return Neg(Add((whole.value, part))) if isinstance(whole, Neg) else Add((whole, part))


def _times(left: Node, right: Node) -> Node:
    if isinstance(left, Mul):
        return Mul((*left.factors, right))
    return Mul((left, right))


def _whole(node: Node) -> bool:
    return isinstance(node, Num) and isinstance(node.value, int) and not node.decimal


def _number(text: str) -> Num:
    mantissa, _, exponent = text.lower().partition("e")
    if len(mantissa) > MAX_DIGITS or abs(int(exponent or "0")) > MAX_DIGITS:
        raise TooLarge(f"a number of more than {MAX_DIGITS} digits")
    whole, dot, places = mantissa.partition(".")
    value: int | Fraction = int(whole or "0") if not places else Fraction(int(whole + places), 10 ** len(places))
    if exponent:
        value *= Fraction(10) ** int(exponent)
    return Num(value.numerator if value.denominator == 1 else value, decimal=bool(dot))
