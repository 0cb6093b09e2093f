"""The mode ``pytest`` of ``code``: pytest runs a file of tests on the program.

A program may patch pytest, so that pytest's report is not enough: of every test function control must
have come to its end too, which the guard tells with the nonce.
"""

import ast
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from rewardhub.errors import ReferenceUnparseable

LANGUAGE = "python_pytest"

# Behind the tests, in their names: a plugin hands the module to pytest and notes the outcome of each test.
_DRIVER = """
import os, pytest, sys, types

class Suite(pytest.Module):
    def _getobj(self): return module

class Plugin:
    def pytest_collect_file(self, file_path, parent):
        return Suite.from_parent(parent, path=file_path)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_makereport(self, item, call):
        failed = call.excinfo is not None
        if failed or call.when == "call":
            outcomes.append([item.nodeid.partition("::")[2], not failed])
        outcome = "failed" if failed else "passed"
        return pytest.TestReport(item.nodeid, item.location, {}, outcome, None, call.when)

os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
open("suite", "w").close()
off = ["cacheprovider", "faulthandler", "doctest"]
arguments = ["suite", "-q", "--rootdir=.", "-c", os.devnull, "--noconftest", "--capture=sys", "--assert=plain"]
code = pytest.main([*arguments, *[f"-pno:{name}" for name in off]], plugins=[Plugin()])
if code not in (0, 1): outcomes.append(["exit code", False])
"""
_CALL = (
    '(lambda space, json: (exec(compile({driver!r}, "<suffix>", "exec"), space), json.dumps(space["outcomes"]))[1])'
    '({{"outcomes": [], "module": __suite__, "__name__": "driver"}}, __import__("json"))'
)
_PRELUDE = 'import sys as _s; _s.modules["solution"] = _s.modules["__main__"]; del _s\n'
"""The tests may import the program under the name ``solution``."""


def suffix(tests: str) -> str:
    return _PRELUDE + tests


def expression() -> str:
    return _CALL.format(driver=_DRIVER)


def expected(tests: str) -> dict[str, int]:
    """How often each test function must come to its end at least; raises ``ReferenceUnparseable``."""
    try:
        tree = ast.parse(tests)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ReferenceUnparseable(f"reference.tests: {type(error).__name__}", field="reference.tests") from None
    found = {name: _times(node) for name, node in _functions(tree)}
    if not found:
        raise ReferenceUnparseable("reference.tests has no function named test…", field="reference.tests")
    return found


def passed(wanted: Mapping[str, int], values: Sequence[str]) -> list[bool]:
    """Whether each test passed: pytest says so of all its runs, and it came to its end as often.

    ``values`` are those of a run of :func:`expression` with ``tests``.
    """
    told, ended = (value.partition(":")[2] if value.startswith("s") else "" for value in values)
    ends, runs, failed = Counter(ended.split("\n")), Counter[str](), set[str]()
    for node, fine in _outcomes(told):
        name = node.split("[")[0].replace("::", ".")
        runs[name] += 1
        if not fine:
            failed.add(name)
    stray = failed - wanted.keys()
    return [
        not stray and name not in failed and ends[name] >= max(times, runs[name]) and runs[name] >= times
        for name, times in wanted.items()
    ]


def outcomes(values: Sequence[str]) -> list[tuple[str, bool]]:
    """What pytest said of each test that it ran, by the values of a run of :func:`expression`."""
    return _outcomes(values[0].partition(":")[2]) if values else [("", False)]


def _outcomes(told: str) -> list[tuple[str, bool]]:
    """What pytest said, which the program may have forged: anything but pairs is a failure."""
    try:
        return [(str(node), fine is True) for node, fine in json.loads(told)]
    except (ValueError, TypeError, RecursionError):
        return [("", False)]


def _functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef]]:
    for node in tree.body:
        inner = node.body if isinstance(node, ast.ClassDef) and node.name.startswith("Test") else [node]
        owner = f"{node.name}." if isinstance(node, ast.ClassDef) else ""
        for each in inner:
            if isinstance(each, ast.FunctionDef) and each.name.startswith("test"):
                yield owner + each.name, each


def _times(node: ast.FunctionDef) -> int:
    """The runs that its ``parametrize`` decorators with literal lists make, 1 without any."""
    times = 1
    for each in node.decorator_list:
        if not (isinstance(each, ast.Call) and isinstance(each.func, ast.Attribute)):
            continue
        if each.func.attr == "parametrize" and len(each.args) > 1 and isinstance(each.args[1], ast.List | ast.Tuple):
            times *= max(1, len(each.args[1].elts))
    return times
