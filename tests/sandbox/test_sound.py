"""Assertions of a suffix compare stored data: honest values of any library type as Python does, made-up ones not."""

import pytest

from rewardhub.sandbox.runner import Program, run
from rewardhub.sandbox.verdicts import Limits, Verdict

LIMITS = Limits(time_s=5.0)

HOLDS = {
    "tuples in lists": ("x = [(1, 2.0)]", "assert x == [(1, 2)]"),
    "truth and one": ("x = True", "assert x == 1 and not x == 2"),
    "an ordered dictionary": ("from collections import OrderedDict as O\nx = O(a=1)", "assert x == {'a': 1}"),
    "a counter": ("from collections import Counter as C\nx = C('aab')", "assert x == {'a': 2, 'b': 1}"),
    "a default dictionary": ("from collections import defaultdict as D\nx = D(list, a=[1])", "assert x == {'a': [1]}"),
    "a deque": ("from collections import deque as D\nx = D([1, 2])", "assert list(x) == [1, 2] and x == type(x)([1, 2])"),
    "a named tuple": ("from collections import namedtuple as N\nx = N('P', 'a b')(1, 2)", "assert x == (1, 2)"),
    "a decimal": ("from decimal import Decimal\nx = Decimal('0.5')", "assert x == 0.5 and x < 1"),
    "a fraction": ("from fractions import Fraction\nx = Fraction(1, 2)", "assert x == 0.5"),
    "a date": ("from datetime import date\nx = date(2020, 1, 2)", "import datetime\nassert x == datetime.date(2020, 1, 2)"),
    "an enumeration of integers": ("from enum import IntEnum\nx = IntEnum('E', 'A B').B", "assert x == 2"),
    "keys of a dictionary": ("x = {'a': 1}.keys()", "assert x == {'a'}"),
    "a range": ("x = range(3)", "assert x == range(0, 3)"),
    "a subclass without comparisons": ("class L(list): pass\nx = L([1])", "assert x == [1]"),
    "no value": ("x = None", "assert x == None and x is None"),
    "membership": ("x = 3", "assert x in (1, 3) and x not in [4]"),
    "membership in its own class": ("class B:\n    def __contains__(self, n): return n == 3\nx = B()", "assert 3 in x and 4 not in x"),
    "its own equality": ("class P:\n    def __init__(s, a): s.a = a\n    def __eq__(s, o): return s.a == o.a", "assert P(1) == P(1) and P(1) != P(2)"),
    "a data class": ("from dataclasses import dataclass\n@dataclass(order=True)\nclass P:\n    a: int", "assert P(1) == P(1) and P(1) < P(2)"),
    "differs from a plain value": ("class P:\n    def __eq__(s, o): return False\nx = P()", "assert x != 3"),
    "not a number": ("x = float('nan')", "assert x != x"),
    "all of a generator": ("x = [1, 2]", "assert all(a == b for a, b in zip(x, [1, 2]))"),
    "unittest": ("x = [3]", "import unittest\nclass T(unittest.TestCase):\n    def runTest(self):\n        self.assertEqual(x, [3])\n        self.assertTrue(x == [3])\nT().runTest()"),
}  # fmt: skip

ANY = "class A:\n    __eq__ = __lt__ = __gt__ = __le__ = __ge__ = lambda *a: True\n    __hash__ = lambda s: hash(3)\n"
FAILS = {
    "an object": (ANY + "x = A()", "assert x == 3"),
    "on the right": (ANY + "x = A()", "assert 3 == x"),
    "less": (ANY + "x = A()", "assert x < 3"),
    "in a list": (ANY + "x = [A()]", "assert x == [3]"),
    "in a tuple in a dictionary": (ANY + "x = {'a': (A(),)}", "assert x == {'a': (3,)}"),
    "as a key": (ANY + "x = {A(): 1}", "assert x == {3: 1}"),
    "in a set": (ANY + "x = {A()}", "assert x == {3}"),
    "in a deque": (ANY + "from collections import deque\nx = deque([A()])", "import collections\nassert x == collections.deque([3])"),
    "as a member": (ANY + "x = A()", "assert x in [3]"),
    "in a comparison of a generator": (ANY + "x = [A()]", "assert all(a == b for a, b in zip(x, [3]))"),
    "negated": ("class A:\n    __eq__ = lambda *a: False\nx = A()", "assert not x == 3 and x == 3"),
    "a list of its own class": ("class A(list):\n    __eq__ = lambda *a: True\nx = A()", "assert x == [3]"),
    "a text of its own class": ("class A(str):\n    __eq__ = str.startswith\nx = A('')", "assert x == ''[:0] + 'a'"),
    "in unittest": (ANY + "x = A()", "import unittest\nclass T(unittest.TestCase):\n    def runTest(self): self.assertEqual(x, 3)\nT().runTest()"),
    "unittest patched": ("import unittest\nx = 0\nunittest.TestCase.assertEqual = lambda *a: None", "import unittest\nclass T(unittest.TestCase):\n    def runTest(self): self.assertEqual(x, 3)\nT().runTest()"),
    "a library class patched": ("from fractions import Fraction as F\nF.__eq__ = lambda *a: True\nx = F(1)", "assert x == 3"),
    "a wrapper under another name": ("class A(int):\n    __eq__ = int.__ge__\nx = A(9)", "assert x == 3"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOLDS)
def test_honest_comparison_holds(name: str) -> None:
    """As Python compares it."""
    text, suffix = HOLDS[name]
    result = run(Program(text + "\n", f"\n{suffix}\n"), "", LIMITS)
    assert result.verdict is Verdict.OK, result


@pytest.mark.parametrize("name", FAILS)
def test_made_up_comparison_fails(name: str) -> None:
    """T58: always-equal objects, wherever they hide."""
    text, suffix = FAILS[name]
    result = run(Program(text + "\n", f"\n{suffix}\n"), "", LIMITS)
    assert result.verdict is Verdict.RUNTIME_ERROR, result
    assert b"AssertionError" in result.stderr
