"""Programs that are not Python: they run, their compilers are contained, hostile ones fail."""

import time

import pytest

from rewardhub.sandbox import languages as cards
from rewardhub.sandbox import runner
from rewardhub.sandbox.languages import languages
from rewardhub.sandbox.launch import FULL
from rewardhub.sandbox.runner import Program, run
from rewardhub.sandbox.verdicts import Limits, Verdict
from rewardhub.types import Group, Response, Score, Status
from rewardhub.verifiers.code_exec import code

SHORT = Limits(time_s=1.5, memory_mb=128, output_kb=64)

ADD = {
    "c": '#include <stdio.h>\nint main(){int a,b;scanf("%d %d",&a,&b);printf("%d\\n",a+b);return 0;}',
    "cpp": '#include <iostream>\nint main(){int a,b;std::cin>>a>>b;std::cout<<a+b<<"\\n";}',
    "javascript": "const [a,b]=require('fs').readFileSync(0,'utf8').split(' ').map(Number);console.log(a+b)",
    "bash": "read a b; echo $((a+b)) | cat",
    "sql": "create table t(a, b);\ninsert into t values (1, 2);\nselect a + b from t;\n",
}


def need(language: str) -> None:
    """Skips where the language is not installed or there is no full isolation."""
    if language not in languages():
        pytest.skip(f"{language} is not installed")
    if runner.isolation() != FULL:
        pytest.skip("this machine offers no namespaces")


def score(text: str, **reference: object) -> Score:
    """The score of one response."""
    return code.bind({}).score(Group("g", responses=(Response(text),), reference=reference), [0]).row(0)


@pytest.mark.parametrize("language", ADD)
def test_program_is_compiled_and_run(language: str) -> None:
    """A right program passes all its cases, a wrong one fails."""
    need(language)
    cases = [{"stdin": "1 2\n", "stdout": "3"}] * 3
    assert score(f"```\n{ADD[language]}\n```", language=language, cases=cases).value == 1.0
    wrong = score(ADD[language].replace("a+b", "a-b").replace("a + b", "a - b"), language=language, cases=cases)
    assert (wrong.value, wrong.details["verdict"]) == (0.0, "wrong_answer")


@pytest.mark.parametrize("language", ADD)
def test_only_output_speaks(language: str) -> None:
    """T58: without an expected stdout an exit code would decide, so the reference is refused."""
    need(language)
    result = score("x", language=language, suffix="int main() {}")
    assert (result.value, result.status, result.details["field"]) == (
        None,
        Status.REFERENCE_UNPARSEABLE,
        "reference.cases",
    )


def test_large_source() -> None:
    """Half a megabyte of source arrives whole."""
    need("bash")
    text = "#" + "x" * 500_000 + "\necho end\n"
    assert run(Program(text, language="bash")).stdout == b"end\n"


def test_missing_language_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The status says which command is not installed."""
    monkeypatch.setattr(cards.shutil, "which", lambda *_, **__: None)
    cards.languages.cache_clear()
    try:
        result = score("x", language="javascript", cases=[{"stdout": "1"}])
        assert result.status is Status.INVALID_INPUT
        assert "javascript is not installed here: no node" in result.details["reason"]
    finally:
        cards.languages.cache_clear()


C = "#include <stdio.h>\n#include <stdlib.h>\n#include <unistd.h>\n#include <string.h>\n#include <signal.h>\n"
HOSTILE = {
    "endless loop": ("c", "int main(){for(;;);}", Verdict.TIME_LIMIT),
    "sleep": ("c", C + "int main(){sleep(60);}", Verdict.TIME_LIMIT),
    "ignores signals": ("c", C + "int main(){for(int i=1;i<65;i++)signal(i,SIG_IGN);for(;;);}", Verdict.TIME_LIMIT),
    "fork bomb": ("c", C + "int main(){while(1)if(fork()<0)abort();}", Verdict.RUNTIME_ERROR),
    "heap": ("c", C + "int main(){for(;;){char*p=malloc(1<<20);memset(p,1,1<<20);}}", Verdict.MEMORY_LIMIT),
    "heap of C++": ("cpp", "#include <vector>\nint main(){std::vector<int>v;for(;;)v.resize(v.size()*2+1);}", Verdict.MEMORY_LIMIT),
    "stack": ("c", "int f(int n){volatile char x[1000];x[0]=n;return f(n+1)+x[0];}\nint main(){return f(0);}", Verdict.RUNTIME_ERROR),
    "segmentation fault": ("c", "int main(){*(volatile int*)0=1;}", Verdict.RUNTIME_ERROR),
    "exit code": ("c", "int main(){return 3;}", Verdict.RUNTIME_ERROR),
    "endless stdout": ("c", C + 'int main(){for(;;)puts("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");}', Verdict.OUTPUT_LIMIT),
    "secrets of the host": ("c", C + 'int main(){FILE*f=fopen("/etc/passwd","r");if(!f)abort();}', Verdict.RUNTIME_ERROR),
    "processes of the host": ("c", C + 'int main(){if(access("/proc/1",0))abort();}', Verdict.RUNTIME_ERROR),
    "parent": ("c", C + "int main(){if(getppid()==0||kill(getppid(),9))abort();}", Verdict.RUNTIME_ERROR),
    "everyone": ("c", C + "int main(){if(kill(-1,9))abort();}", Verdict.RUNTIME_ERROR),
    "socket": ("c", C + "#include <sys/socket.h>\nint main(){if(socket(AF_INET,SOCK_STREAM,0)<0)abort();}", Verdict.RUNTIME_ERROR),
    "unix socket": ("c", C + "#include <sys/socket.h>\nint main(){if(socket(AF_UNIX,SOCK_STREAM,0)<0)abort();}", Verdict.RUNTIME_ERROR),
    "mount": ("c", C + '#include <sys/mount.h>\nint main(){if(mount("x","/tmp","tmpfs",0,0))abort();}', Verdict.RUNTIME_ERROR),
    "namespaces": ("c", "#define _GNU_SOURCE\n#include <sched.h>\n#include <stdlib.h>\nint main(){if(unshare(CLONE_NEWUSER))abort();}", Verdict.RUNTIME_ERROR),
    "trace": ("c", C + "#include <sys/ptrace.h>\nint main(){if(ptrace(PTRACE_TRACEME,0,0,0))abort();}", Verdict.RUNTIME_ERROR),
    "root": ("c", C + "int main(){if(setuid(0))abort();}", Verdict.RUNTIME_ERROR),
    "root folder": ("c", C + 'int main(){FILE*f=fopen("/x","w");if(!f)abort();}', Verdict.RUNTIME_ERROR),
    "runs what it wrote": ("c", C + 'int main(){FILE*f=fopen("x","w");fputs("#!/bin/sh\\n",f);fclose(f);chdir("/tmp");execl("x","x",NULL);abort();}', Verdict.RUNTIME_ERROR),
    "descriptors of the runner": ("c", C + 'int main(){for(int i=3;i<1000;i++)if(write(i,"done 0 0 0\\n",11)>0)return 0;abort();}', Verdict.RUNTIME_ERROR),
    "compiler reads without end": ("c", '#include "/dev/zero"\nint main(){}', Verdict.COMPILE_ERROR),
    "compiler reads the host": ("c", '#include "/etc/passwd"\nint main(){}', Verdict.COMPILE_ERROR),
    "huge binary": ("c", "char x[1<<30]={1};int main(){}", Verdict.COMPILE_ERROR),
    "endless templates": ("cpp", "template<int N>struct A{static const int v=A<N+1>::v;};int main(){return A<0>::v;}", Verdict.COMPILE_ERROR),
    "syntax error": ("cpp", "int main({", Verdict.COMPILE_ERROR),
    "shell fork bomb": ("bash", "f() { f | f & }; f; wait; sleep 60", None),
    "shell background daemon": ("bash", "setsid sleep 60 & sleep 60", Verdict.TIME_LIMIT),
    "shell fills the disk": ("bash", "cat /dev/zero > x", Verdict.RUNTIME_ERROR),
    "shell network": ("bash", "exec 9<>/dev/tcp/127.0.0.1/80", Verdict.RUNTIME_ERROR),
    "shell secrets": ("bash", "cat /etc/shadow /root/.bashrc /proc/1/environ", Verdict.RUNTIME_ERROR),
    "shell endless output": ("bash", "yes", Verdict.OUTPUT_LIMIT),
    "shell set-uid": ("bash", "exec su -c id", Verdict.RUNTIME_ERROR),
    "node heap": ("javascript", "const a=[];for(;;)a.push(new Array(1e6).fill(1.5))", None),
    "node loop": ("javascript", "for(;;);", Verdict.TIME_LIMIT),
    "node process": ("javascript", "require('child_process').execSync('id')", Verdict.RUNTIME_ERROR),
    "node network": ("javascript", "require('net').connect(80,'127.0.0.1')", Verdict.RUNTIME_ERROR),
    "node secrets": ("javascript", "require('fs').readFileSync('/etc/passwd')", Verdict.RUNTIME_ERROR),
    "sql loop": ("sql", "with recursive t(x) as (select 1 union all select x+1 from t) select count(*) from t;", Verdict.TIME_LIMIT),
    "sql shell": ("sql", ".shell id\nselect * from missing;", Verdict.RUNTIME_ERROR),
    "sql file": ("sql", "attach '/etc/x.db' as x; create table x.t(a);", Verdict.RUNTIME_ERROR),
    "sql syntax": ("sql", "selec 1;", Verdict.RUNTIME_ERROR),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_program_is_contained(name: str) -> None:
    """T50-T59: the right verdict, within the time, and nothing of the host in the output."""
    language, text, verdict = HOSTILE[name]
    need(language)
    begun = time.monotonic()
    result = run(Program(text, language=language), "", SHORT)
    assert time.monotonic() - begun < 40
    assert result.verdict is not Verdict.OK, result
    assert verdict in (None, result.verdict), result
    assert b"root:" not in result.stdout + result.stderr
    if verdict is Verdict.TIME_LIMIT:
        assert SHORT.time_s <= result.wall_s < SHORT.time_s + 2.0


def test_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """All cases of a problem share one compilation."""
    need("c")
    runner._built.cache_clear()
    cases = [{"stdin": f"{n} 1", "stdout": str(n + 1)} for n in range(8)]
    assert score(ADD["c"], language="c", cases=cases).value == 1.0
    assert runner._built.cache_info().misses == 1
