"""The system-call filter, run on an interpreter of its byte code for both machines."""

import struct

import pytest

from rewardhub.sandbox import seccomp

ALLOW, KILL, EPERM, EAGAIN, ENOSYS = 0x7FFF0000, 0x80000000, 0x50001, 0x5000B, 0x50026
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
CLONE_THREAD = 0x10000


def decide(code: bytes, architecture: int, number: int, argument: int = 0) -> int:
    """What the filter returns for a system call: classic BPF as the kernel reads it."""
    data = struct.pack("IIQQ", number, architecture, 0, argument)
    program = list(struct.iter_unpack("HBBI", code))
    accumulator, position = 0, 0
    while True:
        operation, if_true, if_false, operand = program[position]
        position += 1
        if operation == 0x06:
            return operand
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("I", data, operand)
            continue
        holds = {0x15: accumulator == operand, 0x35: accumulator >= operand, 0x45: bool(accumulator & operand)}
        position += if_true if holds[operation] else if_false


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_filter(machine: str) -> None:
    """Threads may be made, processes not; the listed calls are refused, all others allowed."""
    code, architecture = seccomp.assemble(machine), ARCHITECTURES[machine]
    numbers = dict(seccomp._MACHINES[machine][1])
    clone, clone3 = numbers.pop("clone"), numbers.pop("clone3")
    assert decide(code, architecture, clone, CLONE_THREAD | 0x100) == ALLOW
    assert decide(code, architecture, clone, 0x11) == EAGAIN
    assert decide(code, architecture, clone3) == ENOSYS
    for number in numbers.values():
        assert decide(code, architecture, number) == EPERM
    others = set(range(0x40000000 >> 20)) - set(numbers.values()) - {clone, clone3}
    assert all(decide(code, architecture, number) == ALLOW for number in others)


def test_foreign_architectures_die() -> None:
    """A call by another architecture's table, where numbers mean something else, ends the process."""
    code = seccomp.assemble("x86_64")
    assert decide(code, ARCHITECTURES["aarch64"], 0) == KILL
    assert decide(code, 0x40000003, 0) == KILL
    assert decide(code, ARCHITECTURES["x86_64"], 0x40000000 | 57) == KILL


def test_unknown_machine_is_refused() -> None:
    """No filter is better than a wrong one."""
    with pytest.raises(KeyError):
        seccomp.assemble("sparc")
