"""The math verifier on text that wants to harm: injection, towers, floods, nesting, endless braces."""

import os
import socket
import subprocess
import sys
import time

import pytest

from rewardhub.types import Group, Response, Score, Status
from rewardhub.verifiers.math_answer import math
from rewardhub.verifiers.mathlib.extract import extract
from rewardhub.verifiers.mathlib.policy import SOURCES

MEGABYTE = 1_000_000


def fast(text: str, answer: str = "5") -> Score:
    group = Group(id="g", responses=(Response(text),), reference={"answer": answer})
    return math.bind({}).try_fast(group, [0]).row(0)


def box(answer: str) -> str:
    return rf"\boxed{{{answer}}}"


TOWERS = [
    r"9^{9^{9}}", r"9^{9^{9^9}}", r"2^{10^9}", "99999999!", r"\binom{10^9}{5\cdot 10^8}", r"x^{9^{9^9}}", r"\sin(9^{9^9})",
    r"(9^{9^9}, 1)", r"1 < x < 9^{9^9}", "2^" * 900 + "1", "5" + "!" * 500, r"9.5^{9.5^{9.5^{9.5}}}", r"\frac" * 390, r"\sqrt" * 390 + "2", "2^" + "-" * 1900 + "1", "1" + "/2" * 900,
    "(" * 500 + "1" + ")" * 500, r"\frac{1}{" * 500 + "1" + "}" * 500, "7" * 20_000, "{" * 300 + "1" + "}" * 300,
    ",".join(map(str, range(400))), r"\begin{pmatrix}" + "1&" * 900 + r"1\end{pmatrix}", "5" + r"\%" * 900, r"1\pm" * 300 + "1",
]  # fmt: skip


@pytest.mark.parametrize("answer", TOWERS, ids=lambda each: each[:24])
def test_towers_are_over_the_limit(answer):
    """Decided by a look at the tree, in milliseconds, and never a number."""
    start = time.process_time()
    score = fast(box(answer))
    assert time.process_time() - start < 0.2
    assert (score.value, score.status) == (None, Status.OVER_LIMIT)


HEAVY = [
    r"(a+b+c+d+e)^{60}", r"(1+\sqrt2+\sqrt3+\sqrt5+\sqrt7)^{50}", r"\sqrt{2+" * 35 + "1" + "}" * 35, "2*" * 800 + "2",
    r"\sum_{k=1}^{10^7} \frac{1}{k}", r"\int_0^1 e^{x^x} dx", r"(1+\sqrt2)^{1000}", "-" * 1900 + "1",
    ",".join(rf"\sin {i}" for i in range(60)), r"\sqrt{" + "1" * 1000 + "}", r"\gcd(10^{4000},10^{3999})", "1e9999",
    "+".join(["(1+x)^{76}"] * 160), "+".join(["(a+b+c+d+f+g+h)^4"] * 100),
    "+".join(rf"\frac{{1}}{{{n}}}" for n in range(1000, 1140)), "(x+1)" * 200,
]  # fmt: skip


@pytest.mark.parametrize("answer", HEAVY, ids=lambda each: each[:24])
@pytest.mark.parametrize("gold", ["5", r"x^2+\sin x", r"\{\sin 1, \cos 2, \sqrt{2}+1\}"])
def test_heavy_answers_stay_bounded(answer, gold):
    """Whatever the fast tier makes of them, it makes it within a fraction of a second."""
    start = time.process_time()
    score = fast(box(answer), gold)
    assert time.process_time() - start < 1.0
    assert score.status in {Status.OK, Status.OVER_LIMIT, Status.SKIPPED}
    assert score.value in {None, 0.0}


FLOODS = [
    "{", "}", r"\boxed{", "$", "$ ", r"\(", r"\[", "answer ", "answer is ", "answer: ", "#", " ", "<answer>", "\n", "-",
    "<answer>x</answer>", "1 ", "1,", "1/", ".", "a ", "|", r"\text{", "\\", "**", "(", r"\frac", "é", "½", "1.", "%", "_",
]  # fmt: skip


@pytest.mark.parametrize("piece", FLOODS, ids=repr)
def test_extraction_is_linear(piece):
    """A megabyte of any of these costs each extractor a fraction of a second."""
    text = (piece * (MEGABYTE // len(piece) + 1))[:MEGABYTE]
    start = time.process_time()
    extract(text, SOURCES, words=False)
    assert time.process_time() - start < 0.2
    assert fast(text).status in {Status.OK, Status.NO_ANSWER, Status.OVER_LIMIT}
    assert fast(r"\boxed{" + text[:-8]).value in {None, 0.0}


def injections() -> list[str]:
    """More than 200 strings that some grader has executed, or could."""
    commands = [
        "__import__('os').system('touch {canary}')", "exec('import os')", "eval('1+1')", "open('{canary}','w').write('x')",
        "().__class__.__base__.__subclasses__()", "''.__class__.__mro__[1].__subclasses__()", "lambda: __import__('os')",
        "f'{{__import__(\"os\").system(\"touch {canary}\")}}'", "[x for x in ().__class__.__bases__]", "globals()", "locals()",
        "getattr(__builtins__,'ev'+'al')('1')", "breakpoint()", "compile('1','','eval')", "__builtins__", "os.system('id')",
        "import os", "(lambda f: f(f))(lambda f: f(f))", "{{7*7}}", "${{7*7}}", "#{{7*7}}", "`touch {canary}`", "$(touch {canary})",
        r"\write18{{touch {canary}}}", r"\input{{/etc/passwd}}", r"\include{{/etc/passwd}}", r"\openout1={canary}",
        r"\immediate\write18{{id}}", r"\newcommand{{\x}}{{\x\x}}\x", r"\def\x{{\x\x}}\x", r"\catcode`\%=12", r"\csname end\endcsname",
        "[[1,2],[__import__('os').system('touch {canary}'),4]]", r"\pi*__import__('os').getpid()",
        r"\begin{{pmatrix}}__import__('os').system('touch {canary}')\end{{pmatrix}}", "Symbol('x').func('os')",
        "sympify(\"__import__('os')\")", "parse_expr('1')", "x.__reduce__()", "yaml.load('!!python/object')",
        "!!python/object/apply:os.system [touch {canary}]", "cos\nsystem\n(S'touch {canary}'\ntR.", "1;import os", "1 if exit() else 2",
    ]  # fmt: skip
    wraps = ["{}", r"\boxed{{{}}}", "${}$", "<answer>{}</answer>", "#### {}", "The answer is {}."]
    return [wrap.format(command) for command in commands for wrap in wraps]


def test_injections_never_execute(tmp_path, monkeypatch):
    """No file, variable or socket appears, and none of them is right, as response or as reference."""
    canary = tmp_path / "canary"
    opened: list[object] = []
    monkeypatch.setattr(socket, "socket", lambda *args, **kwargs: opened.append(args))
    monkeypatch.setattr(os, "system", lambda command: opened.append(command))
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **kwargs: opened.append(args))
    environment, modules = dict(os.environ), set(sys.modules)
    strings = [each.replace("{canary}", str(canary)) for each in injections()]
    assert len(strings) > 200
    bound = math.bind({})
    for text in strings:
        group = Group(id="g", responses=(Response(text), Response("5")), reference={"answer": "12345"})
        assert bound.score(group, [0, 1]).values[0] in {None, 0.0}
        swapped = Group(id="g", responses=(Response("12345"),), reference={"answer": text})
        assert bound.score(swapped, [0]).values[0] in {None, 0.0}
    assert not canary.exists()
    assert opened == []
    assert dict(os.environ) == environment
    assert not {name for name in set(sys.modules) - modules if name.split(".")[0] not in {"sympy", "mpmath"}} & {
        "pty",
        "antigravity",
    }


def test_an_answer_changes_nothing_for_the_next_one():
    """The verdict on a neighbour is the same before and after hostile answers."""
    before = fast(box("0.5"), r"\frac12")
    for text in injections() + [box(each) for each in TOWERS]:
        fast(text)
    assert fast(box("0.5"), r"\frac12") == before


def test_a_tower_never_beats_a_wrong_answer():
    """Over the limit has no value; its recipe value is at most that of a wrong answer."""
    group = Group(id="g", responses=(Response(box("9^{9^{9}}")), Response(box("4"))), reference={"answer": "5"})
    column = math.bind({}).score(group, [0, 1])
    assert column.values == [None, 0.0]
    assert column.statuses == [Status.OVER_LIMIT, Status.OK]


_NESTED = "".join(rf"\sum_{{{letter}=1}}^{{64}}" for letter in "abcdfghjkl")
_MATRIX = r"\begin{pmatrix}1&2\\3&4\end{pmatrix}"
_GROWING = [
    _NESTED + "x", _MATRIX * 40, "+".join([_MATRIX] * 40), r"\sum_{k=1}^{64}" + "(" + "+".join(["k!"] * 200) + ")",
    r"\prod_{k=1}^{64} 9^{k^k}", r"\sum_{k=1}^{10^9} k", r"\int" * 39 + "x", r"\sum" * 300 + "x", r"3 \pmod{0}", r"3 \pmod{x}",
    r"\sum_{i=1}^{64}\sum_{j=1}^{64} i j", r"5 \bmod " + "9" * 1_400, r"|x|<" * 300 + "3", "9," * 900 + "9",
]  # fmt: skip


@pytest.mark.parametrize("answer", _GROWING, ids=lambda each: each[:24])
def test_what_is_written_out_is_bounded(answer):
    """Nested sums, long products of matrices and the like: answered, not expanded without end."""
    group = Group(id="g", responses=(Response(rf"\boxed{{{answer}}}"),), reference={"answer": "7"})
    assert math.bind({}).try_fast(group, [0]).row(0).value in (0.0, None)
