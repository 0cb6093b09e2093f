"""SandboxFusion's run_code and submit on this sandbox, and a remote SandboxFusion as a backend."""

import asyncio
import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from rewardhub.errors import InvalidInput
from rewardhub.sandbox import remote as backend
from rewardhub.sandbox import runner
from rewardhub.sandbox.languages import languages
from rewardhub.sandbox.remote import run_remote
from rewardhub.sandbox.runner import Program, run
from rewardhub.sandbox.verdicts import Limits, Verdict
from rewardhub.server.compat.online_judge import submit
from rewardhub.server.compat.sandbox_fusion import run_code
from rewardhub.server.settings import ApiKey, Quota, ServerSettings
from rewardhub.types import Group, Response, Status
from rewardhub.verifiers import code_exec
from rewardhub.verifiers.code_exec import code

FIELDS = {"status", "message", "compile_result", "run_result", "executor_pod_name", "files"}
RESULT = {"status", "execution_time", "return_code", "stdout", "stderr"}


def test_python_program() -> None:
    """Status, streams and return code of a program that ends, leaves, fails and loops."""
    ok = run_code({"code": "print(input())", "stdin": "hey", "language": "python"})
    assert (ok.keys(), ok["run_result"].keys()) == (FIELDS, RESULT)
    assert (ok["status"], ok["message"], ok["compile_result"], ok["executor_pod_name"], ok["files"]) == (
        "Success",
        "",
        None,
        None,
        {},
    )
    assert (ok["run_result"]["status"], ok["run_result"]["stdout"], ok["run_result"]["return_code"]) == (
        "Finished",
        "hey\n",
        0,
    )
    assert run_code({"code": "exit()", "language": "python"})["status"] == "Success"
    assert run_code({"code": "import sys; sys.exit(3)", "language": "python"})["run_result"]["return_code"] == 3
    failed = run_code({"code": "print(1)\n1/0", "language": "python"})
    assert (failed["status"], failed["run_result"]["return_code"]) == ("Failed", 1)
    assert "ZeroDivisionError" in failed["run_result"]["stderr"]
    late = run_code({"code": "while True: pass", "language": "python", "run_timeout": 0.3})
    assert (late["status"], late["run_result"]["status"], late["run_result"]["return_code"]) == (
        "Failed",
        "TimeLimitExceeded",
        None,
    )


def test_libraries_of_python() -> None:
    """NumPy is there, as trainers' programs expect."""
    ok = run_code({"code": "import numpy as np\nprint(np.arange(4).sum())", "language": "python"})
    assert (ok["status"], ok["run_result"]["stdout"]) == ("Success", "6\n")


def test_a_program_ends_as_the_interpreter_ends() -> None:
    """Threads are waited for, exit handlers run, and what is buffered comes out."""
    text = "import atexit, threading, time\natexit.register(print, 'last')\nthreading.Thread(target=lambda: (time.sleep(0.2), print('thread'))).start()\nprint('main')"
    ok = run_code({"code": text, "language": "python"})
    assert (ok["status"], ok["run_result"]["stdout"]) == ("Success", "main\nthread\nlast\n")
    late = run_code(
        {
            "code": "import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()",
            "language": "python",
            "run_timeout": 0.5,
        }
    )
    assert late["run_result"]["status"] == "TimeLimitExceeded"


def test_files_go_in_and_come_out() -> None:
    """Base64 both ways; links and what lies outside are not fetched."""
    text = "import os\nos.makedirs('out', exist_ok=True)\nopen('out/b', 'w').write(open('in/a').read().upper())\nos.symlink('/etc/passwd', 'link')"
    data = base64.b64encode(b"hello").decode()
    ok = run_code(
        {
            "code": text,
            "language": "python",
            "files": {"in/a": data, "empty": None},
            "fetch_files": ["out/b", "link", "nowhere"],
        }
    )
    assert (ok["status"], ok["files"]) == ("Success", {"out/b": base64.b64encode(b"HELLO").decode()})


READERS = {
    "bash": "cat in/a; ls in",
    "c": '#include <stdio.h>\n#include "in/b.h"\nint main() { puts(B); int c; FILE *f = fopen("in/a", "r");'
    " while ((c = getc(f)) != EOF) putchar(c); }",
    "cpp": '#include <iostream>\n#include <fstream>\n#include "in/b.h"\nint main() { std::cout << B << std::ifstream("in/a").rdbuf(); }',
    "nodejs": "console.log(require('fs').readFileSync('in/a') + '')",
}


@pytest.mark.parametrize("language", READERS)
def test_files_in_other_languages(language: str) -> None:
    """Beside the program, and beside the compiler too; a file in the program's place does not replace it."""
    if {"nodejs": "javascript"}.get(language, language) not in languages():
        pytest.skip("not installed")
    given = {"in/a": b"hello", "in/b.h": b'#define B "hi "', "program.sh": b"exit 3", "program.c": b"?"}
    files = {name: base64.b64encode(data).decode() for name, data in given.items()}
    ok = run_code({"code": READERS[language], "language": language, "files": files})
    assert ok["status"] == "Success", ok
    assert "hello" in ok["run_result"]["stdout"]


def test_pytest_language() -> None:
    """``pytest`` runs a file of tests."""
    good = run_code({"code": "def f(x): return x\ndef test_f():\n    assert f(1) == 1\n", "language": "pytest"})
    assert (good["status"], good["run_result"]["return_code"]) == ("Success", 0)
    assert "1 passed" in good["run_result"]["stdout"]
    bad = run_code({"code": "def test_f():\n    assert 1 == 2\n", "language": "pytest"})
    assert (bad["status"], bad["run_result"]["return_code"]) == ("Failed", 1)


def test_compiled_program() -> None:
    """The compiler has a result of its own."""
    if "cpp" not in languages():
        pytest.skip("cpp is not installed")
    ok = run_code({"code": '#include <cstdio>\nint main() { puts("hey"); }', "language": "cpp"})
    assert (ok["status"], ok["compile_result"]["return_code"], ok["run_result"]["stdout"]) == ("Success", 0, "hey\n")
    assert ok["compile_result"].keys() == RESULT
    bad = run_code({"code": "int main( {", "language": "cpp"})
    assert (bad["status"], bad["run_result"]) == ("Failed", None)
    assert "error" in bad["compile_result"]["stderr"]
    code_3 = run_code({"code": "int main() { return 3; }", "language": "cpp"})
    assert (code_3["status"], code_3["run_result"]["return_code"]) == ("Failed", 3)


def test_unknown_fields_are_ignored_as_there() -> None:
    """A newer client may send more."""
    assert run_code({"code": "print(1)", "language": "python", "args": [], "new": 1})["status"] == "Success"


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("code", {"code": 3}), ("code", {"code": "x" * 10_000_001}), ("stdin", {"stdin": [1]}), ("language", {"language": "cobol"}),
        ("run_timeout", {"run_timeout": -1}), ("compile_timeout", {"compile_timeout": "x"}), ("memory_limit_MB", {"memory_limit_MB": -5}),
        ("files.a", {"files": {"a": "?"}}), ("files", {"files": {"../a": ""}}), ("files", {"files": {"/a": ""}}), ("files", {"files": [1]}),
        ("files", {"files": {"a": ""}, "language": "pytest"}), ("fetch_files", {"fetch_files": ["/etc/passwd"]}), ("fetch_files", {"fetch_files": "a"}),
        ("fetch_files", {"fetch_files": ["a\0b"]}), ("files", {"files": {"a": "", "a/b": ""}}), ("files", {"files": {"a/b/c": "", "a": ""}}),
        ("files", {"files": {"a": "", "./a": ""}}), ("files", {"files": {"\ud800": ""}}), ("files", {"files": {"é" * 128: ""}}),
        ("fetch_files", {"fetch_files": ["\ud800"]}),
    ],
)  # fmt: skip
def test_bad_request_names_its_field(field: str, change: dict[str, object]) -> None:
    """Before anything runs."""
    with pytest.raises(InvalidInput) as caught:
        run_code({"code": "print(1)", "language": "python"} | change)
    assert caught.value.field == field


def test_cases_in_a_text_are_bounded_before_they_are_made() -> None:
    """As those of the body are: a few bytes each would fill the memory."""
    asked = problem("print(1)")
    asked["config"]["provided_data"]["test"] = "[" + "[]," * 1_000_001 + "[]]"  # type: ignore[index]
    with pytest.raises(InvalidInput, match="more than 1000000 objects and lists"):
        submit(asked)


def problem(completion: str, *cases: tuple[str, str], **extra: object) -> dict[str, object]:
    """A submission with its cases."""
    tests = [{"input": {"stdin": stdin}, "output": {"stdout": stdout}} for stdin, stdout in cases]
    config = {
        "dataset_type": "CommonOJDataset",
        "language": "python",
        "provided_data": {"id": 1, "content": "", "test": tests},
        "extra": extra,
    }
    return {"dataset": "x", "id": 7, "completion": completion, "config": config}


def test_submit() -> None:
    """Accepted where every case passes; stops at the first failure unless all are asked for."""
    right = submit(problem("Here:\n```python\nprint(input()[::-1])\n```", ("ab", "ba\n"), ("c", "c")))
    assert (right["id"], right["accepted"], right["extracted_code"], len(right["tests"])) == (
        7,
        True,
        "print(input()[::-1])\n",
        2,
    )
    assert right["tests"][0]["exec_info"].keys() == FIELDS
    wrong = problem("print(input())", ("ab", "ba"), ("c", "c"))
    assert [test["passed"] for test in submit(wrong)["tests"]] == [False]
    every = problem("print(input())", ("ab", "ba"), ("c", "c"), run_all_cases=True)
    assert ([test["passed"] for test in submit(every)["tests"]], submit(every)["accepted"]) == ([False, True], False)


def test_submit_code_contests(data_dir: Path) -> None:
    """A problem of the sample as it is stored: cases as JSON text."""
    lines = (data_dir / "code_contests_sample/code_contests_sample.jsonl").read_text().splitlines()
    row = next(row for row in map(json.loads, lines) if row["id"] == 3)
    text = (
        "from collections import Counter\nn = int(input())\nold = Counter(input().strip() for _ in range(n))\n"
        "new = Counter(input().strip() for _ in range(n))\nprint(sum((old - new).values()))\n"
    )
    request = problem(text)
    request["config"]["provided_data"] = row
    assert submit(request)["accepted"]
    assert not submit(request | {"completion": text.replace("old - new", "old | new")})["accepted"]


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("completion", {"completion": 3}), ("config", {"config": None}), ("config.dataset_type", {"config": {"dataset_type": "MBPPDataset"}}),
        ("config.provided_data", {"config": {}}), ("config.provided_data.test", {"config": {"provided_data": {"test": []}}}),
        ("config.provided_data.test", {"config": {"provided_data": {"test": "["}}}),
        ("config.provided_data.test[0]", {"config": {"provided_data": {"test": [{"input": {}}]}}}),
    ],
)  # fmt: skip
def test_bad_submission_names_its_field(field: str, change: dict[str, object]) -> None:
    """Before anything runs."""
    with pytest.raises(InvalidInput) as caught:
        submit(problem("print(1)", ("", "1")) | change)
    assert caught.value.field == field


async def test_a_fault_of_the_sandbox_is_no_verdict(service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where programs cannot be run, no submission is told that it is wrong: 504 with when to come again, and an error
    in its place of a batch."""
    server, url = answering(b"")
    server.shutdown()
    server.server_close()
    right = problem("print(input())", ("x", "x"))
    async with service() as running, httpx.AsyncClient(base_url=running.url, timeout=60) as client:
        monkeypatch.setattr(runner.settings, "remote_url", url)
        alone = await client.post("/submit", json=right)
        batch = await client.post("/submit_batch", json={"submissions": [right, {"completion": 3}]})
    assert (alone.status_code, "retry-after" in alone.headers) == (504, True)
    assert ["accepted" in each or each["error"]["field"] for each in batch.json()["results"]] == ["", "completion"]


async def test_programs_in_hand_are_finished(service) -> None:
    """T20, R8: a program that runs when the hub is told to stop is answered, as scores are."""
    asked = {"code": "import time; time.sleep(3.5); print('done')", "language": "python"}
    async with service() as running, httpx.AsyncClient(base_url=running.url, timeout=60) as client:
        await client.post("/run_code", json=asked | {"code": "pass"})
        answer = asyncio.create_task(client.post("/run_code", json=asked))
        await asyncio.sleep(0.3)
        running.stop.now()
        assert (await answer).json()["run_result"]["stdout"] == "done\n"


async def test_routes(service) -> None:
    """Over a real socket, many at once: answers in order, 200 for failing programs, 400 with the field for bad ones."""
    async with service() as running, httpx.AsyncClient(base_url=running.url, timeout=60) as client:
        assert (await client.get("/v1/ping")).json() == "pong"
        bodies = [{"code": f"print({n})" if n % 3 else "1/0", "language": "python"} for n in range(30)]
        replies = await asyncio.gather(*(client.post("/run_code", json=body) for body in bodies))
        assert [reply.status_code for reply in replies] == [200] * 30
        assert [reply.json()["run_result"]["stdout"] for reply in replies] == [
            f"{n}\n" if n % 3 else "" for n in range(30)
        ]
        batch = {
            "submissions": [problem("print(input())", ("x", "x")), problem("print(1)", ("x", "x")), {"completion": 3}]
        }
        results = (await client.post("/submit_batch", json=batch)).json()["results"]
        assert [each.get("accepted") for each in results] == [True, False, None]
        assert results[2]["error"]["field"] == "completion"
        bad = await client.post("/run_code", json={"code": "x", "language": "cobol"})
        assert (bad.status_code, bad.json()["error"]["field"]) == (400, "language")
        assert (await client.post("/run_code", content=b"[")).status_code == 400


@pytest.fixture
async def remote(service, monkeypatch: pytest.MonkeyPatch):
    """Programs of ``code`` run on our own compat door, as on a remote SandboxFusion: over a real socket.

    The door is in this process too, so that only the verifier's own calls may go through the backend.
    """
    async with service() as running:
        url = f"{running.url}/run_code"
        monkeypatch.setattr(code_exec, "run", lambda program, stdin, limits: run_remote(url, program, stdin, limits))
        yield url


FORGER = """
import re, sys
class Out:
    def write(self, text): return sys.__stdout__.write(re.sub("([0-9a-f]{32}) .*", FORGED, text))
    def flush(self): sys.__stdout__.flush()
sys.stdout = Out()
def f(x): return 0
"""


@pytest.mark.parametrize("forged", ["", " ", " zz", " 69", " 31 31"])
async def test_remote_values_are_not_forged(remote: str, forged: str) -> None:
    """A program that writes over what is told fails: too few values, no values, values of its own."""
    calls = {"language": "python", "mode": "call", "function": "f", "calls": [{"args": [1], "expected": 1}]}
    text = FORGER.replace("FORGED", repr("\\1" + forged))
    column = await asyncio.to_thread(code.bind({}).score, Group("g", responses=(Response(text),), reference=calls), [0])
    assert (column.row(0).value, column.row(0).status) == (0.0, Status.OK), column.row(0)


async def test_remote_values(remote: str) -> None:
    """The values of asserts, a solution and calls are brought here and compared here."""
    asserts = {"language": "python", "mode": "asserts", "asserts": ["f(3) == (1, 'ä')", "f(0) == sorted([2, 1])"]}
    solution = {"language": "python", "mode": "solution", "expected": 3.14, "tolerance": 0.01}
    calls = {"language": "python", "mode": "call", "function": "f", "calls": [{"args": [1], "expected": {"1": [1]}}]}
    cases = [
        ("def f(x): return (1, 'ä') if x else [1, 2]", asserts, 1.0), ("def f(x): return (1, 'a')", asserts, 0.0),
        ("class A:\n    __eq__ = lambda *a: True\ndef f(x): return A()", asserts, 0.0),
        ("def solution(): return 22 / 7", solution, 1.0), ("def solution(): return 3", solution, 0.0),
        ("def solution(): return 1 / 0", solution, 0.0), ("print('x')\ndef f(x): return {x: (x,)}", calls, 1.0),
        ("import os\ndef f(x): os._exit(0)", calls, 0.0), ("def f(x): raise SystemExit", calls, 0.0),
    ]  # fmt: skip
    for text, reference, value in cases:
        group = Group("g", responses=(Response(text),), reference=reference)
        column = await asyncio.to_thread(code.bind({}).score, group, [0])
        assert column.row(0).value == value, (text, column.row(0))


async def test_remote_backend(remote: str) -> None:
    """``code`` gives the same verdicts over a remote sandbox: right, wrong, early end, loop, compile error."""

    def score(text: str, reference: dict) -> object:
        return code.bind({}).score(Group("g", responses=(Response(text),), reference=reference), [0]).row(0)

    echo = {
        "language": "python",
        "cases": [{"stdin": "1\n", "stdout": "1"}, {"stdin": "2\n", "stdout": "2"}],
        "limits": {"time_s": 2},
    }
    suffix = {
        "language": "python",
        "prefix": "def add(a, b):\n",
        "suffix": "\nassert add(2, 3) == 5\n",
        "limits": {"time_s": 2},
    }
    cases = [
        ("print(input())", echo, 1.0, "ok"), ("print(1)", echo, 0.0, "wrong_answer"),
        ("print(input())\nraise SystemExit(0)", echo, 0.0, "runtime_error"), ("while True: pass", echo, 0.0, "time_limit"),
        ("    return a + b", suffix, 1.0, "ok"), ("    return a - b", suffix, 0.0, "runtime_error"),
        ("    import os; os._exit(0)", suffix, 0.0, "runtime_error"),
    ]  # fmt: skip
    for text, reference, value, verdict in cases:
        result = await asyncio.to_thread(score, text, reference)
        assert (result.value, result.details["verdict"]) == (value, verdict), (text, result)
    tests = {"language": "python", "mode": "pytest", "tests": "def test_f(): assert f(1) == 1"}
    refused = await asyncio.to_thread(score, "def f(x): return x", tests)
    assert (refused.value, refused.status) == (None, Status.INVALID_INPUT)
    if "cpp" in languages():
        broken = await asyncio.to_thread(run_remote, remote, Program("int main( {", language="cpp"), "", Limits())
        assert broken.verdict is Verdict.COMPILE_ERROR


def answering(reply: bytes, status: int = 200) -> tuple[ThreadingHTTPServer, str]:
    """A server that answers every POST like this."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(status)
            self.send_header("content-length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_port}/run_code"


@pytest.mark.parametrize(
    ("reply", "status", "expected"),
    [
        (b"busy", 504, "unavailable"), (b"[]", 200, "internal_error"), (b"{", 200, "unavailable"), (b"{}", 200, "internal_error"),
        (b'{"status": "SandboxError", "message": "x"}', 200, "unavailable"),
        (b'{"status": "Success", "run_result": {"status": "Finished"}}', 200, "internal_error"),
    ],
)  # fmt: skip
def test_fault_of_a_remote_server_is_no_number(
    reply: bytes, status: int, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An outage or nonsense has its status and no value; the level is stated as remote."""
    server, url = answering(reply, status)
    try:
        monkeypatch.setattr(runner.settings, "remote_url", url)
        assert runner.isolation() == "remote"
        result = (
            code.bind({})
            .score(Group("g", responses=(Response("print(1)"),), reference={"language": "python"}), [0])
            .row(0)
        )
        assert (result.value, str(result.status)) == (None, expected), result
    finally:
        server.shutdown()
        server.server_close()


def test_nobody_there_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused connection."""
    server, url = answering(b"")
    server.shutdown()
    server.server_close()
    monkeypatch.setattr(runner.settings, "remote_url", url)
    result = (
        code.bind({}).score(Group("g", responses=(Response("print(1)"),), reference={"language": "python"}), [0]).row(0)
    )
    assert (result.value, result.status) == (None, Status.UNAVAILABLE)


def test_end_of_a_remote_program_is_random(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that prints what an earlier run's end was does not pass."""
    seen = []
    monkeypatch.setattr(
        backend,
        "_post",
        lambda url, asked, within: (
            seen.append(asked["code"])
            or {"run_result": {"status": "Finished", "return_code": 0, "stdout": "x", "stderr": ""}}
        ),
    )
    monkeypatch.setattr(runner.settings, "remote_url", "http://127.0.0.1:9/run_code")
    assert run(Program("print('x')")).verdict is Verdict.RUNTIME_ERROR
    run(Program("print('x')"))
    ends = [re.search(r"[0-9a-f]{32}", text)[0] for text in seen]
    assert len(set(ends)) == 2


async def test_programs_count_against_quotas(service) -> None:
    """A tenant without quota left is refused here too."""
    key = ApiKey(key_sha256=hashlib.sha256(b"k").hexdigest(), tenant="a")
    settings = ServerSettings(keys=(key,), quotas={"a": Quota(responses_per_s=0.5)})
    async with service(settings) as running, running.http(headers={"x-api-key": "k"}) as client:
        body = {"code": "print(1)", "language": "python"}
        assert (await client.post("/run_code", json=body)).status_code == 200
        refused = await client.post("/run_code", json=body)
        assert (refused.status_code, refused.json()["error"]["field"]) == (504, "responses_per_s")


async def test_a_refusal_that_passes_is_504(service) -> None:
    """verl's client of a sandbox comes again after 504 alone, and counts what met another refusal as wrong."""
    body = {"code": "print(1)", "language": "python"}
    async with service() as running, running.http() as client:
        running.hub.full = True
        for path in ("/run_code", "/submit", "/submit_batch"):
            refused = await client.post(path, json=body)
            assert (refused.status_code, refused.headers["retry-after"]) == (504, "2")
            assert refused.json()["error"]["code"] == "unavailable"
        scored = await client.post("/v1/score", json={"groups": []})
        running.hub.full = False
        assert (scored.status_code, (await client.post("/run_code", json=body)).status_code) == (503, 200)
        assert (await client.post("/run_code", json=body | {"language": "cobol"})).status_code == 400
