"""Programs that forge code, frames, descriptors and values to pass: none may (T58)."""

import pytest

from rewardhub.sandbox.runner import Program, run
from rewardhub.sandbox.verdicts import Limits, Verdict

SUFFIX = """

import json
def check(candidate):
    secret = 1764
    assert abs(candidate(42) - secret) < 0.5
    assert candidate(42) == secret
    assert json.dumps(candidate(42)) == '1764'

check(solve)
"""
LIMITS = Limits(time_s=8.0, memory_mb=256, output_kb=64)

HACKS = {
    "an import hook for a module of the check": "import sys\nclass F:\n  def find_spec(s,n,*a):\n    raise SystemExit(0)\nsys.meta_path.insert(0,F())\nsys.modules.pop('json',None)\ndef solve(x):\n    return 0\n",
    "the encoder patched in the call": "import json\ndef solve(x):\n    json.dumps=lambda *a,**k:'1764'\n    class A(int):\n        __eq__=lambda *a:True\n    return A(1764-1)\n",
    "closing every descriptor": "def solve(x):\n    return 0\nimport os\nfor n in range(0,64):\n    try: os.close(n)\n    except OSError: pass\n",
    "stdout over every descriptor": "def solve(x):\n    return 0\nimport os\nfor n in range(3,64):\n    try: os.dup2(1,n)\n    except OSError: pass\n",
    "forged end by writev": "def solve(x):\n    return 0\nimport os\nfor n in range(3,64):\n    try: os.writev(n,[b'end 0\\n'])\n    except OSError: pass",
    "forged end by sendfile": "def solve(x):\n    return 0\nimport os\nopen('x','wb').write(b'end x\\n')\nf=os.open('x',0)\nfor n in range(3,64):\n    try: os.sendfile(n,f,0,9)\n    except OSError: pass",
    "an exception hook of its own": "def solve(x):\n    return 0\nimport sys\nsys.excepthook=lambda *a: None\nraise ValueError",
    "frames in the hook of unraisable exceptions": "def solve(x):\n    return 0\nimport sys\nclass D:\n    def __del__(s): raise ValueError\ndef h(u):\n    f=u.exc_traceback\n    while f: g=f.tb_frame; f=f.tb_next\n    while g:\n        for v in list(g.f_locals.values()): tell(b'end '+str(v).encode())\n        g=g.f_back\nimport os\ndef tell(d):\n    for n in range(256):\n        try: os.write(n,d)\n        except OSError: pass\nsys.unraisablehook=h\nD()\n",
    "frames in the hook of a thread's exceptions": "import os\ndef tell(d):\n    for n in range(256):\n        try: os.write(n,d)\n        except OSError: pass\ndef solve(x):\n    return 0\nimport threading\ndef h(a):\n    a.exc_traceback.tb_frame\nthreading.excepthook=h\nt=threading.Thread(target=lambda:1/0);t.start();t.join()\nraise SystemExit",
    "no output streams": "def solve(x):\n    return 0\nimport sys\nsys.stdout=None\nsys.stderr=None\nraise SystemExit(0)",
    "frames of a generator through inspect": "def solve(x):\n    return 0\nimport inspect\ndef g(): yield\ni=g()\nprint(inspect.getgeneratorlocals(i)); inspect.getframeinfo(inspect.currentframe())\nraise SystemExit",
    "a traceback of its own making": "def solve(x):\n    return 0\nimport types\ntypes.TracebackType(None, None, 0, 0)",
    "the guard among the modules": "def solve(x):\n    return 0\nimport sys\nfor m in list(sys.modules.values()):\n    if m and getattr(m,'__name__','')in('guard','plain','sound','objections'): print(m)\nraise SystemExit",
    "the guard's classes among all": "def solve(x):\n    return 0\nn=[k for k in object.__subclasses__() if k.__module__ in ('guard','sound','objections','plain')]\nassert n",
    "the exception of the comparison patched": "import sys\nfor k in Exception.__subclasses__():\n    if k.__name__=='_Unsound': k.__init_subclass__=None; print('found'); k.__new__=lambda *a: 1\nclass A:\n    __eq__=__lt__=lambda *a: True\n    __sub__=__abs__=lambda s,*o:s\ndef solve(x): return A()\n",
    "a text that equals everything": "class A(str):\n    __eq__=lambda *a:True\n    __hash__=str.__hash__\ndef solve(x): return A('1764')\n",
    "a complex number that is less than everything": "class A(complex):\n    __eq__=lambda *a:True\n    __sub__=lambda s,o: 0\n    __abs__=lambda s: 0.0\n    __lt__=lambda *a: True\ndef solve(x): return A()\n",
    "a data class that equals everything": "from dataclasses import dataclass\n@dataclass\nclass A:\n    a: int=1\n    def __eq__(s,o): return True\n    def __sub__(s,o): return 0\ndef solve(x): return A()\n",
    "an ordering that always holds": "import functools\n@functools.total_ordering\nclass A:\n    def __eq__(s,o): return True\n    def __lt__(s,o): return True\n    def __sub__(s,o): return s\n    def __abs__(s): return s\ndef solve(x): return A()\n",
    "mock.ANY": "from unittest.mock import ANY\ndef solve(x): return ANY\n",
    "a MagicMock that equals everything": "from unittest.mock import MagicMock\nm=MagicMock()\nm.__eq__.return_value=True\nm.__lt__.return_value=True\nm.__abs__.return_value=m\nm.__sub__.return_value=m\ndef solve(x): return m\n",
    "a weak proxy of an object that equals everything": "import weakref\nclass A:\n    __eq__=__lt__=lambda *a:True\n    __sub__=__abs__=lambda s,*o:s\na=A()\ndef solve(x): return weakref.proxy(a)\n",
    "an alias of a class that equals everything": "import types\nclass A:\n    __eq__=__lt__=lambda *a:True\n    __sub__=__abs__=lambda s,*o:s\ndef solve(x): return types.GenericAlias(A,(int,))\n",
    "a stack too small for the check": "import sys\nsys.setrecursionlimit(40)\ndef solve(x): return 0\n",
    "threads that write to the control channel": "def solve(x):\n    return 0\nimport threading,os,time\ndef t():\n    while 1: os.write(3,b'')\nfor i in range(3): threading.Thread(target=t,daemon=True).start()\nraise SystemExit",
    "forged end by splice": "def solve(x):\n    return 0\nimport os\nr,w=os.pipe()\nos.write(w,b'end\\n')\nfor n in range(3,64):\n    try: os.splice(r,n,4)\n    except OSError: pass",
    "what any descriptor can be read for": "import os\ndef tell(d):\n    for n in range(256):\n        try: os.write(n,d)\n        except OSError: pass\ndef solve(x):\n    return 0\n\nfor n in range(64):\n    try:\n        d=os.pread(n,999,0); tell(b'end '+d)\n    except OSError: pass\nraise SystemExit",
    "frames of an asynchronous generator": "def solve(x):\n    return 0\nasync def a():\n    yield\nx=a()\nprint(x.ag_frame)\nraise SystemExit",
    "a frame through attrgetter": "import operator,sys\ndef solve(x):\n    try: 1/0\n    except Exception as e: return operator.attrgetter('__traceback__.tb_frame.f_back.f_locals')(e)['secret']\n",
    "a frame through object.__getattribute__": "import copyreg,pickle\ndef solve(x):\n    try: 1/0\n    except Exception as e:\n        t=e.__traceback__\n        return object.__getattribute__(t,'tb_frame').f_back.f_locals['secret']\n",
    "a frame through the descriptor of its type": "import types\ndef solve(x):\n    try: 1/0\n    except Exception as e:\n        return types.TracebackType.__dict__['tb_frame'].__get__(e.__traceback__).f_back.f_locals['secret']\n",
    "a frame through getattr_static": "import inspect\ndef solve(x):\n    try: 1/0\n    except Exception as e:\n        d=inspect.getattr_static(e.__traceback__,'tb_frame')\n        return type(d).__get__(d,e.__traceback__,type(e.__traceback__)).f_back.f_locals['secret']\n",
    "a frame through a pattern": "def solve(x):\n    try: 1/0\n    except Exception as e:\n        match e.__traceback__:\n            case object(tb_frame=f): return f.f_back.f_locals['secret']\n",
    "code that claims a file of a library elsewhere": 'import linecache\ncode=compile(\'import sys\\ndef solve(x): return sys._getframe(1).f_locals["secret"]\', \'/usr/lib/python3.11/x.py\',\'exec\')\nexec(code)\n',
    "code that claims the file of the check": 'code=compile(\'import sys\\ndef solve(x): return sys._getframe(1).f_locals["secret"]\', \'<suffix>\',\'exec\')\nexec(code)\n',
    "code whose file name lies": 'class S(str):\n    def startswith(s,*a): return False\nimport os\ncode=compile(\'import sys\\ndef solve(x): return sys._getframe(1).f_locals["secret"]\', S(os.__file__),\'exec\')\nexec(code)\n',
    "code whose file name is bytes": 'import os\ncode=compile(\'import sys\\ndef solve(x): return sys._getframe(1).f_locals["secret"]\', os.__file__.encode(),\'exec\')\nexec(code)\n',
    "code that claims the check in bytes": 'code=compile(\'import sys\\ndef solve(x): return sys._getframe(1).f_locals["secret"]\', b\'<suffix>\',\'exec\')\nexec(code)\n',
    "code whose file name is a path": 'class P:\n    def __fspath__(s): return \'<suffix>\'\ncode=compile(\'import sys\\ndef solve(x): return sys._getframe(1).f_locals["secret"]\', P(),\'exec\')\nexec(code)\n',
    "code from a tree that claims the check": 'import ast\nt=ast.parse(\'import sys\\ndef solve(x): return sys._getframe(1).f_locals["secret"]\')\nexec(compile(t,\'<suffix>\',\'exec\'))\n',
    "a module in a file named like the check": 'import importlib.util,sys,os\nos.mkdir(\'<suffix>\') if 0 else None\nopen(\'<suffix>\',\'w\').write(\'import sys\\ndef solve(x): return sys._getframe(1).f_locals["secret"]\')\nimport importlib.machinery as m\nsolve=m.SourceFileLoader(\'q\',\'<suffix>\').load_module().solve\n',
    "a script in a file named like the check": 'import runpy\nopen(\'<suffix>\',\'w\').write(\'import sys\\ndef solve(x): return sys._getframe(1).f_locals["secret"]\')\nsolve=runpy.run_path(\'<suffix>\')[\'solve\']\n',
    "compiled code that claims the check": 'import py_compile,importlib.machinery as m\nopen(\'q.py\',\'w\').write(\'import sys\\ndef solve(x): return sys._getframe(1).f_locals["secret"]\')\npy_compile.compile(\'q.py\',cfile=\'q.pyc\',dfile=\'<suffix>\')\nsolve=m.SourcelessFileLoader(\'q\',\'q.pyc\').load_module().solve\n',
    "a module in an archive": 'import zipfile,sys\nz=zipfile.ZipFile(\'a.zip\',\'w\');z.writestr(\'qq.py\',\'import sys\\ndef solve(x): return sys._getframe(1).f_locals["secret"]\');z.close()\nsys.path.insert(0,\'a.zip\')\nfrom qq import solve\n',
    "a module in a folder named like the library": 'import os,sys\nlib=os.path.dirname(os.__file__)\nos.makedirs(\'.\'+lib,exist_ok=True)\nopen(\'.\'+lib+\'/qq.py\',\'w\').write(\'import sys\\ndef solve(x): return sys._getframe(1).f_locals["secret"]\')\nos.chroot(\'.\') if 0 else None\nsys.path.insert(0,\'.\'+lib)\nfrom qq import solve\n',
    "a module by a path through the library": 'import os,sys\nlib=os.path.dirname(os.__file__)\nopen(\'qq.py\',\'w\').write(\'import sys\\ndef solve(x): return sys._getframe(1).f_locals["secret"]\')\nsys.path.insert(0,lib+\'/../../../../../../../../../../../../tmp\')\nfrom qq import solve\n',
    "a pickle that runs code": "import pickle\nclass R:\n    def __reduce__(s): return (exec,('import sys',))\npickle.loads(pickle.dumps(R()))\nraise SystemExit\ndef solve(x):\n    return 0\n",
    "frames through timeit": "import timeit\ndef solve(x):\n    r=[]\n    timeit.timeit(lambda: r.append(__import__('sys')._getframe(3).f_locals.get('secret')),number=1)\n    return r[0]\n",
    "places of a warning": "import warnings\ndef solve(x):\n    got=[]\n    class G(dict):\n        pass\n    warnings.showwarning=lambda m,c,f,l,*a: got.append(f)\n    warnings.warn('x',stacklevel=2)\n    import linecache\n    return 0\n",
    "the debugger": "import pdb\nclass P(pdb.Pdb): pass\ndef solve(x):\n    P().set_trace()\n    return 0\n",
    "a profiler in C": "import cProfile\np=cProfile.Profile()\np.enable()\ndef solve(x):\n    return 0\n",
    "traces of memory": "import tracemalloc\ntracemalloc.start()\ndef solve(x):\n    return 0\nraise SystemExit",
    "a call with tracing": "import sys\ndef solve(x):\n    return 0\nsys.call_tracing(print,())\nraise SystemExit",
    "a breakpoint": "def solve(x):\n    return 0\nbreakpoint()",
    "a decimal that equals everything": "import decimal\nclass A(decimal.Decimal):\n    __eq__=__lt__=lambda *a: True\n    __sub__=__abs__=lambda s,*o:s\ndef solve(x): return A(1)\n",
    "a test module of the interpreter": "def solve(x):\n    import _testcapi\n    return 0\n",
    "a fraction that equals everything": "from fractions import Fraction\nclass F(Fraction): pass\nF.__eq__=lambda *a: True\nF.__sub__=lambda s,o:0\ndef solve(x): return F(1)\n",
    "a fraction of numbers that equal everything": "from fractions import Fraction\nclass A(int):\n    __eq__=__lt__=lambda *a:True\n    __sub__=__abs__=__mul__=__rmul__=lambda s,*o:s\nf=Fraction(1)\nf._numerator=A(1764)\ndef solve(x): return f\n",
}  # fmt: skip


@pytest.mark.parametrize("name", HACKS)
def test_forgery_fails(name: str) -> None:
    """The program neither passes nor breaks the sandbox, and it stays within its time."""
    result = run(Program(HACKS[name], SUFFIX), "", LIMITS)
    assert result.verdict is not Verdict.OK, result
    assert result.verdict is not Verdict.TIME_LIMIT, result


HONEST = {
    "imports of many modules": "import unittest, asyncio, sqlite3, xml.dom.minidom, difflib, argparse, tomllib, zipfile, plistlib",
    "a module of its own": "open('m.py', 'w').write('def f(): return 1')\nimport sys\nsys.path.insert(0, '.')\nimport m\nassert m.f() == 1",
    "functions made of code": "import types\ndef f(): return 1\nassert types.FunctionType(f.__code__, {})() == 1",
    "data classes and enumerations": "import dataclasses, enum\n@dataclasses.dataclass(frozen=True, order=True)\nclass P:\n    a: int = 0\nE = enum.Enum('E', 'A B')\nassert P(1) > P()",
    "a tree compiled": "import ast\nexec(compile(ast.parse('y = 1'), 'tree', 'exec'))\nassert y == 1",
    "a test of its own": "import unittest\nclass T(unittest.TestCase):\n    def test_a(self): self.assertEqual(1, 1)\nassert unittest.TextTestRunner().run(unittest.defaultTestLoader.loadTestsFromTestCase(T)).wasSuccessful()",
}  # fmt: skip


@pytest.mark.parametrize("name", HONEST)
def test_honest_program_passes(name: str) -> None:
    """What honest programs do with code and modules is not taken for a forgery."""
    result = run(Program(HONEST[name] + "\ndef solve(x):\n    return x * x", SUFFIX), "", LIMITS)
    assert result.verdict is Verdict.OK, result
