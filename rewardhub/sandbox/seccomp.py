"""The system-call filter of a sandboxed program.

Denied: making processes (threads stay), installing signal handlers (a Python handler would be handed
the frame of whatever runs, the guard's included), sockets, memory outside the address-space limit,
and everything that reaches into the kernel's configuration or into other processes.
"""

import ctypes
import struct

from rewardhub.sandbox.steps import Step

_X86_64 = {
    "clone": 56, "clone3": 435, "fork": 57, "vfork": 58, "rt_sigaction": 13, "socket": 41, "ptrace": 101,
    "process_vm_readv": 310, "process_vm_writev": 311, "pidfd_getfd": 438, "mount": 165, "umount2": 166,
    "pivot_root": 155, "chroot": 161, "unshare": 272, "setns": 308, "mount_setattr": 442, "open_tree": 428,
    "move_mount": 429, "fsopen": 430, "bpf": 321, "perf_event_open": 298, "userfaultfd": 323,
    "io_uring_setup": 425, "keyctl": 250, "add_key": 248, "request_key": 249, "kexec_load": 246,
    "init_module": 175, "finit_module": 313, "delete_module": 176, "reboot": 169, "open_by_handle_at": 304,
    "personality": 135, "memfd_create": 319, "memfd_secret": 447, "shmget": 29,
}  # fmt: skip
_AARCH64 = {
    "clone": 220, "clone3": 435, "rt_sigaction": 134, "socket": 198, "ptrace": 117,
    "process_vm_readv": 270, "process_vm_writev": 271, "pidfd_getfd": 438, "mount": 40, "umount2": 39,
    "pivot_root": 41, "chroot": 51, "unshare": 97, "setns": 268, "mount_setattr": 442, "open_tree": 428,
    "move_mount": 429, "fsopen": 430, "bpf": 280, "perf_event_open": 241, "userfaultfd": 282,
    "io_uring_setup": 425, "keyctl": 219, "add_key": 217, "request_key": 218, "kexec_load": 104,
    "init_module": 105, "finit_module": 273, "delete_module": 106, "reboot": 142, "open_by_handle_at": 265,
    "personality": 92, "memfd_create": 279, "memfd_secret": 447, "shmget": 194,
}  # fmt: skip
_MACHINES = {"x86_64": (0xC000003E, _X86_64), "aarch64": (0xC00000B7, _AARCH64)}

_EPERM, _EAGAIN, _ENOSYS = 1, 11, 38
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16
_CLONE_THREAD = 0x10000
_NAMESPACES = 0x7E020000
_X32_BIT = 0x40000000
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _MODE_FILTER = 38, 22, 2


def _op(code: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, operand)


def assemble(machine: str, allowed: frozenset[str] = frozenset()) -> bytes:
    """The filter as classic BPF for ``x86_64`` or ``aarch64``; raises ``KeyError`` for another machine.

    ``allowed`` calls are not denied; with ``clone`` among them processes may be made. The numbers are found
    by halving: the kernel tries a new filter with every call there is.
    """
    architecture, numbers = _MACHINES[machine]
    clone = [_op(_LOAD, _FIRST_ARGUMENT_AT), _op(_ANY_BIT, _NAMESPACES, 0, 1), _op(_RETURN, _ERRNO | _EPERM)]
    if "clone" not in allowed:
        # Without the flag of a thread it makes a process; with that of a namespace it would make room to escape.
        clone += [_op(_ANY_BIT, _CLONE_THREAD, 1), _op(_RETURN, _ERRNO | _EAGAIN)]
    denied = {name: number for name, number in numbers.items() if name not in allowed or name in ("clone", "clone3")}
    blocks = {number: [_op(_RETURN, _ERRNO | _EPERM)] for number in denied.values()}
    blocks[numbers["clone3"]] = [_op(_RETURN, _ERRNO | _ENOSYS)]
    blocks[numbers["clone"]] = [*clone, _op(_RETURN, _ALLOW)]
    program = [
        _op(_LOAD, _ARCHITECTURE_AT), _op(_EQUAL, architecture, 1), _op(_RETURN, _KILL),
        _op(_LOAD, _NUMBER_AT), _op(_AT_LEAST, _X32_BIT, 0, 1), _op(_RETURN, _KILL),
        *_search(sorted(blocks.items())),
    ]  # fmt: skip
    return b"".join(program)


def _search(blocks: list[tuple[int, list[bytes]]]) -> list[bytes]:
    """Runs the block of the loaded number, all others are allowed."""
    if len(blocks) == 1:
        number, block = blocks[0]
        return [_op(_EQUAL, number, 0, len(block)), *block, _op(_RETURN, _ALLOW)]
    middle = len(blocks) // 2
    low, high = _search(blocks[:middle]), _search(blocks[middle:])
    return [_op(_AT_LEAST, blocks[middle][0], len(low), 0), *low, *high]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def steps(libc: ctypes.CDLL, code: bytes) -> list[Step]:
    """Filters the process that takes them and what it executes, for good."""
    program, zero = _Program(len(code) // 8, code), ctypes.c_ulong(0)
    mode = ctypes.c_ulong(_MODE_FILTER)
    return [
        ("no_new_privs", libc.prctl, (_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), zero, zero, zero)),
        ("seccomp", libc.prctl, (_PR_SET_SECCOMP, mode, ctypes.byref(program), zero, zero)),
    ]
