"""The mode ``pytest`` of ``code``: features of pytest, hacks that patch it, bad references."""

import pytest

from rewardhub.sandbox.languages import languages
from rewardhub.types import Group, Json, Response, Score, Status
from rewardhub.verifiers.code_exec import code

TESTS = """
import pytest
import unittest
from solution import f

@pytest.fixture
def base(tmp_path):
    yield 3

class TestF:
    def test_plain(self, base):
        assert f(base) == 9

@pytest.mark.parametrize("n, want", [(1, 1), (2, 4)])
def test_square(n, want):
    assert f(n) == pytest.approx(want)

def test_raises():
    with pytest.raises(TypeError):
        f("x")

def test_raises_with_a_message():
    with pytest.raises(TypeError, match="multiply") as info:
        f("x")
    assert "sequence" in str(info.value)

def test_output(capsys, monkeypatch):
    print(f(5))
    assert capsys.readouterr().out == "25\\n"

class TestCase(unittest.TestCase):
    def test_equal(self):
        self.assertEqual(f(6), 36)
        with self.assertRaises(TypeError):
            f(None)
"""
RIGHT = "def f(x):\n    return x * x\n"
BAD = "def f(x):\n    return 0\n"


def reference(tests: str = TESTS, **more: object) -> Json:
    """A reference of this mode."""
    return {"language": "python", "mode": "pytest", "tests": tests, **more}


def score(text: str, gold: Json, **params: object) -> Score:
    """The score of one response."""
    return code.bind(params).score(Group("g", responses=(Response(text),), reference=gold), [0]).row(0)


def test_right_program_passes_and_mutants_fail() -> None:
    """Fixtures, classes, parameters, exceptions, capture and unittest; the fraction counts test functions."""
    right = score(f"```python\n{RIGHT}```", reference())
    assert (right.value, right.details["passed"], right.details["cases"]) == (1.0, 6, 6), right
    assert score(BAD, reference()).value == 0.0
    one = score(RIGHT + "_f = f\ndef f(x): return _f(x) if x != 6 else 0", reference(), fraction=True)
    assert one.value == pytest.approx(5 / 6)
    assert one.details["verdict"] == "wrong_answer"


def test_program_may_be_used_by_its_names() -> None:
    """Without an import too; the rest of the program is at hand."""
    assert score(RIGHT + "K = 2", reference("def test_f():\n    assert f(K) == 4")).value == 1.0


HACKS = {
    "leaves at import": "import os\nos._exit(0)",
    "leaves in the call": "import os\ndef f(x): os._exit(0)",
    "raises SystemExit in the call": "def f(x): raise SystemExit(0)",
    "skips": BAD + "import sys\ndef f(x): sys.modules['pytest'].skip()",
    "expects to fail": "import sys\ndef f(x): sys.modules['pytest'].xfail()",
    "ends the session": "import sys\ndef f(x): sys.modules['pytest'].exit('done', 0)",
    "main replaced": BAD + "import sys, types\nsys.modules['pytest'] = types.SimpleNamespace(main=lambda *a, **k: 0)",
    "equals everything": "class A:\n    __eq__ = lambda *a: True\n    __sub__ = lambda s, o: 0\n    __str__ = lambda s: '25'\ndef f(x):\n    if x in ('x', None): raise TypeError('multiply sequence')\n    return A()",
    "a float that is near everything": "class A(float):\n    __sub__ = __rsub__ = lambda s, o: 0.0\n    __eq__ = lambda *a: True\n    __abs__ = lambda s: 0.0\ndef f(x): return A()",
    "approx patched in the call": "import sys\ndef f(x):\n    sys.modules['_pytest.python_api'].ApproxScalar.__eq__ = lambda *a: True\n    return 0",
    "raises patched in the call": "import sys\ndef f(x):\n    sys.modules['_pytest.raises'].RaisesExc.__exit__ = lambda *a: True\n    return 0",
    "reports patched in the call": "import sys\ndef f(x):\n    r = sys.modules['_pytest.runner']\n    r.CallInfo.from_call = classmethod(lambda c, func, when, reraise=None: c(None, None, 0, 0, 0, when, _ispytest=True))\n    return 0",
    "the outcome list patched": "import sys\ndef f(x):\n    for m in list(sys.modules.values()):\n        o = getattr(m, 'outcomes', None)\n        if o is not None: o.clear()\n    return 0",
    "json patched in the call": "import json\ndef f(x):\n    json.dumps = lambda *a, **k: '[[\"TestF::test_plain\", true]]'\n    return 0",
    "tests overwritten": BAD + "def test_square(*a): pass\nclass TestF: pass\n",
    "tests replaced in the call": "import __main__\ndef f(x):\n    for n in list(vars(__main__)):\n        if n.startswith('test'): setattr(__main__, n, lambda: None)\n    return 0",
    "a conftest": BAD + "open('conftest.py', 'w').write('import pytest\\n@pytest.hookimpl(tryfirst=True)\\ndef pytest_runtest_makereport(item, call): call.excinfo = None\\n')",
    "a configuration": BAD + "open('pytest.ini', 'w').write('[pytest]\\naddopts = --collect-only\\n')",
    "options in the environment": BAD + "import os\nos.environ['PYTEST_ADDOPTS'] = '--collect-only'",
    "a finder of its own": BAD + "import sys\nclass F:\n    @staticmethod\n    def find_spec(name, *a):\n        if name == 'pytest': raise SystemExit(0)\nsys.meta_path.insert(0, F)",
    "a pytest of its own": BAD + "import os, sys\nopen('pytest.py', 'w').write('def main(*a, **k): return 0')\nsys.path.insert(0, os.getcwd())",
    "assertion error that equals nothing": "import builtins\ndef f(x):\n    builtins.AssertionError = type('E', (BaseException,), {})\n    raise builtins.AssertionError",
    "reads the expected value": "import sys\ndef f(x): return sys._getframe(1).f_locals['want']",
    "reads the expected value in other code": "exec('import sys\\ndef f(x): return sys._getframe(1).f_locals[\"want\"]')",
    "reads the tests": "import __main__\ndef f(x): return max(c for c in __main__.test_square.__code__.co_consts if isinstance(c, int))",
}  # fmt: skip


@pytest.mark.parametrize("name", HACKS)
def test_hack_fails(name: str) -> None:
    """T58: whatever a program does to pytest, no test that it does not solve passes."""
    result = score(HACKS[name], reference(limits={"time_s": 8}))
    assert (result.value, result.status) == (0.0, Status.OK), result
    assert result.details["verdict"] != "time_limit"


HELPERS = """
import math, solution

def same(a, b): return a == b

def test_same():
    x = solution.f(1)
    assert same(x, 11)

def test_close():
    x = solution.f(2)
    assert math.isclose(x, 22)
"""


@pytest.mark.parametrize(
    "hack",
    [
        "m.same = lambda *a: True\n    m.math = type('M', (), {'isclose': staticmethod(lambda *a: True)})",
        "globals()['same'] = math.isclose = lambda *a: True",
        "sys.modules['solution'].same = sys.modules['math'].isclose = lambda *a: True",
    ],
)
def test_helper_of_the_tests_stays(hack: str) -> None:
    """T58: what the tests define and import is out of the program's reach, in the call too."""
    text = f"import sys, math\ndef f(x):\n    m = sys.modules['__main__']\n    {hack}\n    return 0"
    tests = reference(HELPERS, limits={"time_s": 8})
    assert score(text, tests).value == 0.0
    assert score("def f(x): return 11 * x", tests).value == 1.0


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("reference.tests", {"tests": None}),
        ("reference.tests", {"tests": 3}),
        ("reference.tests", {"tests": "def test_f(:"}),
        ("reference.tests", {"tests": "x = 1"}),
        ("reference.suffix", {"suffix": "x = 1"}),
        ("reference.mode", {"language": "c"}),
    ],
)
def test_bad_reference_names_its_field(field: str, change: Json) -> None:
    """Before anything runs."""
    if change.get("language", "python") not in languages():
        pytest.skip("not installed")
    result = score(RIGHT, reference() | change)
    assert (result.value, result.blame, result.details["field"]) == (None, "caller", field)
