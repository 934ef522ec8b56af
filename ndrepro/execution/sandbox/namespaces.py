"""A program that runs a command in namespaces of its own: what bubblewrap does, where bubblewrap is not installed.

    python -I -S namespaces.py OPTIONS -- COMMAND

It takes the options of bwrap(1) that ``ndrepro.execution.sandbox.confinement`` writes, with the same meaning. Always
in force, and accepted as options for that reason: new user, mount, process, network, IPC and host name namespaces; the
command is their first process and that of a session, has no capability and can gain none, and dies with this process.
Descriptors that this process inherited stay open for the command, as bwrap has it: ``inside`` closes them.

    this process ── unshare, fork ──> first process of the namespaces: mounts, drops its rights, exec COMMAND
          waits, and ends with the command's exit code, or with 128 + n for signal n

It needs the standard library and the Linux kernel (3.8 or later, unprivileged user namespaces allowed), and imports
nothing of this project. Source: namespaces(7), user_namespaces(7), pivot_root(2), capabilities(7), and bubblewrap's
order of steps.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import select
import signal
import struct
import sys
from collections.abc import Sequence
from typing import NoReturn

# sched.h, sys/mount.h, linux/prctl.h, linux/capability.h, linux/sockios.h
_NEW_NAMESPACES = 0x10000000 | 0x00020000 | 0x20000000 | 0x40000000 | 0x08000000 | 0x04000000
_NOSUID, _NODEV, _NOEXEC, _READ_ONLY, _REMOUNT, _BIND, _RECURSIVE = 2, 4, 8, 1, 32, 4096, 16384
_PRIVATE, _NOATIME, _NODIRATIME, _RELATIME, _DETACH = 1 << 18, 1024, 2048, 1 << 21, 2
# a mount's flags as statvfs(3) gives them, and as mount(2) takes them
_FLAGS = {2: _NOSUID, 4: _NODEV, 8: _NOEXEC, 1024: _NOATIME, 2048: _NODIRATIME, 4096: _RELATIME}
_DEATH_SIGNAL, _DROP_BOUND, _NO_NEW_RIGHTS, _AMBIENT, _CLEAR_ALL = 1, 24, 38, 47, 4
_CAPABILITY_VERSION = 0x20080522
_SET_INTERFACE_FLAGS, _INTERFACE_UP, _INET, _DATAGRAM = 0x8914, 1, 2, 2
_DEVICES = ("null", "zero", "full", "random", "urandom")
_LINKS = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"}
_TWO, _ONE = ("--ro-bind", "--bind", "--dev-bind", "--symlink"), ("--tmpfs", "--remount-ro", "--proc", "--dev")

_libc = ctypes.CDLL(None, use_errno=True)


class Refusal(Exception):
    """A step that the kernel refused."""


def main(words: list[str]) -> int:
    """Run the command; returns its exit code."""
    operations, settings, command = _read(words)
    user, group = os.getuid(), os.getgid()
    _do("new namespaces", _libc.unshare(_NEW_NAMESPACES))
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{user} {user} 1")
    _write("/proc/self/gid_map", f"{group} {group} 1")
    _do("dying with the parent", _libc.prctl(_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0))
    alive, lifeline = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(lifeline)
        _inside(operations, settings, command, alive)
    os.close(alive)
    if "--info-fd" in settings:
        with os.fdopen(int(settings["--info-fd"]), "w") as info:
            info.write(f'{{"child-pid": {child}}}')
    _, status = os.waitpid(child, 0)
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def _read(words: list[str]) -> tuple[list[list[str]], dict[str, str], list[str]]:
    """The operations on the file system in their order, the other options, the command."""
    end = words.index("--")
    rest, operations, settings = words[:end], [], {}
    while rest:
        option = rest.pop(0)
        if option in _TWO:
            operations.append([option, rest.pop(0), rest.pop(0)])
        elif option in _ONE:
            operations.append([option, rest.pop(0)])
        elif option in ("--chdir", "--info-fd", "--cap-drop"):
            settings[option] = rest.pop(0)
    return operations, settings, words[end + 1 :]


def _inside(operations: list[list[str]], settings: dict[str, str], command: list[str], alive: int) -> NoReturn:
    """The first process of the namespaces: never returns to its caller."""
    try:
        # signals to the own process group (kill(0)) reach whoever is in it, whatever the namespaces are
        os.setsid()
        _loopback_up()
        _new_root(operations)
        os.chdir(settings.get("--chdir", "/"))
        _drop_rights()
        _do("dying with the parent", _libc.prctl(_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0))
        if select.select([alive], [], [], 0)[0]:  # its end is closed: the parent has gone already
            os._exit(128 + signal.SIGKILL)
        os.execv(command[0], command)
    except (Refusal, OSError) as error:
        os.write(2, f"sandbox: {error}\n".encode(errors="surrogateescape"))
    os._exit(1)


def _new_root(operations: list[list[str]]) -> None:
    """Build the root in memory, move into it, and let go of the old one: pivot_root(2), twice."""
    _mount("none", "/", None, _RECURSIVE | _PRIVATE)
    _mount("tmpfs", "/tmp", "tmpfs", _NOSUID | _NODEV)
    os.chdir("/tmp")
    os.mkdir("new")
    os.mkdir("old")
    _mount("tmpfs", "new", "tmpfs", _NOSUID | _NODEV, "mode=0755")
    _do("pivot_root", _libc.pivot_root(b"/tmp", b"old"))
    os.chdir("/")
    for operation in operations:
        if operation[0] != "--remount-ro":
            _apply(operation)
    _no_more_user_namespaces()
    _make_read_only(operations)
    _mount("none", "/old", None, _RECURSIVE | _PRIVATE)
    _do("leaving the old root", _libc.umount2(b"/old", _DETACH))
    os.chdir("/new")
    _do("pivot_root", _libc.pivot_root(b".", b"."))
    _do("leaving the old root", _libc.umount2(b".", _DETACH))
    os.chdir("/")


def _apply(operation: Sequence[str]) -> None:
    """One option: a mount or a symbolic link in the new root."""
    option, path = operation[0], f"/new{operation[-1]}"
    if option == "--symlink":
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.symlink(operation[1], path)
    elif option in ("--ro-bind", "--bind", "--dev-bind"):
        _bind(operation[1], path)
    elif option == "--proc":
        os.makedirs(path, exist_ok=True)
        _mount("proc", path, "proc", _NOSUID | _NODEV | _NOEXEC)
    else:
        os.makedirs(path, exist_ok=True)
        _mount("tmpfs", path, "tmpfs", _NOSUID | _NODEV, "mode=0755")
        if option == "--dev":
            for name in _DEVICES:
                _bind(f"/dev/{name}", f"{path}/{name}")
            for name, target in _LINKS.items():
                os.symlink(target, f"{path}/{name}")


def _bind(source: str, path: str) -> None:
    """Mount a path of the old root; what is mounted below it comes along."""
    old = f"/old{source}"
    if os.path.isdir(old):
        os.makedirs(path, exist_ok=True)
    elif not os.path.lexists(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    _mount(old, path, None, _BIND | _RECURSIVE)


def _make_read_only(operations: list[list[str]]) -> None:
    """Every mount of the new root but those asked for as writable; none with set-user-ID programs, or new devices."""
    devices = {f"/new{words[-1]}" for words in operations if words[0] == "--dev-bind"}
    devices |= {f"/new{words[-1]}/{name}" for words in operations if words[0] == "--dev" for name in _DEVICES}
    covers = {f"/new{words[-1]}" for words in operations if words[0] == "--remount-ro"}
    writable = {f"/new{words[-1]}" for words in operations if words[0] in ("--bind", "--tmpfs", "--dev-bind")} - covers
    with open("/new/proc/self/mountinfo", "rb") as lines:
        points = [os.fsdecode(_unescaped(line.split(b" ")[4])) for line in lines]
    for point in points:
        if point != "/new" and not point.startswith("/new/"):
            continue
        try:
            present = os.statvfs(point).f_flag
        except PermissionError:  # what this user cannot reach, the command cannot either
            continue
        flags = sum(value for bit, value in _FLAGS.items() if present & bit) | _NOSUID
        flags |= 0 if point in devices else _NODEV
        flags |= 0 if point in writable and not present & _READ_ONLY else _READ_ONLY
        _mount("none", point, None, _REMOUNT | _BIND | flags)


def _unescaped(name: bytes) -> bytes:
    """A path in mountinfo: space, tab, line feed and backslash are three octal digits behind a backslash."""
    head, *pieces = name.split(b"\\")
    return head + b"".join(bytes([int(piece[:3], 8)]) + piece[3:] for piece in pieces)


def _no_more_user_namespaces() -> None:
    """In a namespace of its own a process has every capability: attack surface that no training needs."""
    with contextlib.suppress(OSError):  # a kernel without the limit
        _write("/new/proc/sys/user/max_user_namespaces", "0")


def _drop_rights() -> None:
    """No capability is left, and no program that is started can bring one."""
    _do("no new rights", _libc.prctl(_NO_NEW_RIGHTS, 1, 0, 0, 0))
    _libc.prctl(_AMBIENT, _CLEAR_ALL, 0, 0, 0)
    capability = 0
    while _libc.prctl(_DROP_BOUND, capability, 0, 0, 0) == 0:
        capability += 1
    if not capability:
        raise Refusal("dropping capabilities: not permitted")
    header = ctypes.create_string_buffer(struct.pack("Ii", _CAPABILITY_VERSION, 0))
    _do("dropping capabilities", _libc.capset(header, ctypes.create_string_buffer(24)))


def _loopback_up() -> None:
    """Processes of one run talk over it; there is no other interface."""
    number = _libc.socket(_INET, _DATAGRAM, 0)
    _do("socket", number)
    fcntl.ioctl(number, _SET_INTERFACE_FLAGS, struct.pack("16sH14x", b"lo", _INTERFACE_UP))
    os.close(number)


def _mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    words = [os.fsencode(source), os.fsencode(target), kind.encode() if kind else None]
    _do(f"mounting {target}", _libc.mount(*words, ctypes.c_ulong(flags), data.encode() or None))


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def _do(what: str, answer: int) -> None:
    if answer < 0:
        raise Refusal(f"{what}: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (Refusal, OSError) as refused:
        sys.exit(f"sandbox: {refused}")
