"""More programs against the kernel, the compiler, the shell, Node and SQLite: each fails, as a verdict (T50-T59)."""

import time

import pytest

from rewardhub.sandbox.languages import languages
from rewardhub.sandbox.runner import Program, run
from rewardhub.sandbox.verdicts import Limits, Verdict

SHORT = Limits(time_s=2.0, memory_mb=256, output_kb=64)

C = (
    "#define _GNU_SOURCE\n#include <stdio.h>\n#include <stdlib.h>\n#include <unistd.h>\n#include <string.h>\n#include <errno.h>\n"
    "#include <fcntl.h>\n#include <sched.h>\n#include <sys/syscall.h>\n#include <sys/stat.h>\n#include <sys/mman.h>\n"
    "#include <sys/socket.h>\n#include <sys/resource.h>\n"
)


def refused(call: str) -> tuple[str, str]:
    """A C program that passes only if the call succeeds."""
    return "c", C + "int main(){if((long)(" + call + ")<0)abort();return 0;}"


HOSTILE = {
    "keys": refused('syscall(SYS_add_key,"user","a","b",1,-3)'),
    "bpf": refused("syscall(SYS_bpf,0,0,0)"),
    "performance events": refused("syscall(SYS_perf_event_open,0,0,-1,-1,0)"),
    "user faults": refused("syscall(SYS_userfaultfd,0)"),
    "io_uring": refused("syscall(SYS_io_uring_setup,1,0)"),
    "reboot": refused("syscall(SYS_reboot,0xfee1dead,672274793,0x1234567,0)"),
    "open by handle": refused("syscall(SYS_open_by_handle_at,AT_FDCWD,0,0)"),
    "kernel module": refused('syscall(SYS_init_module,0,0,"")'),
    "kexec": refused("syscall(SYS_kexec_load,0,0,0,0)"),
    "swap": refused('syscall(SYS_swapon,"/tmp/x",0)'),
    "clock": refused('syscall(SYS_settimeofday,"0123456789abcdef",0)'),
    "host name": refused('sethostname("x",1)'),
    "change the root": refused('chroot("/tmp")'),
    "pivot the root": refused('syscall(SYS_pivot_root,".",".")'),
    "enter a namespace": refused("setns(0,0)"),
    "process in a new namespace": refused("syscall(SYS_clone,CLONE_NEWUSER|17,0,0,0,0)"),
    "clone3": refused("syscall(SYS_clone3,0,0)"),
    "memory of another": refused("syscall(SYS_process_vm_readv,1,0,0,0,0,0)"),
    "descriptor of another": refused("syscall(SYS_pidfd_getfd,syscall(SYS_pidfd_open,1,0),0,0)"),
    "personality": refused("syscall(SYS_personality,0x0040000)"),
    "shared memory": refused("syscall(SYS_shmget,1,1<<20,01666)"),
    "posix shared memory": refused('shm_open("/x",O_CREAT|O_RDWR,0600)'),
    "memory file": refused('syscall(SYS_memfd_create,"x",0)'),
    "IPv6": refused("socket(AF_INET6,SOCK_DGRAM,0)"),
    "netlink": refused("socket(AF_NETLINK,SOCK_RAW,0)"),
    "packets": refused("socket(AF_PACKET,SOCK_RAW,0)"),
    "vsock": refused("socket(40,SOCK_STREAM,0)"),
    "device": refused('mknod("x",S_IFBLK|0600,8<<8)'),
    "more processes": refused("setrlimit(RLIMIT_NPROC,&(struct rlimit){9999,9999})"),
    "more files": refused("setrlimit(RLIMIT_NOFILE,&(struct rlimit){9999,9999})"),
    "no core limit": refused("setrlimit(RLIMIT_CORE,&(struct rlimit){-1,-1})"),
    "real time": refused("sched_setscheduler(0,SCHED_FIFO,&(struct sched_param){1})"),
    "higher priority": refused("setpriority(0,0,-10)"),
    "root": refused("setresuid(0,0,0)"),
    "group of root": refused("setgid(0)"),
    "a set-uid file": refused('(open("x",O_CREAT|O_WRONLY,0600),chown("x",0,0))'),
    "a file of the library": refused('open("/usr/lib/x",O_CREAT|O_WRONLY,0600)'),
    "a link to the host": refused('(symlink("/etc/passwd","x"),open("x",O_RDONLY))'),
    "any link of its own": refused('(close(open("y",O_CREAT|O_WRONLY,0600)),symlink("y","x"),open("x",O_RDONLY))'),
    "a hard link to the library": refused('link("/bin/sh","x")'),
    "the kernel's log": refused("syscall(SYS_syslog,3,0,0)"),
    "kernel memory": refused('open("/dev/mem",O_RDONLY)'),
    "a terminal": refused('open("/dev/tty",O_RDWR)'),
    "the host's processes": refused('open("/proc/self/status",O_RDONLY)'),
    "the system's settings": refused('open("/sys/kernel",O_RDONLY)'),
    "the old root": refused('open("/old",O_RDONLY)'),
    "a path out": refused('open("/../../../../etc/shadow",O_RDONLY)'),
    "vfork bomb": ("c", C + "int main(){for(;;)if(vfork()==0)_exit(0);else if(errno)abort();}"),
    "thread bomb": ("c", C + "#include <pthread.h>\nvoid*f(void*x){pause();return 0;}\nint main(){pthread_t t;for(int i=0;i<100000;i++)if(pthread_create(&t,0,f,0))abort();}"),
    "locked memory": ("c", C + "int main(){if(mlockall(3))abort();for(;;)malloc(1<<20);}"),
    "a huge map": ("c", C + "int main(){if(mmap(0,1L<<40,3,34,-1,0)==MAP_FAILED)abort();}"),
    "a large file": ("c", C + 'int main(){int f=open("x",O_CREAT|O_RDWR,0600);if(ftruncate(f,1L<<40))abort();}'),
    "many files": ("c", C + 'int main(){char n[20];for(int i=0;i<1000000;i++){sprintf(n,"f%d",i);if(open(n,O_CREAT,0600)<0)abort();}}'),
    "endless stderr": ("c", C + 'int main(){for(;;)fputs("xxxxxxxxxxxxxxxxxxxxxxxx",stderr);}'),
    "a closed stdout": ("c", C + "int main(){close(1);close(2);for(;;)pause();}"),
    "an illegal instruction": ("c", "int main(){__builtin_trap();}"),
    "includes a folder": ("c", '#include "/etc"\nint main(){}'),
    "includes itself": ("c", "#include __FILE__\nint main(){}"),
    "includes the compiler's input": ("c", '#include "/dev/stdin"\nint main(){}'),
    "embeds a secret": ("c", '__asm__(".incbin \\"/etc/passwd\\"");int main(){}'),
    "macro bomb": ("c", "#define A B B B B B B B B B B\n#define B D D D D D D D D D D\n#define D E E E E E E E E E E\n#define E F F F F F F F F F F\n#define F G G G G G G G G G G\n#define G I I I I I I I I I I\n#define I J J J J J J J J J J\n#define J 1+1+1+1+1+1+1+1+1+1+\nint x=A 1;int main(){}"),
    "constant expression without end": ("cpp", "constexpr int f(int n){return n?f(n-1)+f(n-1):1;}constexpr int x=f(60);int main(){}"),
    "template of templates": ("cpp", "template<class T>struct A{A<A<T>>*p;int f(){return p->f();}};int main(){A<int>a;return a.f();}"),
    "shell kills all": ("bash", "kill -9 -1; exit 1"),
    "shell raises its limits": ("bash", "ulimit -v unlimited && ulimit -u unlimited"),
    "shell preloads": ("bash", "export LD_PRELOAD=/tmp/x.so; /bin/true && exit 3"),
    "shell forges the report": ("bash", "for n in 3 4 5 6 7 8 9; do echo 'done 0 0 0' >&$n; done 2>/dev/null; exit 3"),
    "shell lists the host": ("bash", "ls /root /home /etc /proc /sys"),
    "shell sockets": ("bash", "exec 9<>/dev/udp/169.254.169.254/80"),
    "shell devices": ("bash", "cat /dev/sda || cat /dev/mem"),
    "shell here-document without end": ("bash", "while :; do cat <<< \"$(printf 'x%.0s' {1..100000})\"; done"),
    "shell recursion": ("bash", "f() { f; }; f"),
    "shell nested expansion": ("bash", "x=xxxxxxxxxx; for i in {1..60}; do x=$x$x; done"),
    "node spawns": ("javascript", "const r=require('child_process').spawnSync('sh',['-c','id']);if(r.error)throw r.error"),
    "node worker bomb": ("javascript", "const w=require('worker_threads');for(;;)new w.Worker('for(;;);',{eval:true})"),
    "node kills": ("javascript", "process.kill(-1,9);throw 1"),
    "node binding": ("javascript", "process.binding('spawn_sync').spawn({file:'/bin/sh',args:['sh','-c','id'],stdio:[]}).pid||(()=>{throw 1})()"),
    "node fetches": ("javascript", "fetch('http://127.0.0.1/').catch(e=>process.exit(3))"),
    "node wasm memory": ("javascript", "const a=[];for(;;)a.push(new WebAssembly.Memory({initial:1000}))"),
    "node regular expression": ("javascript", "/^(a+)+$/.test('a'.repeat(50)+'b')"),
    "node output": ("javascript", "for(;;)require('fs').writeSync(1,'x'.repeat(10000))"),
    "node timer": ("javascript", "setInterval(()=>{},1000)"),
    "sql attaches the host": ("sql", "ATTACH '/etc/passwd' AS p; SELECT * FROM p.sqlite_master;"),
    "sql attaches the library": ("sql", "ATTACH '/usr/lib/x.db' AS p; CREATE TABLE p.t(a);"),
    "sql reads a file": ("sql", "SELECT length(readfile('/etc/passwd')) + 1/0;SELECT * FROM missing;"),
    "sql runs a command": ("sql", ".system id\nSELECT * FROM missing;"),
    "sql loads an extension": ("sql", "SELECT load_extension('/tmp/x.so');"),
    "sql blob": ("sql", "SELECT length(zeroblob(1<<40));"),
    "sql pattern": ("sql", "WITH RECURSIVE t(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM t LIMIT 100000000) SELECT sum(x) FROM t, t AS u;"),
    "sql output": ("sql", "WITH RECURSIVE t(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM t) SELECT hex(randomblob(1000)) FROM t;"),
    "sql into a pipe": ("sql", ".output |id\nSELECT 1;\n.output\nSELECT * FROM missing;"),
}  # fmt: skip


SLOW = {"macro bomb"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in HOSTILE]
)
def test_hostile_native_program_fails(name: str) -> None:
    """Contained in time, without a byte of the host in what it says."""
    language, text = HOSTILE[name]
    if language not in languages():
        pytest.skip(f"{language} is not installed")
    begun = time.monotonic()
    result = run(Program(text, language=language), "", SHORT)
    assert time.monotonic() - begun < 45
    assert result.verdict is not Verdict.OK, result
    said = result.stdout + result.stderr
    assert b"root:" not in said
    assert b"uid=" not in said.replace(b"uid=1000", b""), said


def test_processes_share_their_memory() -> None:
    """T51: twenty processes that each keep to the limit pass it together; an honest pipeline does not."""
    if "bash" not in languages():
        pytest.skip("bash is not installed")
    each = "(x=$(head -c 60000000 /dev/zero | tr '\\0' x); sleep 9) &"
    bomb = run(Program(f"for i in {{1..8}}; do {each} done; wait", language="bash"), "", Limits(8.0, 128))
    assert bomb.verdict is Verdict.MEMORY_LIMIT, bomb
    assert "together" in bomb.reason
    honest = run(Program("seq 1000 | sort -n | tail -1", language="bash"), "", Limits(8.0, 128))
    assert (honest.verdict, honest.stdout) == (Verdict.OK, b"1000\n")
