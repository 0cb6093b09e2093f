"""Programs that try to pass without solving: none may, and honest programs that come close do."""

import pytest

from rewardhub.sandbox.runner import Program, run
from rewardhub.sandbox.verdicts import Limits, Verdict

SUFFIX = "\n\nimport math\ndef check(candidate):\n    secret = 1764\n    assert abs(candidate(42) - secret) < 0.5\n\
    assert math.isclose(candidate(42), secret)\n\ncheck(solve)\n"
LIMITS = Limits(time_s=5.0)

BAD = "def solve(x):\n    return 0\n"
TO_ALL = "import os\ndef tell(data):\n    for n in range(128):\n        try: os.write(n, data)\n        except OSError: pass\n"

HACKS = {
    "sys.exit at import": BAD + "import sys\nsys.exit(0)",
    "os._exit at import": BAD + "import os\nos._exit(0)",
    "sys.exit in the call": "import sys\ndef solve(x):\n    sys.exit(0)",
    "os._exit in the call": "import os\ndef solve(x):\n    os._exit(0)",
    "quit in the call": "def solve(x):\n    raise SystemExit",
    "kill itself": "import os\ndef solve(x):\n    os.kill(os.getpid(), 9); os.abort()",
    "marker on stdout": BAD + "print('end'); print('OK'); print('started')",
    "marker to every descriptor": TO_ALL + BAD + "tell(b'end\\n')",
    "guessed nonce to every descriptor": TO_ALL + BAD + "tell(b'end ' + b'0' * 32 + b'\\n')",
    "environment and arguments as nonce": TO_ALL
    + BAD
    + "import sys\nfor v in [*os.environ.values(), *sys.argv, *sys.orig_argv]:\n    tell(b'end ' + v.encode() + b'\\n')",
    "marker at exit": TO_ALL + BAD + "import atexit\natexit.register(tell, b'end\\n')",
    "marker in a thread": TO_ALL + BAD + "import threading\nthreading.Thread(target=tell, args=(b'end\\n',)).start()",
    "read every descriptor for the job": TO_ALL
    + BAD
    + """
for n in range(3, 64):
    try:
        os.set_blocking(n, False); os.lseek(n, 0, 0); tell(b'end ' + os.read(n, 33) + b'\\n')
    except OSError: pass
""",
    "divert the control descriptor": BAD
    + """
import os, atexit
r, w = os.pipe()
others = [n for n in range(3, 32) if n not in (r, w)]
saved = []
for n in others:
    try: saved.append(os.dup(n)); os.dup2(w, n)
    except OSError: pass
def replay():
    os.set_blocking(r, False)
    data = os.read(r, 4096)
    for n in saved: os.write(n, data)
atexit.register(replay)
""",
    "forged event": BAD + "import sys\nsys.audit('rewardhub.end')\nsys.exit(0)",
    "forged beginning": BAD + "import sys\nsys.audit('rewardhub.begin')\nsys.audit('rewardhub.end')",
    "forged event from C": BAD
    + "import sys, atexit, functools\natexit.register(functools.partial(sys.audit, 'rewardhub.end'))",
    "forged event from a finaliser": """
import sys, functools, weakref
class Thing: pass
def solve(x):
    thing = Thing()
    solve.ref = weakref.ref(thing, functools.partial(sys.audit, 'rewardhub.end'))
    return 0
""",
    "forged event from a signal": BAD
    + "import signal, functools, sys\nsignal.signal(signal.SIGALRM, functools.partial(sys.audit, 'rewardhub.end'))\n"
    "signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)",
    "call the runner's say through a frame": BAD
    + """
import sys
f = sys._getframe()
while f:
    if 'say' in f.f_locals: f.f_locals['say']('rewardhub.end')
    f = f.f_back
sys.exit(0)
""",
    "call the runner's say through a traceback": BAD
    + """
try: 1 / 0
except ZeroDivisionError as e: f = e.__traceback__.tb_frame
while f:
    if 'say' in f.f_locals: f.f_locals['say']('rewardhub.end')
    f = f.f_back
raise SystemExit
""",
    "frames of a generator": BAD
    + """
def g():
    f = it.gi_frame
    while f:
        if 'say' in f.f_locals: f.f_locals['say']('rewardhub.end')
        f = f.f_back
    yield
it = g(); next(it); raise SystemExit
""",
    "frames of a coroutine": BAD
    + """
async def c():
    f = it.cr_frame
    while f:
        if 'say' in f.f_locals: f.f_locals['say']('rewardhub.end')
        f = f.f_back
it = c()
try: it.send(None)
except StopIteration: pass
raise SystemExit
""",
    "frames in a signal handler": TO_ALL
    + BAD
    + """
import signal
def h(n, f):
    while f:
        for v in f.f_locals.values(): tell(b'end ' + str(v).encode() + b'\\n')
        f = f.f_back
signal.signal(signal.SIGALRM, h); signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)
for _ in range(10**6): id(h)
""",
    "list the collector": TO_ALL
    + BAD
    + "import gc\nfor o in gc.get_objects():\n    if isinstance(o, bytes): tell(b'end ' + o + b'\\n')",
    "referents of the hook": BAD + "import gc, sys\nprint(gc.get_referents(sys.addaudithook))\nsys.exit(0)",
    "a hook of its own": BAD
    + "import sys\ndef hook(e, a):\n    if e == 'sys._getframe': print(a[0].f_locals)\nsys.addaudithook(hook)\nsys.exit(0)",
    "tracing that jumps over the check": """
import sys
def trace(f, e, a):
    f.f_trace_lines = True
    if e == 'line' and f.f_code.co_name == 'check': f.f_lineno = f.f_lineno + 1
    return trace
sys.settrace(trace)
def solve(x): return 0
""",
    "profiling": BAD + "import sys\nsys.setprofile(lambda f, e, a: f.f_locals)",
    "frames of all threads": BAD + "import sys\nsys._current_frames(); sys.exit(0)",
    "ctypes": BAD + "import ctypes\nctypes.CDLL(None)._exit(0)",
    "ctypes among the subclasses": BAD
    + "c = [k for k in object.__subclasses__() if '_ctypes' in k.__module__]\nassert c\n",
    "raw memory": BAD + "data = open('/proc/self/mem', 'rb')\nraise SystemExit",
    "raw memory by descriptor": BAD + "import os\nos.open('/proc/self/maps', os.O_RDONLY)\nraise SystemExit",
    "a second interpreter": BAD + "import _xxsubinterpreters as s\ni = s.create()\nraise SystemExit",
    "a code object of its own making": BAD + "c = solve.__code__.replace(co_code=b'')\nraise SystemExit",
    "code from bytes": BAD + "import marshal\nmarshal.loads(marshal.dumps(1))\nraise SystemExit",
    "replace exec": BAD + "import builtins\nbuiltins.exec = lambda *a: None\nbuiltins.compile = None",
    "replace the exception of assert": BAD + "import builtins\nbuiltins.AssertionError = type('E', (), {})",
    "replace builtins of the check": "import builtins\ndef solve(x): return 0\nbuiltins.__build_class__ = None\n"
    "globals()['__builtins__'] = {'print': print}\n",
    "define a builtin of the check over": "def abs(x): return 0\ndef solve(x): return 0\n",
    "define the check first": "def check(f): pass\n" + BAD,
    "replace the main module": BAD + "import sys, types\nsys.modules['__main__'] = types.ModuleType('x')",
    "swallow the suffix in a string": BAD + "x = '''",
    "swallow the suffix in a comment": BAD + "#",
    "swallow the suffix by a backslash": BAD + "if 0: \\",
    "swallow the suffix in a branch": BAD + "if False:",
    "swallow the suffix in a call": BAD + "print(lambda: (",
    "another program instead": BAD + "import os, sys\nos.execv('/bin/true', ['true'])",
    "another python instead": BAD + "import os, sys\nos.execv(sys.executable, ['python', '-c', 'print(1)'])",
    "guess by forking": "import os\ndef solve(x):\n    for g in range(2000):\n        if os.fork() == 0: return g\n    os._exit(0)\n",
    "read the check's constants": "import sys\ndef solve(x):\n"
    "    return max(c for c in sys._getframe(1).f_code.co_consts if isinstance(c, int))",
    "read the check's locals": "import sys\ndef solve(x):\n    return sys._getframe(1).f_locals['secret']",
    "read the check through inspect": "import inspect\ndef solve(x):\n    return inspect.stack()[1].frame.f_locals['secret']",
    "read the check through currentframe": "import inspect\ndef solve(x):\n"
    "    return inspect.currentframe().f_back.f_locals['secret']",
    "read the check through logging": "import logging\ndef solve(x):\n"
    "    f = logging.currentframe()\n    while 'secret' not in f.f_locals: f = f.f_back\n    return f.f_locals['secret']",
    "read the check through an exception": "def solve(x):\n    try: 1 / 0\n    except Exception as e:\n"
    "        return e.__traceback__.tb_frame.f_back.f_locals['secret']",
    "read the check through walk_tb": "import traceback\ndef solve(x):\n    try: 1 / 0\n    except Exception as e:\n"
    "        return next(traceback.walk_tb(e.__traceback__))[0].f_back.f_locals['secret']",
    "read the check through walk_stack": "import traceback\ndef solve(x):\n"
    "    s = traceback.StackSummary.extract(traceback.walk_stack(None), capture_locals=True)\n"
    "    return next(int(f.locals['secret']) for f in s if 'secret' in f.locals)",
    "read the check through a helper of the library": "import heapq, traceback\ndef solve(x):\n    try: 1 / 0\n"
    "    except Exception as e:\n"
    "        for f, _ in heapq.merge(traceback.walk_tb(e.__traceback__)): return f.f_back.f_locals['secret']",
    "what the collector kept": TO_ALL
    + BAD
    + """
import gc
gc.set_debug(gc.DEBUG_SAVEALL); gc.collect()
seen = list(gc.garbage)
for thing in seen:
    for item in (thing.values() if isinstance(thing, dict) else thing if isinstance(thing, (list, tuple)) else ()):
        if isinstance(item, bytes): tell(b'end ' + item + b'\\n')
raise SystemExit
""",
    "load the guard again": BAD
    + """
import glob, importlib.machinery as m, os
for root, _, files in os.walk('/'):
    if 'guard.py' in files:
        g = m.SourceFileLoader('g', root + '/guard.py').load_module()
        g.execute((compile('', 'a', 'exec'),) * 2, {}, exec, __import__('sys').audit, dict)
raise SystemExit
""",
    "a namespace that runs code": """
import sys
class Key(str):
    def __hash__(self): return hash('check')
    def __eq__(self, other): return sys.audit('rewardhub.end') or False
globals()[Key('check')] = 1
def solve(x): return 0
""",
    "read the check's code": "import __main__\ndef solve(x):\n"
    "    return max(c for c in __main__.check.__code__.co_consts if isinstance(c, int))",
    "read the check's code through inspect": "import __main__, inspect\ndef solve(x):\n"
    "    code = dict(inspect.getmembers(__main__.check))['__code__']\n"
    "    return max(c for c in code.co_consts if isinstance(c, int))",
    "read the check through dis": "import __main__, dis\ndef solve(x):\n"
    "    return next(i.argval for i in dis.get_instructions(__main__.check) if i.argval == 1764)",
    "frames from an exhausted stack": TO_ALL
    + """
import traceback
def dive(n):
    try: dive(n + 1)
    except RecursionError: pass
    try: id(n)
    except RecursionError as e:
        t = traceback.TracebackException.from_exception(e, capture_locals=True)
        for f in t.stack:
            for v in (f.locals or {}).values(): tell(b'end ' + v.encode() + b'\\n')
dive(0)
def solve(x): return 0
""",
    "read the check from code made at run time": "exec('import sys\\ndef solve(x): return sys._getframe(1).f_locals[\"secret\"]')",
    "read the check by an exception in code made at run time": "exec('def solve(x):\\n try: 1 / 0\\n"
    ' except Exception as e: return e.__traceback__.tb_frame.f_back.f_locals["secret"]\')',
    "read the check's code from code made at run time": "exec('import __main__\\ndef solve(x):\\n"
    " return max(c for c in __main__.check.__code__.co_consts if isinstance(c, int))')",
    "read the check from a module of its own": "open('m.py', 'w').write('import sys\\n"
    "def solve(x): return sys._getframe(1).f_locals[\"secret\"]')\nimport sys\nsys.path.insert(0, '.')\nfrom m import solve",
    "an object that answers every comparison": "class A:\n    __eq__ = __lt__ = __le__ = __gt__ = __ge__ = lambda *a: True\n"
    "    __sub__ = __rsub__ = __abs__ = lambda s, *o: s\ndef solve(x): return A()",
    "a number that answers every comparison": "class A(int):\n    __eq__ = __lt__ = lambda *a: True\n"
    "    __sub__ = __abs__ = lambda s, *o: s\ndef solve(x): return A(99)",
    "a builtin function as comparison": "class A:\n    __lt__ = id\n    __sub__ = __abs__ = lambda s, *o: s\ndef solve(x): return A()",
    "a class that lies about its class": "class A:\n    __class__ = int\n    __lt__ = lambda *a: True\n"
    "    __sub__ = __abs__ = lambda s, *o: s\ndef solve(x): return A()",
    "abs replaced in the call": "import builtins\ndef solve(x):\n    builtins.abs = lambda x: 0\n    return 0",
    "a module of the check patched": "import math\nmath.isclose = lambda *a, **k: True\n" + BAD,
    "a module of the check replaced": "import sys, types\nm = types.ModuleType('math')\nm.isclose = lambda *a, **k: True\n"
    "sys.modules['math'] = m\n" + BAD,
    "a finaliser inside the hook": TO_ALL
    + """
import gc, sys
gc.set_threshold(1)
class Spy:
    def __init__(self): self.me = self
    def __del__(self):
        f = sys._getframe()
        while f:
            for v in list(f.f_locals.values()): tell(b'end ' + str(v).encode() + b'\\n')
            f = f.f_back
for _ in range(10000): Spy(); id(0)
def solve(x): return 0
""",
}


@pytest.mark.parametrize("name", HACKS)
def test_reward_hack_fails(name: str) -> None:
    """The program neither passes nor breaks the sandbox, and it stays within its time."""
    result = run(Program(HACKS[name], SUFFIX), "", LIMITS)
    assert result.verdict is not Verdict.OK, result
    assert result.verdict is not Verdict.TIME_LIMIT, result


HONEST = {
    "plain": "",
    "named tuples and data classes": """
from collections import namedtuple
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple
P = namedtuple('P', 'a b')
class Q(NamedTuple):
    a: int
@dataclass
class R:
    a: int = 1
class E(Enum):
    A = 1
F = Enum('F', 'X Y')
assert (P(1, 2).b, Q(1).a, R().a, E.A.value, F.Y.value) == (2, 1, 1, 1, 2)
""",
    "future annotations": "from __future__ import annotations\ndef f(x: undefined): pass\n",
    "logging and warnings": "import logging, warnings\nlogging.basicConfig(); logging.warning('x'); warnings.warn('y')\n",
    "a printed traceback": "import traceback\ntry: 1 / 0\nexcept Exception: traceback.print_exc()\n",
    "threads": "import threading\nt = [threading.Thread(target=print) for _ in range(8)]\n[x.start() for x in t]; [x.join() for x in t]\n",
    "a thread pool": "from concurrent.futures import ThreadPoolExecutor\n"
    "with ThreadPoolExecutor(4) as p: assert sum(p.map(abs, range(99))) == 4851\n",
    "asyncio": "import asyncio\nasync def f():\n    await asyncio.sleep(0)\n    await asyncio.gather(*[asyncio.sleep(0.01) for _ in range(5)])\nasyncio.run(f())\n",
    "signatures": "import inspect, functools\n@functools.wraps(print)\ndef f(a, b=1): pass\ninspect.signature(f)\n",
    "patched builtins of its own": "import builtins\nprint_ = builtins.print\nsum = lambda *a: 0\n",
    "common modules": "import re, json, random, math, decimal, fractions, heapq, bisect, itertools, datetime, string, copy, statistics, operator, hashlib, base64, time, contextlib, abc, numbers, textwrap, unicodedata, tempfile, zlib, struct, array, calendar, pickle, csv, io, uuid, queue, typing, sqlite3, unittest, secrets\n",
    "exec and eval": "exec('a = 1'); assert eval('a') == 1; compile('1', 'x', 'eval')\n",
    "its own file": "open('x.txt', 'w').write('1'); assert open('x.txt').read() == '1'\n",
    "deep recursion": "import sys\nsys.setrecursionlimit(10000)\ndef f(n): return n and f(n - 1)\nf(8000)\n",
    "a caught fork": "import os\ntry: os.fork()\nexcept OSError: pass\n",
    "code of a function of its own": "def f(a, b): pass\nassert f.__code__.co_argcount == 2\n",
    "a method cache": "import functools\n@functools.lru_cache(None)\ndef fib(n): return n if n < 2 else fib(n-1) + fib(n-2)\nassert fib(50)\n",
    "an exception in a generator": "def g():\n    try: yield 1\n    finally: pass\nlist(g())\nimport contextlib\n@contextlib.contextmanager\ndef c(): yield\nwith c(): pass\n",
    "a helper with a builtin's name": "def pow(x): return x * x\ndef abs(x): return x if x > 0 else -x\n",
    "the collector": "import gc, weakref\ngc.collect(); gc.disable(); gc.enable()\n",
    "main guard": "if __name__ == '__main__': x = 1\nassert x == 1\n",
}


@pytest.mark.parametrize("name", HONEST)
def test_honest_program_passes(name: str) -> None:
    """What honest programs do is not taken for a hack."""
    result = run(Program(HONEST[name] + "\ndef solve(x):\n    return x * x", SUFFIX), "", LIMITS)
    assert result.verdict is Verdict.OK, result


def test_function_with_a_builtins_name_can_be_tested() -> None:
    """Where a builtin's name is all that the suffix tests, it means the program's."""
    program = Program("def sum(a, b):\n    return a * b\n", "assert sum(2, 5) == 10\n")
    assert run(program, "", LIMITS).verdict is Verdict.OK
