"""The first process inside a sandbox: starts the training processes, passes stops on, and ends with their exit code.

    python -I -S inside.py DOCUMENT COMMAND...

COMMAND are the words of what is started. DOCUMENT is JSON: ``processes``, for each process the variables that it gets
beside the inherited ones; ``unix_sockets``, whether they may make Unix sockets; ``stops_blocked``, whether they begin
with SIGTERM and SIGINT blocked, since they unblock them once they can take them; ``alive``, if there is one, a pipe
that is closed when whoever asked for the sandbox has gone: bwrap(1) arranges too late to be killed then; ``expected``,
if there is one, a JSON file with inodes and times of change of what must be at some paths, else nothing is started
(exit code 125) and the descriptor ``report``, which is there then, gets a JSON object with the reason, ``refused``;
later one with ``stayed``, the command lines of the processes that outlived these and end with the sandbox. All are over
when one failed or was killed, and a process that is still there ten minutes after the first ended is killed. The exit
code is theirs where they agree, else 128 + n for signal n that ended one, else 1.

A read-only mount keeps nobody from connecting to a Unix socket below it, nor does a network namespace where the socket
has a path. A filter of system calls (seccomp(2)) leaves only the internet's families, which reach the loopback
interface, and connected pairs of Unix sockets, which cannot be connected elsewhere. Where no Unix sockets are made,
none of the files that are can be executed with the rights of their owner or group: a training's run folder is one of
the machine, and another user of that could start them.

Run by the interpreter of the training processes (Python 3.10 too); needs the standard library alone.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import resource
import select
import signal
import socket
import stat
import struct
import sys
import time
from collections.abc import Iterator
from typing import Any

_STOPS = (signal.SIGTERM, signal.SIGINT)
_NOT_EXPECTED = 125
_DONE = (0, 75)  # completed; interrupted
_PATIENCE_SECONDS = 600
_FOLLOW_SECONDS = 0.5
_LISTED, _READ, _SHOWN = 20, 4096, 200  # processes; of a command line; of a word
_HANDED_IN = "NDREPRO_INSIDE_"  # before variables of the command that are somebody else's texts: ``Sandbox.handed_in``
_MOST_PROCESSES = 4096
# keyctl(2) by machine; its first operation joins a new session keyring, so that the user's is out of reach
_KEYCTL = {"x86_64": 250, "aarch64": 219}
_JOIN_SESSION_KEYRING = 1
# linux/audit.h, and the numbers of socket(2) and socketpair(2), by machine
_CALLS = {"x86_64": (0xC000003E, 41, 53), "aarch64": (0xC00000B7, 198, 199)}
_IO_URING_SETUP = 425  # its operations make sockets too, and no filter sees them
_X32 = 0x40000000  # x86-64's other numbers for the same calls
_FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK)
# a datagram socket of a pair can still be sent, or connected, to any path
_PAIRS = (socket.SOCK_STREAM, socket.SOCK_SEQPACKET)
# linux/bpf_common.h, linux/seccomp.h, linux/prctl.h
_LOAD, _EQUAL, _AT_LEAST, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000
_NO_NEW_RIGHTS, _SECCOMP, _FILTER, _DUMPABLE = 38, 22, 2, 4
# struct seccomp_data: the call's number, the machine, the arguments of eight bytes each
_NUMBER, _MACHINE, _FIRST, _SECOND = 0, 4, 16, 24
_THIRD, _FOURTH = 32, 40
_TYPE_BITS = 0xF
# operation, steps to skip if true, steps if false, value
_Step = tuple[int, int, int, int]
# the calls that give a file its mode, by machine, with the place of that; of open(2) and openat(2) of the flags, too
_SET_IDS = stat.S_ISUID | stat.S_ISGID
_CHANGES = {
    "x86_64": {90: _SECOND, 91: _SECOND, 268: _THIRD, 452: _THIRD, 85: _SECOND, 133: _SECOND, 259: _THIRD},
    "aarch64": {52: _SECOND, 53: _THIRD, 452: _THIRD, 33: _THIRD},
}
_OPENS = {"x86_64": {2: (_SECOND, _THIRD), 257: (_THIRD, _FOURTH)}, "aarch64": {56: (_THIRD, _FOURTH)}}
_OPENAT2 = 437  # its arguments lie where no filter sees them
_NEW_FILE = 0o100 | 0o20000000  # O_CREAT and the bit of O_TMPFILE


def _other(document: str) -> str:
    """The first path at which another file or folder is than the document says; "" for none."""
    with open(document, encoding="utf-8") as stream:
        expected: dict[str, list[int]] = json.load(stream)
    for path, known in expected.items():
        try:
            found = os.stat(path)
        except OSError:
            return path
        if [found.st_ino, found.st_ctime_ns] != known:
            return path
    return ""


def main(document: str, command: list[str]) -> int:
    """Start the processes, wait for them; returns the exit code."""
    asked: dict[str, Any] = json.loads(document)
    if "alive" in asked and select.select([asked["alive"]], [], [], 0)[0]:
        return 128 + signal.SIGKILL
    if "expected" in asked and (other := _other(asked["expected"])):
        reason = f"{other}: not what was compared with the record: nothing is started"
        sys.stderr.write(f"sandbox: {reason}\n")
        os.write(asked["report"], json.dumps({"refused": reason}).encode())
        return _NOT_EXPECTED
    report = asked.get("report", 2)
    os.closerange(3, report)
    os.closerange(report + 1, 1 << 16)
    _keep_to_itself(report)
    _limit()
    _filter_calls(unix_sockets=asked["unix_sockets"])
    running: dict[int, int | None] = {}

    def forward(number: int, frame: object) -> None:
        for process in list(running):
            os.kill(process, number)

    def give_up(number: int, frame: object) -> None:
        forward(signal.SIGKILL, frame)

    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
    for variables in asked["processes"]:
        running[_start(command, variables, {*before, *(_STOPS if asked["stops_blocked"] else ())})] = None
    for number in _STOPS:
        signal.signal(number, forward)
    signal.signal(signal.SIGALRM, give_up)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
    codes: list[int] = []
    while running:
        process, status = os.wait()
        if process not in running:
            continue  # an orphan of theirs
        del running[process]
        codes.append(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))
        if codes[-1] not in _DONE:
            forward(signal.SIGKILL, None)
            break
        signal.alarm(_PATIENCE_SECONDS)
    stayed = _await_orphans()
    if stayed and report > 2:
        os.write(report, json.dumps({"stayed": stayed}).encode())
    return codes[-1] if len(set(codes)) == 1 or codes[-1] > 128 else 1


def _keep_to_itself(report: int) -> None:
    """No process that is started gets the report, nor opens it through /proc (prctl(2), PR_SET_DUMPABLE)."""
    if report > 2:
        os.set_inheritable(report, False)
    ctypes.CDLL(None).prctl(_DUMPABLE, 0, 0, 0, 0)


def _await_orphans() -> list[list[str]]:
    """Give what the processes left behind the moment that it has without a sandbox; then it is over, too.

    Returns the command lines of what is still there.
    """
    end = time.monotonic() + _FOLLOW_SECONDS
    try:
        while time.monotonic() < end:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.01)
    except ChildProcessError:
        return []
    # all that are in the sandbox, whose first process this is
    others = (name for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid())
    return [words for words in map(_words_of, others) if words][:_LISTED]


def _words_of(process: str) -> list[str]:
    """The command line of a process, or else its name, shortened; none of one that has ended."""
    try:
        with open(f"/proc/{process}/stat", encoding="utf-8", errors="replace") as stream:
            name, _, rest = stream.read().rpartition(")")
        with open(f"/proc/{process}/cmdline", encoding="utf-8", errors="replace") as stream:
            words = stream.read(_READ).rstrip("\0").split("\0")
    except OSError:
        return []
    ended = rest.split()[0] in ("Z", "X")
    return [] if ended else [word[:_SHOWN] for word in words if word] or [name.partition("(")[2]]


def _start(command: list[str], variables: dict[str, str], blocked: set[int]) -> int:
    """Fork and exec, with these signals blocked."""
    process = os.fork()
    if process == 0:
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            os.execve(command[0], command, {**_inherited(), **variables, "NDREPRO_PARENT_PID": str(os.getppid())})
        except OSError as error:
            os.write(2, f"sandbox: {command[0]}: {error.strerror}\n".encode())
        os._exit(127)
    return process


def _inherited() -> dict[str, str]:
    """The variables that were handed in for the command, where there are any, else this process's own."""
    handed_in = {name: value for name, value in os.environ.items() if name.startswith(_HANDED_IN)}
    return {name[len(_HANDED_IN) :]: value for name, value in handed_in.items()} or dict(os.environ)


def _limit() -> None:
    """No core files; no more processes than a training has; none of the user's kernel keys."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    most = _MOST_PROCESSES if hard == resource.RLIM_INFINITY else min(hard, _MOST_PROCESSES)
    resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
    number = _KEYCTL.get(os.uname().machine)
    if number is not None:
        ctypes.CDLL(None).syscall(number, _JOIN_SESSION_KEYRING, None)


def _filter_calls(*, unix_sockets: bool) -> None:
    """Refuse sockets that lead out of the sandbox, in this process and all that it starts.

    Ends this process where the kernel or the machine has no such filter.
    """
    machine = os.uname().machine
    if machine not in _CALLS:
        sys.exit(f"sandbox: no filter of system calls for {machine}")
    families = (*_FAMILIES, *([socket.AF_UNIX] if unix_sockets else []))
    program = _program(*_CALLS[machine], families, [] if unix_sockets else [*_without_set_ids(machine)])
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
    header = struct.pack("HxxxxxxP", len(program), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    refused = libc.prctl(_NO_NEW_RIGHTS, 1, 0, 0, 0) or libc.prctl(_SECCOMP, _FILTER, header, 0, 0)
    if refused:
        sys.exit(f"sandbox: filtering system calls: {os.strerror(ctypes.get_errno())}")


def _program(machine: int, call: int, pair: int, families: tuple[int, ...], more: list[_Step]) -> list[_Step]:
    """The filter as instructions of classic BPF."""
    error = _ERROR | errno.EAFNOSUPPORT
    of_call = [(_LOAD, 0, 0, _FIRST), *_any_of(families, error)]
    of_pair = [(_LOAD, 0, 0, _SECOND), (_AND, 0, 0, _TYPE_BITS), *_any_of(_PAIRS, error)]
    return [
        (_LOAD, 0, 0, _MACHINE),
        (_EQUAL, 1, 0, machine),
        (_RETURN, 0, 0, _ERROR | errno.ENOSYS),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 1, 0, _X32),
        (_EQUAL, 0, 1, _IO_URING_SETUP),
        (_RETURN, 0, 0, _ERROR | errno.ENOSYS),
        (_EQUAL, 0, len(of_call), call),
        *of_call,
        (_EQUAL, 0, len(of_pair), pair),
        *of_pair,
        *more,
        (_RETURN, 0, 0, _ALLOW),
    ]


def _without_set_ids(machine: str) -> Iterator[_Step]:
    """Refuse to give a file a mode with which it is executed as its owner or group."""
    refuse = [(_AND, 0, 0, _SET_IDS), (_EQUAL, 1, 0, 0), (_RETURN, 0, 0, _ERROR | errno.EPERM), (_RETURN, 0, 0, _ALLOW)]
    for call, mode in _CHANGES[machine].items():
        yield from [(_EQUAL, 0, 1 + len(refuse), call), (_LOAD, 0, 0, mode), *refuse]
    for call, (flags, mode) in _OPENS[machine].items():
        is_new = [(_LOAD, 0, 0, flags), (_AND, 0, 0, _NEW_FILE), (_EQUAL, 0, 1, 0), (_RETURN, 0, 0, _ALLOW)]
        yield from [(_EQUAL, 0, len(is_new) + 1 + len(refuse), call), *is_new, (_LOAD, 0, 0, mode), *refuse]
    yield from [(_EQUAL, 0, 1, _OPENAT2), (_RETURN, 0, 0, _ERROR | errno.ENOSYS)]


def _any_of(values: tuple[int, ...], error: int) -> list[_Step]:
    """Allow the call if what was loaded is one of the values, else fail with the error."""
    checks = [(_EQUAL, len(values) - place, 0, int(value)) for place, value in enumerate(values)]
    return [*checks, (_RETURN, 0, 0, error), (_RETURN, 0, 0, _ALLOW)]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
