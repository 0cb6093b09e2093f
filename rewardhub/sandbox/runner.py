"""One run of one program, watched from outside.

``run`` is thread-safe and blocks; every run is a process tree of its own. The verdict is decided here:
the end of a Python program is believed only with the run's nonce, limits are kept here and by the
kernel. Of other languages the exit code is the end, so that only what they print may decide a score.
"""

import base64
import json
import logging
import math
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from rewardhub.errors import InternalError, Unavailable
from rewardhub.sandbox.engine import Engine
from rewardhub.sandbox.judging import Lost, judge
from rewardhub.sandbox.languages import Language, languages
from rewardhub.sandbox.launch import FILTERED, FULL, LIMITED
from rewardhub.sandbox.program import Program as Program
from rewardhub.sandbox.verdicts import Limits, Run, Verdict
from rewardhub.sandbox.watch import CONTROL_BYTES, Watch, adopted, follow, measure, memory_file, pipe

_LOG = logging.getLogger(__name__)

SCRATCH_MB = 64
STDIN, JOB = 0, 4
"""The descriptors of a run."""
BUILD = Limits(time_s=30.0, memory_mb=2048, output_kb=64)
"""What a compiler may use."""
_KILL_S = 2.0
_TRIES = 2
_BLOCK = 1 << 16
_STARTED = b"started\n"
_ROOT = str(Path(__file__).resolve().parents[2])
_BOOT = f"import sys; sys.path.insert(0, {_ROOT!r}); from rewardhub.sandbox.launch import main; main()"
_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONHASHSEED": "0", "HOME": "/tmp",  # noqa: S108
    "PYTHONUTF8": "1",
} | {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}  # fmt: skip

_ONE_THREAD = {
    "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "MPLBACKEND": "agg",
}  # fmt: skip


def run(program: Program, stdin: str = "", limits: Limits | None = None) -> Run:
    """Runs ``program`` on ``stdin`` (UTF-8) within ``limits``.

    Raises ``Unavailable`` where no process could be started or isolation is below ``full`` and
    ``settings`` do not allow that, ``InternalError`` where the sandbox
    itself failed or the system is not Linux; ``KeyError`` for an unknown language.
    """
    if not sys.platform.startswith("linux"):
        raise InternalError("programs run on Linux only")
    if settings.remote_url:
        from rewardhub.sandbox.remote import run_remote

        return run_remote(settings.remote_url, program, stdin, limits or Limits())
    level = isolation()
    if level != FULL and not settings.allow_weak:
        reason = f"untrusted programs are refused: the isolation of this machine is {level}"
        raise Unavailable(f"{reason}; --allow-weak-sandbox accepts that", retry_after_s=300.0)
    return _run(program, stdin, limits or Limits(), level)


@dataclass(slots=True)
class Settings:
    """What the operator allows: ``allow_weak`` runs programs below full isolation; with ``remote_url`` they run
    on that SandboxFusion server.
    """

    allow_weak: bool = False
    remote_url: str = ""


settings = Settings()


def isolation() -> str:
    """``remote`` where programs run on another server, else :func:`local_isolation`."""
    return "remote" if settings.remote_url else local_isolation()


@cache
def local_isolation() -> str:
    """The strongest isolation that works here, found by trying: ``full`` is user, pid, mount, network,
    ipc and uts namespaces, a private root, a system-call filter and limits; the rest says ``weak``.
    """
    for level in (FULL, FILTERED):
        for _ in range(_TRIES):
            try:
                if _run(Program("pass"), "", Limits(), level).verdict is Verdict.OK:
                    return level
            except InternalError as error:
                _LOG.warning("no %s isolation of programs here: %s", level, error)
    return LIMITED


def _run(program: Program, stdin: str, limits: Limits, level: str) -> Run:
    language = languages()[program.language]

    def attempt() -> Run:
        guarded = language.profile == "python"
        if (not guarded or language.folders) and (level != FULL or not _warm_works()):
            raise Unavailable(f"{program.language} programs run in full isolation only", retry_after_s=300.0)
        if not guarded:
            return _run_other(program, stdin, limits)
        return _run_once(program, stdin, limits, level)

    try:
        return attempt()
    except Lost:
        return attempt()


def _run_once(program: Program, stdin: str, limits: Limits, level: str) -> Run:
    language = languages()[program.language]
    end = b"end " + secrets.token_hex(16).encode()
    job = _job(end[4:], program)
    try:
        with ExitStack() as stack:
            start = _start_warm if level == FULL and _warm_works() else _start
            watch = start(stack, job, stdin.encode("utf-8", "surrogatepass"), limits, language, level)
            follow(watch)
            if watch.stopped and start is _start_warm:
                _end_warm(watch)
    except OSError as error:
        raise Unavailable(f"the sandbox could not start: {error}", retry_after_s=1.0) from error
    may_leave = program.exit_is_end and not program.suffix and not program.expressions
    return judge(watch, end, may_leave=may_leave)


def _job(nonce: bytes, program: Program) -> bytes:
    texts = (program.text, program.suffix, "\0".join(program.expressions))
    parts = [text.encode("utf-8", "surrogatepass") for text in texts]
    lengths = b" ".join(b"%d" % len(part) for part in parts)
    flags = (program.as_json, program.tests)
    return b"%s\n%s %d %d\n%s" % (nonce, lengths, *flags, b"".join(parts))


def _start(stack: ExitStack, job: bytes, stdin: bytes, limits: Limits, language: Language, level: str) -> Watch:
    caps = (limits.output_kb * 1024, limits.output_kb * 1024, CONTROL_BYTES, CONTROL_BYTES)
    out, err, control, report = (stack.enter_context(pipe(cap)) for cap in caps)
    folder = stack.enter_context(_folder(level))
    # The job holds the nonce, so this process lets go of it as soon as the launcher has it.
    with memory_file(job) as job_file, memory_file(stdin) as stdin_file:
        command = [
            sys.executable, "-S", "-s", "-P", "-c", _BOOT, level,
            str(job_file), str(control.write), str(report.write),
            str(math.ceil(limits.time_s) + 1), str(limits.memory_mb + language.runtime_mb), str(SCRATCH_MB),
            ":".join(language.shown), *language.command, str(job_file), str(control.write),
        ]  # fmt: skip
        process = subprocess.Popen(
            command, stdin=stdin_file, stdout=out.write, stderr=err.write, env=_ENVIRONMENT, cwd=folder,
            start_new_session=True, pass_fds=(job_file, control.write, report.write),
        )  # fmt: skip
    stack.callback(_stop, process)
    for each in (out, err, control, report):
        os.close(each.write)
        each.write = -1
    return Watch(out, err, control, report, limits, begun=time.monotonic())


@cache
def _engine(language: str) -> Engine:
    card = languages()[language]
    return Engine(card, _ENVIRONMENT | {"LD_BIND_NOW": "1"} | (_ONE_THREAD if card.imports else {}))


# A fork starts warm processes of its own; those of its parent stay the parent's.
os.register_at_fork(after_in_child=_engine.cache_clear)


@cache
def _warm_works() -> bool:
    """Whether programs run in forks of a warm process here; each starts a process of its own otherwise."""
    try:
        _engine("python").warm_up()
    except InternalError as error:
        _LOG.warning("programs start slowly here: %s", error)
        return False
    return True


def _start_warm(stack: ExitStack, job: bytes, stdin: bytes, limits: Limits, language: Language, _level: str) -> Watch:
    with memory_file(job) as job_file:
        return _submit(stack, job_file, stdin, limits, language, {"profile": language.profile})


def _submit(
    stack: ExitStack, job_file: int, stdin: bytes, limits: Limits, language: Language, special: dict[str, Any]
) -> Watch:
    cap = limits.output_kb * 1024
    out, err, control = (stack.enter_context(pipe(size)) for size in (cap, cap, CONTROL_BYTES))
    order = {
        "cpu_s": math.ceil(limits.time_s) + 1, "memory_mb": limits.memory_mb + language.runtime_mb,
        "scratch_mb": SCRATCH_MB, "tasks": language.tasks, "measured": special.get("profile") == "shell",
    } | special  # fmt: skip
    engine = _engine(language.name)
    with memory_file(stdin) as stdin_file:
        report, warm = engine.submit(order, (stdin_file, out.write, err.write, control.write, job_file))
    stack.callback(engine.done, warm)
    for each in (out, err, control):
        os.close(each.write)
        each.write = -1
    tell = stack.enter_context(adopted(report))
    watch = Watch(out, err, control, tell, limits, begun=time.monotonic())
    if order["measured"]:
        measure(watch, report, order["memory_mb"])
    return watch


def _run_other(program: Program, stdin: str, limits: Limits) -> Run:
    """Runs a program that is not Python: its exit code and output are all that it tells."""
    language = languages()[program.language]
    source = (program.text + program.suffix).encode("utf-8", "surrogatepass")
    if language.imports:
        files = {name: base64.b64encode(data).decode() for name, data in program.files}
        job = json.dumps([program.text + program.suffix, program.probe, files]).encode()
        return _execute(language, job, stdin, limits, {"script": True, "profile": language.profile})
    if language.build:
        built, failed = _built(program.language, source, program.files)
        special: dict[str, Any] = {"command": ["job"], "profile": "native"}
        if program.files:
            special["packed"] = (JOB, len(built))
            built += _packed(program.files)
        return failed or _execute(language, built, stdin, limits, special)
    special = {"command": language.command, "profile": language.profile, "packed": (JOB, 0)}
    return _execute(language, _packed((*program.files, (language.source, source))), stdin, limits, special)


def _packed(files: tuple[tuple[str, bytes], ...]) -> bytes:
    """Their names and sizes in a line, and then their contents."""
    return (
        json.dumps([(name, len(data)) for name, data in files]).encode() + b"\n" + b"".join(data for _, data in files)
    )


def _execute(language: Language, job: bytes, stdin: str, limits: Limits, special: dict[str, Any]) -> Run:
    try:
        with ExitStack() as stack, memory_file(job) as job_file:
            data = stdin.encode("utf-8", "surrogatepass")
            watch = _submit(stack, job_file, data, limits, language, special)
            watch.control.data += _STARTED
            follow(watch)
            if watch.stopped:
                _end_warm(watch)
    except OSError as error:
        raise Unavailable(f"the sandbox could not start: {error}", retry_after_s=1.0) from error
    told = bytes(watch.control.data[len(_STARTED) :])
    watch.control.data[:] = _STARTED + b"ready\n"
    result = replace(judge(watch, b"", may_leave=False, by_code=True), told=told)
    spent = any(mark in result.stderr for mark in (b"bad_alloc", b"heap out of memory", b"MemoryError"))
    if result.verdict is Verdict.RUNTIME_ERROR and (spent or result.peak_mb > 0.9 * limits.memory_mb):
        return replace(result, verdict=Verdict.MEMORY_LIMIT, reason="out of memory")
    return result


@lru_cache(64)
def _built(name: str, source: bytes, files: tuple[tuple[str, bytes], ...]) -> tuple[bytes, Run | None]:
    """The executable, or the run of the compiler that failed; both are remembered."""
    language = languages()[name]
    output = os.memfd_create("built", os.MFD_CLOEXEC)
    try:
        with ExitStack() as stack:
            special = {"command": language.build, "profile": "shell", "packed": (STDIN, 0), "builds": True}
            packed = _packed((*files, (language.source, source)))
            watch = _submit(stack, output, packed, BUILD, language, special)
            watch.control.data += _STARTED
            follow(watch)
            if watch.stopped:
                _end_warm(watch)
        watch.control.data += b"ready\n"
        result = judge(watch, b"", may_leave=False, by_code=True)
        if result.verdict is not Verdict.OK:
            return b"", replace(result, verdict=Verdict.COMPILE_ERROR, reason=result.reason)
        return os.pread(output, SCRATCH_MB << 20, 0), None
    finally:
        os.close(output)


def _end_warm(watch: Watch) -> None:
    """Has the run killed and reads what it used."""
    with socket.socket(fileno=os.dup(watch.report.read)) as report:
        report.settimeout(_KILL_S)
        with suppress(OSError):
            report.shutdown(socket.SHUT_WR)
            while block := report.recv(_BLOCK):
                watch.report.data += block


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ends the launcher and with it everything it started, and reaps it."""
    with suppress(subprocess.TimeoutExpired):
        if process.poll() is None:
            process.terminate()
        process.wait(1.0)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, 9)
    process.wait()


@contextmanager
def _folder(level: str) -> Iterator[str]:
    """An empty working folder: inside the private root where there is one, else a temporary one."""
    if level == FULL:
        yield "/"
        return
    path = tempfile.mkdtemp(prefix="rewardhub-run-")
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
