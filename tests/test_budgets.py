"""The code stays small: the budgets that the codebases readers praise hold."""

import ast
import statistics
from pathlib import Path

ROOT = Path(__file__).parent.parent
FILES = sorted(
    path
    for folder in ("rewardhub", "verifiers", "models")
    for path in (ROOT / folder).rglob("*.py")
    if "rewardhub/v1/" not in path.as_posix() and not (ROOT / "rewardhub" / path.name).is_symlink()
)
FILES = sorted({path.resolve() for path in FILES})
ATTICS = {"utils", "util", "helpers", "helper", "common", "misc"}


def lines_of(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def functions() -> list[tuple[str, int]]:
    found = []
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found.append((f"{path.relative_to(ROOT)}:{node.name}", node.end_lineno - node.lineno + 1))
    return found


def percentile(values: list[int], share: float) -> int:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def test_files_are_short():
    """Half of the files fit on two screens, nine of ten in 260 lines, none is over 400."""
    sizes = [lines_of(path) for path in FILES]
    assert not [path.name for path in FILES if lines_of(path) > 400]
    assert statistics.median(sizes) <= 120
    assert percentile(sizes, 0.9) <= 260


def test_functions_are_short():
    """Half of the functions have ten lines, nine of ten thirty, none is over sixty."""
    sizes = functions()
    assert not [name for name, size in sizes if size > 60]
    assert statistics.median(size for _, size in sizes) <= 10
    assert percentile([size for _, size in sizes], 0.9) <= 30


def test_no_file_is_an_attic():
    """A file is named after what it holds."""
    assert not [path for path in FILES if path.stem in ATTICS]


def test_no_source_evaluates_text():
    """Nothing evaluates, unpickles or loads what it is given."""
    forbidden = {"eval", "exec", "sympify", "parse_expr"}
    attributes = {("pickle", "loads"), ("pickle", "load"), ("yaml", "load"), ("torch", "load"), ("marshal", "loads")}
    found = []
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            call = node.func
            name = call.id if isinstance(call, ast.Name) else call.attr if isinstance(call, ast.Attribute) else ""
            owner = call.value.id if isinstance(call, ast.Attribute) and isinstance(call.value, ast.Name) else ""
            plain = isinstance(call, ast.Name) and name in forbidden
            if plain or (owner, name) in attributes or name in {"sympify", "parse_expr"}:
                found.append(f"{path.relative_to(ROOT)}:{node.lineno} {owner}.{name}")
    assert not found
