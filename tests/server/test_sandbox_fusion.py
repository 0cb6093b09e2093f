"""SandboxFusion's run_code on this sandbox."""

import pytest

from rewardhub.errors import InvalidInput
from rewardhub.sandbox.languages import languages
from rewardhub.server.compat.sandbox_fusion import run_code


def test_python_program() -> None:
    """Status, streams and return code of a program that ends, leaves, fails and loops."""
    ok = run_code({"code": "print(input())", "stdin": "hey", "language": "python"})
    assert (ok["status"], ok["compile_result"]) == ("Success", None)
    assert (ok["run_result"]["status"], ok["run_result"]["stdout"], ok["run_result"]["return_code"]) == (
        "Finished",
        "hey\n",
        0,
    )
    assert run_code({"code": "exit()", "language": "python"})["status"] == "Success"
    failed = run_code({"code": "print(1)\n1/0", "language": "python"})
    assert (failed["status"], failed["run_result"]["return_code"]) == ("Failed", 1)
    assert "ZeroDivisionError" in failed["run_result"]["stderr"]
    late = run_code({"code": "while True: pass", "language": "python", "run_timeout": 0.3})
    assert (late["status"], late["run_result"]["status"]) == ("Failed", "TimeLimitExceeded")


def test_compiled_program() -> None:
    """The compiler has a result of its own."""
    if "cpp" not in languages():
        pytest.skip("cpp is not installed")
    ok = run_code({"code": '#include <cstdio>\nint main() { puts("hey"); }', "language": "cpp"})
    assert (ok["status"], ok["compile_result"]["return_code"], ok["run_result"]["stdout"]) == ("Success", 0, "hey\n")
    bad = run_code({"code": "int main( {", "language": "cpp"})
    assert (bad["status"], bad["run_result"]) == ("Failed", None)
    assert "error" in bad["compile_result"]["stderr"]


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("code", {"code": 3}), ("stdin", {"stdin": [1]}), ("language", {"language": "cobol"}), ("run_timeout", {"run_timeout": -1}),
        ("compile_timeout", {"compile_timeout": "x"}), ("memory_limit_MB", {"memory_limit_MB": -5}), ("files", {"files": {"a": "b"}}),
        ("coed", {"coed": "x"}),
    ],
)  # fmt: skip
def test_bad_request_names_its_field(field: str, change: dict[str, object]) -> None:
    """Before anything runs."""
    with pytest.raises(InvalidInput) as caught:
        run_code({"code": "print(1)", "language": "python"} | change)
    assert caught.value.field == field
