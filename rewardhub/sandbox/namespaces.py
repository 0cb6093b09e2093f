"""Namespaces and the minimal root of a sandboxed program, by plain system calls."""

# ruff: noqa: PTH103, PTH106, PTH112, PTH114, PTH115, PTH120, PTH123, PTH211

import ctypes
import os
from collections.abc import Sequence

from rewardhub.sandbox.steps import Step, take

_NEW_USER, _NEW_PID, _NEW_NET, _NEW_MOUNT, _NEW_IPC, _NEW_UTS = (
    0x10000000, 0x20000000, 0x40000000, 0x00020000, 0x08000000, 0x04000000,
)  # fmt: skip
_SHARED = _NEW_PID | _NEW_NET | _NEW_MOUNT | _NEW_IPC | _NEW_UTS
_ALL = _NEW_USER | _NEW_PID | _NEW_NET | _NEW_MOUNT | _NEW_IPC | _NEW_UTS

_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_BIND, _MS_REC, _MS_PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18
_MS_NOSYMFOLLOW = 256
_MNT_DETACH = 2
_PR_SET_DUMPABLE = 4
_CAPABILITY_VERSION_3 = 0x20080522
_NOBODY = 65534
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_ATTR_RDONLY, _ATTR_NOSUID, _ATTR_NODEV = 1, 2, 4
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_CLONE_TREE, _FROM_DESCRIPTOR = 1, 4
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_PR_SET_PDEATHSIG = 1
SIGKILL = 9

USER = 1000
"""The user id inside. Not 0, so that executing the runtime drops every capability."""

WORK_DIR = "/tmp"  # noqa: S108  # inside the private root


def load_libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def enter(libc: ctypes.CDLL) -> None:
    """Moves this process into new namespaces; its next child is the first of the pid namespace.

    Raises ``OSError`` where the kernel or its configuration refuses.
    """
    user, group = os.geteuid(), os.getegid()
    _check(libc.unshare(_ALL), "unshare")
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{USER} {user} 1")
    _write("/proc/self/gid_map", f"{USER} {group} 1")


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def build_root(libc: ctypes.CDLL, machine: str, shown: Sequence[str], size_mb: int) -> None:
    """Makes a root of ``size_mb`` of temporary files that shows only the ``shown`` paths, read-only.

    There is no ``/proc``, no ``/etc`` and nothing of the host beside ``shown``.
    """
    _check(libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None), "private mounts")
    root = _mount_point(shown)
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    options = f"size={size_mb}m,nr_inodes=8192,mode=755".encode()
    _check(libc.mount(b"tmpfs", root.encode(), b"tmpfs", flags, options), "tmpfs")
    for path in shown:
        _show(libc, path, root + path)
    for device in ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"):
        _bind(libc, device, root + device)
    for folder in ("/old", WORK_DIR):
        os.makedirs(root + folder, exist_ok=True)
    os.chdir(root)
    _check(libc.syscall(_PIVOT_ROOT[machine], b".", b"old"), "pivot_root")
    _check(libc.umount2(b"/old", _MNT_DETACH), "umount")
    os.rmdir("/old")
    os.chdir(WORK_DIR)


def _mount_point(shown: Sequence[str]) -> str:
    """A folder that the new root may cover while it is built: it hides none of the shown paths."""
    for folder in ("/tmp", "/mnt", "/run", "/var"):  # noqa: S108
        if os.path.isdir(folder) and not any(path.startswith(f"{folder}/") for path in shown):
            return folder
    raise OSError(2, "no folder to build the root on")


def _show(libc: ctypes.CDLL, path: str, target: str) -> None:
    if os.path.islink(path):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.symlink(os.readlink(path), target)
    else:
        _bind(libc, path, target)
        _freeze(libc, target)


def _bind(libc: ctypes.CDLL, path: str, target: str) -> None:
    if os.path.isdir(path):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        _write(target, "")
    _check(libc.mount(path.encode(), target.encode(), None, _MS_BIND | _MS_REC, None), f"bind {path}")


def _freeze(libc: ctypes.CDLL, target: str, reach: int = _AT_RECURSIVE) -> None:
    attributes = (ctypes.c_uint64 * 4)(_ATTR_RDONLY | _ATTR_NOSUID | _ATTR_NODEV, 0, 0, 0)
    result = libc.syscall(
        _MOUNT_SETATTR, _AT_FDCWD, target.encode(), reach, ctypes.byref(attributes), 32
    )  # fmt: skip
    _check(result, f"read-only {target}")


def die_with_parent(libc: ctypes.CDLL) -> None:
    """Has the kernel kill this process when its parent dies."""
    take([step_to_die_with_parent(libc)])


def step_to_die_with_parent(libc: ctypes.CDLL) -> Step:
    return "pdeathsig", libc.prctl, (_PR_SET_PDEATHSIG, ctypes.c_ulong(SIGKILL), 0, 0, 0)


def enter_shared(libc: ctypes.CDLL, shown: Sequence[str], size_mb: int) -> int:
    """Moves a warm process for good into a read-only root, an empty network and a user without rights;
    returns a descriptor of the host's ``/proc``. Its next child is the first of a pid namespace.

    As root the host's user becomes ``nobody`` too, for whom the kernel keeps the limit on processes.
    """
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    if os.geteuid() == 0 and libc.unshare(_NEW_MOUNT) == 0:
        build_root(libc, os.uname().machine, shown, size_mb)
        _freeze(libc, "/", 0)
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
        _check(libc.prctl(_PR_SET_DUMPABLE, ctypes.c_ulong(1), 0, 0, 0), "dumpable")
        _new_user(libc, _SHARED, proc, (_NOBODY, _NOBODY))
    else:
        who = os.geteuid(), os.getegid()
        _new_user(libc, _SHARED, proc, who)
        build_root(libc, os.uname().machine, shown, size_mb)
        _freeze(libc, "/", 0)
    return proc


def steps_around_fork(libc: ctypes.CDLL, pids: int) -> tuple[list[Step], list[Step]]:
    """What has the next child be the first of a new pid namespace, and further ones be in that of this
    process again, whose descriptor is ``pids``.
    """
    return [("pid namespace", libc.unshare, (_NEW_PID,))], [("own pid namespace", libc.setns, (pids, _NEW_PID))]


def covered(shown: Sequence[str]) -> list[str]:
    """What of the shown paths lies where the scratch space comes: an environment may be installed there."""
    below = f"{WORK_DIR}/"
    return sorted({below + path.removeprefix(below).split("/")[0] for path in shown if path.startswith(below)})


def steps_into_run(libc: ctypes.CDLL, proc: int, free: int, scratch_mb: int, kept: Sequence[str]) -> list[Step]:
    """Moves a fork of a warm process into namespaces and scratch space of its own, in which the ``kept``
    folders stay as they are, and gives up every capability and ``proc``. ``free`` is the first free descriptor.
    """
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC | _MS_NOSYMFOLLOW
    options = f"size={scratch_mb}m,nr_inodes=8192,mode=700".encode()
    work, trees = WORK_DIR.encode(), [(free + index, folder.encode()) for index, folder in enumerate(kept)]
    steps: list[Step] = [("unshare", libc.unshare, (_NEW_USER | _NEW_MOUNT | _NEW_IPC | _NEW_UTS,))]
    for name, line in _mapped(USER, USER):
        steps.append((name, libc.openat, (proc, f"self/{name}".encode(), os.O_WRONLY | os.O_CLOEXEC)))
        steps.append((name, libc.write, (free, line, len(line))))
        steps.append((name, libc.close, (free,)))
    for _, folder in trees:
        steps.append((f"keep {folder!r}", libc.syscall, (_OPEN_TREE, _AT_FDCWD, folder, _CLONE_TREE | _AT_RECURSIVE)))
    steps.append(("scratch space", libc.mount, (b"tmpfs", work, b"tmpfs", flags, options)))
    for tree, folder in trees:
        steps.append((f"keep {folder!r}", libc.mkdir, (folder, 0o700)))
        steps.append(("move", libc.syscall, (_MOVE_MOUNT, tree, b"", _AT_FDCWD, folder, _FROM_DESCRIPTOR)))
        steps.append(("close", libc.close, (tree,)))
    nothing = ((ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)())
    steps += [("chdir", libc.chdir, (work,)), ("capabilities", libc.capset, nothing), ("close", libc.close, (proc,))]
    return steps


def _mapped(user: int, group: int) -> list[tuple[str, bytes]]:
    """The files of a new user namespace and what to write to each, so that these are ``USER`` inside."""
    return [
        ("setgroups", b"deny"), ("uid_map", f"{USER} {user} 1".encode()), ("gid_map", f"{USER} {group} 1".encode()),
    ]  # fmt: skip


def _new_user(libc: ctypes.CDLL, flags: int, proc: int, outside: tuple[int, int]) -> None:
    _check(libc.unshare(_NEW_USER | flags), "unshare")
    for name, line in _mapped(*outside):
        file = os.open(f"self/{name}", os.O_WRONLY, dir_fd=proc)
        try:
            os.write(file, line)
        finally:
            os.close(file)
