"""Hostile programs are contained: limits, processes, files, network; and nothing is left behind."""

import os
import socket
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from rewardhub.errors import InternalError, Unavailable
from rewardhub.sandbox import runner
from rewardhub.sandbox.engine import Engine
from rewardhub.sandbox.languages import languages
from rewardhub.sandbox.launch import FILTERED, FULL, LIMITED
from rewardhub.sandbox.runner import Program, run
from rewardhub.sandbox.verdicts import Limits, Verdict

SHORT = Limits(time_s=0.7, memory_mb=128, output_kb=64)

VERDICTS = {
    "busy loop": ("while True: pass", Verdict.TIME_LIMIT),
    "sleep": ("import time; time.sleep(60)", Verdict.TIME_LIMIT),
    "blocked read": ("import os; r, w = os.pipe(); os.read(r, 1)", Verdict.TIME_LIMIT),
    "loop in C": ("sum(range(10**12))", Verdict.TIME_LIMIT),
    "power tower": ("9 ** 9 ** 9", Verdict.TIME_LIMIT),
    "loop in a thread at exit": (
        "import threading\ndef f():\n    while True: pass\nthreading.Thread(target=f).start()",
        Verdict.TIME_LIMIT,
    ),
    "loop that swallows everything": (
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
        Verdict.TIME_LIMIT,
    ),
    "loop at exit": ("import atexit\n@atexit.register\ndef f():\n    while True: pass", Verdict.TIME_LIMIT),
    "heap": ("x = bytearray(10**9)", Verdict.MEMORY_LIMIT),
    "list bomb": ("x = [0]\nwhile True: x += x", Verdict.MEMORY_LIMIT),
    "anonymous map": ("import mmap\nx = [mmap.mmap(-1, 1 << 24) for _ in range(99)]", Verdict.RUNTIME_ERROR),
    "endless recursion": ("def f(): f()\nf()", Verdict.RUNTIME_ERROR),
    "stack overflow": (
        "import sys\nsys.setrecursionlimit(10**9)\ndef f(x): return f([x]) + 1\nf(0)",
        None,
    ),
    "endless stdout": ("while True: print('x' * 1000)", Verdict.OUTPUT_LIMIT),
    "endless stderr": ("import sys\nwhile True: sys.stderr.write('x' * 1000)", Verdict.OUTPUT_LIMIT),
    "division by zero": ("1 / 0", Verdict.RUNTIME_ERROR),
    "syntax error": ("def f(:", Verdict.COMPILE_ERROR),
    "NUL in the source": ("x = 1\x00", Verdict.COMPILE_ERROR),
    "lone surrogate in the source": ("x = '\ud800'", None),
    "deep nesting": ("(" * 100_000, Verdict.COMPILE_ERROR),
    "deep unary": ("-" * 100_000 + "1", Verdict.COMPILE_ERROR),
    "fork": ("import os\nwhile True: os.fork()", Verdict.PROCESS_LIMIT),
    "subprocess": ("import subprocess\nsubprocess.run(['/bin/sh'])", Verdict.PROCESS_LIMIT),
    "multiprocessing": ("import multiprocessing as m\np = m.Process(target=print)\np.start()", Verdict.PROCESS_LIMIT),
    "thread bomb": (
        "import threading, time\n[threading.Thread(target=time.sleep, args=(60,)).start() for _ in range(5000)]",
        None,
    ),
    "fills its disk": ("f = open('x', 'wb')\nwhile True: f.write(b'x' * 10**6)", Verdict.RUNTIME_ERROR),
    "sparse file": ("import os\nf = open('x', 'wb')\nf.truncate(1 << 40)", Verdict.RUNTIME_ERROR),
    "a million files": ("for i in range(10**6): open(f'{i}', 'w').close()", None),
    "all descriptors": ("x = [open('/dev/null') for _ in range(10**5)]", Verdict.RUNTIME_ERROR),
    "unbound memory file": ("import os\nos.memfd_create('x')", Verdict.RUNTIME_ERROR),
}  # fmt: skip


@pytest.mark.parametrize("name", VERDICTS)
def test_hostile_program_gets_its_verdict(name: str) -> None:
    """Every limit ends the program in time; the verdict is the stated one, or any failing one."""
    text, verdict = VERDICTS[name]
    limits = SHORT if verdict in (None, Verdict.TIME_LIMIT) else replace(SHORT, time_s=8.0)
    begun = time.monotonic()
    result = run(Program(text), "", limits)
    assert time.monotonic() - begun < limits.time_s + 8.0
    assert result.verdict is not Verdict.OK
    assert verdict in (None, result.verdict), result
    assert len(result.stdout) <= 64 * 1024
    assert len(result.stderr) <= 64 * 1024


def alive_after_a_second(mark: str) -> list[int]:
    """The processes with ``mark`` in their environment that are still there after at most a second."""
    deadline = time.monotonic() + 1.0
    while (alive := processes_with(mark)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return alive


def processes_with(mark: str) -> list[int]:
    """The live processes with ``mark`` in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and mark.encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


DAEMON = """
import os, time
try:
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            while True: time.sleep(1)
        os._exit(0)
except OSError:
    pass
while True: time.sleep(1)
"""


@pytest.mark.parametrize("level", [FILTERED, LIMITED])
def test_nothing_stays_alive(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """T50: a program that detaches itself twice is gone with its run, where isolation is weak too."""
    mark = f"MARK={uuid.uuid4()}"
    monkeypatch.setitem(runner._ENVIRONMENT, *mark.split("="))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(runner._run, Program(DAEMON), "", Limits(time_s=2.0), level)
        most = 0
        while not running.done():
            most = max(most, len(processes_with(mark)))
        assert most >= (3 if level == LIMITED else 2)
        assert running.result().verdict is Verdict.TIME_LIMIT
    assert alive_after_a_second(mark) == []


@pytest.fixture
def marked_engine(monkeypatch: pytest.MonkeyPatch):
    """A warm engine of its own, whose processes carry a mark in their environment."""
    if not runner._warm_works():
        pytest.skip("no warm processes here")
    mark = f"MARK={uuid.uuid4()}"
    engine = Engine(languages()["python"], runner._ENVIRONMENT | dict([mark.split("=")]), size=1)
    monkeypatch.setattr(runner, "_engine", lambda _language: engine)
    engine.warm_up()
    yield engine, mark
    engine.close()
    assert alive_after_a_second(mark) == []


def test_nothing_of_a_run_stays_in_its_warm_process(marked_engine: tuple[Engine, str]) -> None:
    """T50: of daemons only the warm process is left, and it goes on serving."""
    _, mark = marked_engine
    warm = processes_with(mark)
    for text in (DAEMON, "import os\nos.abort()", "while True: pass"):
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(run, Program(text), "", SHORT)
            most = 0
            while not running.done():
                most = max(most, len(processes_with(mark)))
            assert most > len(warm) or text.endswith("abort()")
            assert running.result().verdict is not Verdict.OK
        deadline = time.monotonic() + 1.0
        while processes_with(mark) != warm and time.monotonic() < deadline:
            time.sleep(0.02)
        assert processes_with(mark) == warm
    assert run(Program("pass")).verdict is Verdict.OK


def test_killed_warm_process_is_replaced(marked_engine: tuple[Engine, str]) -> None:
    """After a kill -9 of every process of the engine the next run starts a new one and passes."""
    _, mark = marked_engine
    for pid in processes_with(mark):
        os.kill(pid, 9)
    assert run(Program("print(1)")).stdout == b"1\n"


def test_warm_process_dies_under_its_run(marked_engine: tuple[Engine, str]) -> None:
    """T16: a run whose warm process is killed is run again in another."""
    _, mark = marked_engine
    warm = processes_with(mark)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run, Program("while True: pass"), "", Limits(time_s=1.0))
        while len(processes_with(mark)) == len(warm):
            time.sleep(0.01)
        time.sleep(0.2)
        for pid in warm:
            os.kill(pid, 9)
        assert running.result().verdict is Verdict.TIME_LIMIT


def test_nothing_survives_a_killed_parent() -> None:
    """A kill -9 of the process that started a run takes the run with it."""
    mark = f"MARK={uuid.uuid4()}"
    script = (
        "from rewardhub.sandbox import runner\n"
        f"runner._ENVIRONMENT.update(dict([{mark.split('=')!r}]))\n"
        "runner.run(runner.Program('while True: pass'))"
    )
    parent = subprocess.Popen([sys.executable, "-c", script])
    deadline = time.monotonic() + 20
    while len(processes_with(mark)) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    started = processes_with(mark)
    parent.kill()
    parent.wait()
    assert len(started) >= 2
    assert alive_after_a_second(mark) == []


ESCAPES = {
    "read the passwords": "print(open('/etc/shadow').read())",
    "read the environment of another": "print(open('/proc/1/environ').read())",
    "list the host": "import os\nprint(os.listdir('/root'), os.listdir('/home'))",
    "read this test": f"print(open({__file__!r}).read())",
    "write beside itself": "import os\nopen(os.__file__, 'a').write('#')",
    "remove the library": "import os, shutil\nos.remove(os.__file__)",
    "read-only root stays": "import os\nos.chmod(os.__file__, 0o777)",
    "connect to the host": "import socket\ns = socket.socket(); s.connect(('127.0.0.1', PORT))",
    "listen": "import socket\nsocket.create_server(('127.0.0.1', 0))",
    "resolve a name": "import socket\nsocket.getaddrinfo('localhost', 80)\nsocket.create_connection(('localhost', 80))",
    "become root": "import os\nos.setuid(0)",
    "change the root": "import os\nos.chroot('/tmp')",
    "kill the parent": "import os\nassert os.getppid() == 0\nos.kill(os.getppid() or -1, 9)\nraise OSError",
    "a device": "import os\nos.mknod('x', 0o60644, os.makedev(8, 0))",
    "more time": "import resource\nresource.setrlimit(resource.RLIMIT_CPU, (9999, 9999))",
    "more memory": "import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
    "priority": "import os\nos.nice(-5)",
    "an extension module of its own": (
        "import _struct, shutil, importlib.machinery as m, importlib.util as u\nshutil.copy(_struct.__file__, 'x.so')\n"
        "l = m.ExtensionFileLoader('_struct', './x.so')\nu.module_from_spec(u.spec_from_loader('_struct', l))"
    ),
    "host name": "import socket\nsocket.sethostname('x')",
}


@pytest.mark.parametrize("name", ESCAPES)
def test_escape_fails(name: str) -> None:
    """The host's files, network, processes and configuration are out of reach."""
    if runner.isolation() != FULL:
        pytest.skip("this machine offers no namespaces")
    with socket.create_server(("127.0.0.1", 0)) as server:
        text = ESCAPES[name].replace("PORT", str(server.getsockname()[1]))
        result = run(Program(text), "", SHORT)
    assert result.verdict not in (Verdict.OK, Verdict.TIME_LIMIT), result
    assert result.stdout == b""


def test_program_sees_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the environment nor the arguments of this process reach the program."""
    monkeypatch.setenv("API_KEY", "canary-7c1")
    text = "import os, sys\nprint(dict(os.environ), sys.argv, sys.orig_argv, sys.path, os.getcwd(), os.listdir('.'))"
    result = run(Program(text), "", SHORT)
    assert result.verdict is Verdict.OK
    assert b"canary" not in result.stdout


def test_no_descriptor_of_the_parent_is_passed_on() -> None:
    """Only the standard three and the control channel are open inside."""
    with Path(__file__).open() as canary:
        os.set_inheritable(canary.fileno(), True)
        text = (
            "import os\nn = 0\nfor d in range(128):\n    try: os.fstat(d); n += 1\n    except OSError: pass\nprint(n)"
        )
        result = run(Program(text), "", SHORT)
    assert result.stdout == b"4\n"


@pytest.mark.parametrize("level", [FULL, FILTERED, LIMITED])
def test_every_level_of_isolation_runs(level: str) -> None:
    """Honest programs pass and liars fail at each level; a weak one leaves no working folder behind."""
    good = runner._run(Program("open('x', 'w').write('1')\nprint(input())", "assert True\n"), "hey", Limits(), level)
    assert (good.verdict, good.stdout) == (Verdict.OK, b"hey\n")
    bad = runner._run(Program("raise SystemExit(0)"), "", Limits(), level)
    assert bad.verdict is Verdict.RUNTIME_ERROR


def test_weak_levels_remove_their_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The temporary working folder is gone after the run, whatever the program put there."""
    monkeypatch.setattr(runner.tempfile, "tempdir", str(tmp_path))
    runner._run(Program("import os\nos.makedirs('a/b'); open('a/b/c', 'w').write('x')"), "", Limits(), LIMITED)
    assert list(tmp_path.iterdir()) == []


def test_weak_isolation_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """T60: with namespaces off nothing runs, unless the operator allows it; the level is stated."""

    def refuse(*_: object) -> None:
        raise InternalError("unshare: Operation not permitted")

    monkeypatch.setattr(runner, "_warm_works", lambda: False)
    monkeypatch.setattr(runner, "_start", lambda *a, real=runner._start: refuse() if a[-1] == FULL else real(*a))
    runner.local_isolation.cache_clear()
    try:
        assert runner.isolation() == FILTERED
        with pytest.raises(Unavailable, match="allow-weak-sandbox"):
            run(Program("pass"))
        monkeypatch.setattr(runner.settings, "allow_weak", True)
        assert run(Program("print(1)")).stdout == b"1\n"
    finally:
        runner.local_isolation.cache_clear()


def test_isolation_is_found_and_stated() -> None:
    """The level is one of the known ones; on a machine with user namespaces it is full."""
    assert runner.isolation() in (FULL, FILTERED, LIMITED)


def test_fault_of_the_sandbox_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """A launcher that dies, a runtime that is missing and a machine out of processes are no verdicts."""
    boot = runner._BOOT
    monkeypatch.setattr(runner, "_warm_works", lambda: False)
    monkeypatch.setattr(runner, "_BOOT", "raise SystemExit(1)")
    with pytest.raises(InternalError):
        run(Program("pass"))
    monkeypatch.setattr(runner, "_BOOT", boot)

    def refuse(*args: object, **options: object) -> None:
        raise BlockingIOError(11, "no more processes")

    monkeypatch.setattr(runner.subprocess, "Popen", refuse)
    with pytest.raises(Unavailable):
        run(Program("pass"))


def test_runs_beside_each_other() -> None:
    """A hundred mixed programs at once come back in their order with their own verdict and output."""
    kinds = [
        ("python", lambda i: f"print({i})", Verdict.OK),
        ("python", lambda i: f"print({i})\n1/0", Verdict.RUNTIME_ERROR),
        ("python", lambda i: f"print({i}, flush=True)\nwhile True: pass", Verdict.TIME_LIMIT),
        ("python", lambda i: f"print({i})\nraise SystemExit(0)", Verdict.RUNTIME_ERROR),
        ("bash", lambda i: f"echo {i}", Verdict.OK),
        ("javascript", lambda i: f"console.log({i})", Verdict.OK),
        ("sql", lambda i: f"select {i};", Verdict.OK),
        ("c", lambda i: f'#include <stdio.h>\nint main(){{printf("{i % 16}\\n");return {i // 8 % 2};}}', None),
    ]
    jobs = [(i, *kinds[i % 8]) for i in range(100) if kinds[i % 8][0] in languages()]
    limits = replace(SHORT, time_s=3.0)
    with ThreadPoolExecutor(100) as pool:
        results = list(pool.map(lambda job: run(Program(job[2](job[0]), language=job[1]), "", limits), jobs))
    for (number, language, _, verdict), result in zip(jobs, results, strict=True):
        if language == "c":
            verdict, number = (Verdict.RUNTIME_ERROR if number // 8 % 2 else Verdict.OK), number % 16
        assert (result.verdict, result.stdout) == (verdict, f"{number}\n".encode()), (language, result)


def test_no_descriptor_or_child_leaks() -> None:
    """Descriptors and children of this process are as many after fifty runs as before."""
    run(Program("pass"))
    before = descriptors_and_children()
    for text in ("pass", "1/0", "def f(", "import os; os._exit(0)", "print('x' * 10**6)") * 10:
        run(Program(text), "", SHORT)
    assert descriptors_and_children() == before


def descriptors_and_children() -> tuple[int, str]:
    """How many descriptors this process holds, and its children."""
    count = sum(1 for _ in Path("/proc/self/fd").iterdir())
    return count, Path(f"/proc/self/task/{os.getpid()}/children").read_text()


def test_runtime_below_the_scratch_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runtime that is installed in a temporary folder is shown like any other."""
    monkeypatch.setattr(runner, "_warm_works", lambda: False)
    card = languages()["python"]
    beside = Path(card.command[-1]).parent
    copies = [tmp_path / Path(path).name for path in card.shown if Path(path).parent == beside]
    for copy in copies:
        copy.write_text((beside / copy.name).read_text())
    moved = replace(
        card, command=(*card.command[:-1], str(tmp_path / "guard.py")), shown=(*card.shown, *map(str, copies))
    )
    monkeypatch.setitem(languages(), "python", moved)
    assert run(Program("print(1)")).stdout == b"1\n"


def test_packages_below_the_scratch_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment in a temporary folder serves programs too, read-only, beside their scratch space."""
    package = tmp_path / "site" / "colours"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "late.py").write_text("NAME = 'blue'\n")
    card = languages()["python_script"]
    shown = (*card.shown, str(package))
    moved = replace(card, name="moved", shown=shown, folders=(str(package.parent),), imports=("json", "colours"))
    monkeypatch.setitem(languages(), "moved", moved)
    text = (
        "import os, colours.late\nprint(colours.late.NAME)\nopen('/tmp/own', 'w').close()\n"
        f"try:\n    open({str(package / 'x')!r}, 'w')\nexcept OSError as error:\n    print(error.strerror)\n"
    )
    assert run(Program(text, language="moved")).stdout == b"blue\nRead-only file system\n"


def test_usage_is_told() -> None:
    """CPU time, wall time and peak memory are the program's own, in seconds and MB."""
    text = "x = bytearray(50 * 10**6)\nimport time\nt = time.process_time()\nwhile time.process_time() - t < 0.2: pass"
    result = run(Program(text), "", Limits(time_s=10))
    assert 0.15 < result.cpu_s < 3
    assert result.wall_s > 0.15
    assert 50 < result.peak_mb < 120


def test_unprivileged_user() -> None:
    """A user without any right gets full isolation too, where the kernel lets users have namespaces."""
    python = "/usr/bin/python3.11"
    if os.geteuid() != 0 or not Path(python).exists() or runner.isolation() != FULL:
        pytest.skip("needs root, to become somebody else, and an interpreter that everybody may run")
    script = (
        "import os\nos.setgroups([]); os.setresgid(12345, 12345, 12345); os.setresuid(12345, 12345, 12345)\n"
        f"import sys; sys.path.insert(0, {str(Path(runner.__file__).parents[2])!r})\n"
        "from rewardhub.sandbox import runner\n"
        "print(os.getuid(), runner.isolation(), runner._warm_works(), runner.run(runner.Program('print(6 * 7)')).stdout)"
    )
    done = subprocess.run([python, "-I", "-B", "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout == "12345 full True b'42\\n'\n", done.stderr


def test_user_namespaces_switched_off() -> None:
    """T60: where the kernel's setting forbids them the level is stated, work refused, and run only when allowed."""
    script = (
        "from rewardhub.errors import Unavailable\nfrom rewardhub.sandbox import runner\nprint(runner.isolation())\n"
        "try: runner.run(runner.Program('pass'))\nexcept Unavailable as e: print('allow-weak-sandbox' in e.message)\n"
        "runner.settings.allow_weak = True\nprint(runner.run(runner.Program('print(6 * 7)')).stdout)\n"
        "print(runner.run(runner.Program('raise SystemExit(0)')).verdict)"
    )
    switched_off = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
    command = ["unshare", "--user", "--map-root-user", "sh", "-c", switched_off, "sh", sys.executable, "-c", script]
    probe = subprocess.run(
        ["unshare", "--user", "--map-root-user", "sh", "-c", switched_off, "sh", "true"], check=False
    )
    if probe.returncode:
        pytest.skip("this machine's kernel or user has no such setting")
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout == f"{FILTERED}\nTrue\nb'42\\n'\nruntime_error\n", done.stderr
