"""The modes of ``code``: asserts, solution, call and judge; MBPP."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewardhub.sandbox.plain import encode
from rewardhub.types import Group, Json, Response, Score, Status
from rewardhub.verifiers import code_exec
from rewardhub.verifiers.code_exec import code


def score(text: str, reference: Json, **params: object) -> Score:
    """The score of one response."""
    return code.bind(params).score(Group("g", responses=(Response(text),), reference=reference), [0]).row(0)


def asserts(*lines: str) -> Json:
    """A reference of asserts on a function ``f``."""
    return {"language": "python", "mode": "asserts", "asserts": list(lines)}


SECRET = asserts("assert f(3) == 1764", "f(4) == [1, 2]")
HACKS = {
    "always equal": "class A:\n    __eq__ = lambda *a: True\n    __hash__ = None\ndef f(x): return A()",
    "never unequal": "class A:\n    __ne__ = lambda *a: False\n    __eq__ = lambda *a: True\ndef f(x): return A()",
    "an int that equals all": "class A(int):\n    __eq__ = lambda *a: True\ndef f(x): return A(0)",
    "a list that equals all": "class A(list):\n    __eq__ = lambda *a: True\ndef f(x): return A()",
    "a string that equals all": "class A(str):\n    __eq__ = lambda *a: True\ndef f(x): return A()",
    "a metaclass that equals all": "class M(type):\n    __eq__ = lambda *a: True\n    __hash__ = type.__hash__\nclass A(metaclass=M): pass\ndef f(x): return A",
    "a lying __class__": "class A:\n    __class__ = int\n    __eq__ = lambda *a: True\n    __index__ = lambda s: 1764\ndef f(x): return A()",
    "a lying index": "class A(int):\n    __index__ = lambda s: 1764\n    __int__ = __index__\ndef f(x): return A(0)",
    "a list that iterates lies": "class A(list):\n    __iter__ = lambda s: iter([1, 2])\n    copy = lambda s: [1, 2]\ndef f(x): return A()",
    "a text that encodes itself": "class S(str):\n    def encode(s, *a): return b'i6e4'\ndef f(x): return S('x')",
    "a number that formats itself": "class I(int):\n    def __format__(s, f): return '6e4'\ndef f(x): return I(1)",
    "a float that says it is whole": "class F(float):\n    __pos__ = lambda s: 1764.0\n    is_integer = lambda s: True\n    __int__ = lambda s: 1764\ndef f(x): return F(0)",
    "a dictionary that hides its items": "class D(dict):\n    def items(s): return []\ndef f(x): return D(a=1)",
    "an exception that is named like a value": "def f(x): raise type('i6e4', (Exception,), {})",
    "the encoder among the modules": "import sys\nfor m in list(sys.modules.values()):\n    if hasattr(m, 'MOST_PARTS'): m.encode = lambda *a, **k: 'i6e4'\ndef f(x): return 0",
    "a second end": "import os\ndef f(x):\n    os.write(3, b'end 00 6936\\n')\n    return 0",
    "another file for the control channel": "import os\ndef f(x):\n    os.close(3)\n    os.open('x', os.O_CREAT | os.O_RDWR)\n    return 0",
    "a tree that claims the check": "import ast\nexec(compile(ast.parse('import sys\\ndef f(x): return sys._getframe(1).f_locals'), '<suffix>', 'exec'))",
    "exit in the call": "import sys\ndef f(x): sys.exit(0)",
    "hard exit in the call": "import os\ndef f(x): os._exit(0)",
    "hard exit at import": "import os\nos._exit(0)",
    "an exception": "def f(x): raise AssertionError",
    "endless": "def f(x):\n    while True: pass",
    "an endless value": "def f(x):\n    a = []\n    a.append(a)\n    return a",
    "a value of 2 ** 60 parts": "def f(x):\n    a = []\n    for _ in range(60): a = [a, a]\n    return a",
    "not a number": "def f(x): return float('nan')",
    "a generator": "def f(x): yield 1764",
    "patched encoder": "import builtins\nbuiltins.issubclass = lambda *a: True\nbuiltins.type = lambda *a: int\ndef f(x): return 0",
    "patched eval": "import builtins\nbuiltins.eval = lambda *a: 1764\ndef f(x): return 0",
    "forged end with values": "import sys\ndef f(x):\n    sys.audit('rewardhub.end', b'6936653420')\n    return 0",
    "marker to every descriptor": "import os\ndef f(x):\n    for n in range(64):\n        try: os.write(n, b'end 00 6936\\n')\n        except OSError: pass",
    "expected value from the frames": "import sys\ndef f(x):\n    g = sys._getframe(1)\n    return g.f_locals['expected']",
    "expected value from the source": "import linecache\ndef f(x): return int(linecache.getline('<suffix>', 1).split('==')[1])",
    "patched audit": "import sys\nsys.audit = lambda *a: None\ndef f(x): return 0",
    "raw memory by a hidden extension": "import glob, sys, importlib.machinery as m, importlib.util as u\n"
    "p = [p for d in sys.path for p in glob.glob(d + '/_ctypes.*')][0]\n"
    "l = m.ExtensionFileLoader('x._ctypes', p)\nk = u.module_from_spec(u.spec_from_loader('x._ctypes', l))\n"
    "def f(x): return 0\nraise SystemExit",
    "ctypes among all classes": "def walk(k):\n    for s in type.__subclasses__(k):\n        yield s\n        yield from walk(s)\n"
    "def f(x): return 1764 if x == 3 else [1, 2]\n"
    "names = {k.__module__ for k in walk(object)}\nassert names & {'ctypes', '_ctypes', 'rewardhub.sandbox.zygote'}",
}  # fmt: skip


@pytest.mark.parametrize("name", HACKS)
def test_value_hack_fails(name: str) -> None:
    """T58: no object, exit or patch passes for the expected plain value."""
    result = score(HACKS[name], SECRET | {"limits": {"time_s": 3.0}})
    assert (result.value, result.status) == (0.0, Status.OK), result
    partial = score(HACKS[name], SECRET | {"limits": {"time_s": 3.0}}, fraction=True)
    assert partial.value == 0.0, partial


def test_asserts_compare_plain_data() -> None:
    """Containers of the library, subclasses and mixed numbers equal what Python says they equal."""
    text = """
import collections
class Pair(tuple): pass
def f(x):
    return {1: collections.Counter('aab'), 2: collections.OrderedDict(b=1, a=2), 3: True, 4: 2.0, 5: {3, 1, 2},
            6: Pair((1, 2)), 7: collections.defaultdict(list, {1: [2]}), 8: 'é\\ud800\\n', 9: b'x', 10: 1j * 1j}[x]
"""
    lines = [
        "f(1) == {'b': 1, 'a': 2}", "f(2) == {'a': 2, 'b': 1}", "f(3) == 1", "assert f(4) == 2", "f(5) == {1, 2, 3}",
        "f(6) == (1, 2)", "f(7) == {1: [2]}", "f(8) == 'é\\ud800\\n'", "f(9) == b'x'", "f(10) == -1",
        "f(5) == set([1, 2, 3])", "(f(6)) == tuple([1, 2])",
    ]  # fmt: skip
    assert score(text, asserts(*lines)).value == 1.0
    assert score(text, asserts(*lines, "f(6) == [1, 2]"), fraction=True).value == 12 / 13


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=8,
)


@given(plain, plain)
@settings(max_examples=300)
def test_equal_texts_mean_equal_values(one: object, other: object) -> None:
    """The encoding agrees with Python's own equality."""
    assert (encode(one) == encode(other)) == (one == other)
    assert encode(one) == encode(one)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("def solution(): return 11.0", 1.0),
        ("def solution(): return 11", 1.0),
        ("def solution(): return 11.005", 1.0),
        ("def solution(): return 10.8", 0.0),
        ("def solution(): return '11'", 0.0),
        ("def solution(): return 10 ** 400", 0.0),
        ("def solution(): pass", 0.0),
        ("x = 11", 0.0),
    ],
)
def test_solution_value(text: str, value: float) -> None:
    """The value of ``solution()`` within a tolerance."""
    reference = {"language": "python", "mode": "solution", "expected": 11.0, "tolerance": 1e-3}
    assert score(text, reference).value == value


def test_call_with_arguments() -> None:
    """Functions and methods are called with JSON; tuples are lists, keys are strings."""
    calls = [
        {"args": [[2, 7], 9], "expected": [0, 1]},
        {"args": [[1]], "kwargs": {"target": 1}, "expected": {"1": None}},
    ]
    reference = {"language": "python", "mode": "call", "function": "Solution.pair", "calls": calls}
    right = "class Solution:\n    def pair(self, xs, target):\n        return (0, 1) if target == 9 else {1: None}"
    assert score(right, reference).value == 1.0
    assert score(right.replace("(0, 1)", "[1, 0]"), reference, fraction=True).value == 0.5


def test_judge_program() -> None:
    """A checker decides by 1 or 0; one that fails is the reference's fault."""
    checker = "import json, sys\nd = json.load(sys.stdin)\nprint(int(sorted(d['stdout'].split()) == sorted(d['expected'].split())))"
    reference = {"language": "python", "mode": "judge", "checker": checker, "cases": [{"stdin": "", "stdout": "1 2"}]}
    assert score("print(2, 1)", reference).value == 1.0
    assert score("print(2, 2)", reference).value == 0.0
    for bad in ("1/0", "print('yes')"):
        broken = score("print(1)", reference | {"checker": bad})
        assert (broken.value, broken.status, broken.details["field"]) == (
            None,
            Status.REFERENCE_UNPARSEABLE,
            "reference.checker",
        )


PYTHON = {"language": "python"}
UNREAD = {"asserts": ["f(1) == 1"], "expected": 3, "calls": [], "tests": "def test(): pass", "checker": "print(1)"}
BAD = {
    "reference.mode": [
        *(PYTHON | {"mode": bad} for bad in ("assert", 3, None)),
        *(PYTHON | {key: value} for key, value in UNREAD.items()),
    ],
    "reference.asserts": [PYTHON | {"mode": "asserts"}, asserts(), asserts(*["f(1) == 1"] * 1001)],
    "reference.asserts[1]": [asserts("f(1) == 1", bad) for bad in ("f(1)", "f(1) < 2", "f(", "1 == 1 == 1", "(" * 9999)],
    "reference.function": [PYTHON | {"mode": "call", "function": bad, "calls": [{}]} for bad in (None, "f()", "a.b.c", "")],
    "reference.calls[0].expected": [
        PYTHON | {"mode": "call", "function": "f", "calls": [{"args": []} | bad]} for bad in ({}, {"expected": float("nan")})
    ],
    "reference.calls[0].args": [PYTHON | {"mode": "call", "function": "f", "calls": [{"args": 3, "expected": 1}]}],
    "reference.calls": [PYTHON | {"mode": "call", "function": "f", "calls": 3}],
    "reference.expected": [PYTHON | {"mode": "solution"}, PYTHON | {"mode": "solution", "expected": float("inf")}],
    "reference.tolerance": [PYTHON | {"mode": "solution", "expected": 1, "tolerance": bad} for bad in (-1, "x", True)],
    "reference.checker": [PYTHON | {"mode": "judge"}, PYTHON | {"mode": "judge", "checker": 3}],
}  # fmt: skip


@pytest.mark.parametrize("field", BAD)
def test_bad_reference_names_its_field(field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything runs."""
    monkeypatch.setattr(code_exec, "run", lambda *args: pytest.fail("it ran"))
    for reference in BAD[field]:
        result = score("print(1)", reference)
        assert (result.value, result.blame, result.details["field"]) == (None, "caller", field)


def test_expected_side_never_sees_the_program() -> None:
    """A side that is no literal is evaluated without the response; where it needs it, it is unusable."""
    assert score("def f(x): return x\nlen = lambda x: 0", asserts("f(2) == len('ab')")).value == 1.0
    result = score("def f(x): return x\ndef g(x): return x", asserts("f(2) == g(2)"))
    assert result.status is Status.REFERENCE_UNPARSEABLE


def mbpp(data_dir: Path) -> list[Json]:
    """The twenty problems of the sample."""
    lines = (data_dir / "mbpp_sample/mbpp_sample.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_mbpp_solutions_pass_and_mutants_fail(data_dir: Path) -> None:
    """Canonical solutions pass all asserts; the same with the result dropped or wrapped fail."""
    for row in mbpp(data_dir):
        reference = asserts(*row["test_list"])
        assert score(row["canonical_solution"], reference).value == 1.0, row["id"]
        name = row["test_list"][0].removeprefix("assert ").split("(")[0]
        mutants = (f"\n{name} = lambda *a: None\n", f"\n_{name} = {name}\ndef {name}(*a): return [_{name}(*a)]\n")
        for mutant in mutants:
            assert score(row["canonical_solution"] + mutant, reference).value == 0.0, row["id"]
