"""Which sandbox recorded code runs in, and a process started in it.

    container    the container that the run was recorded in, or that was asked for (``ndrepro.execution.containers``)
    bubblewrap   bwrap(1), where it is installed and the kernel lets it
    namespaces   the same, by a program of this project (``namespaces``)
    none         the code runs with the user's own rights

The last three are chosen here. What is available is tried, not guessed: a command is run in it.

    Sandbox.start ── bwrap or namespaces.py ── inside.py ── the training processes
"""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from ndrepro.execution.sandbox.confinement import EXPECTED, INSIDE, Confinement, existing
from ndrepro.execution.sandbox.interpreter_paths import interpreter_paths, without_dots
from ndrepro.protocol.errors import SandboxError, UsageError
from ndrepro.protocol.verdicts import BUBBLEWRAP, CONTAINER, NAMESPACES, NO_SANDBOX, SANDBOXES
from provenance.git.helper_programs import find_program

AUTO = "auto"
CHOICES = (AUTO, *SANDBOXES)
_HERE = Path(__file__).resolve().parent
_SEPARATE = ("user", "ipc", "pid", "net", "uts")
_PROBE_SECONDS = 60
# before each variable of a program, as in ``inside``; and what an interpreter needs that makes the sandbox
_HANDED_IN = "NDREPRO_INSIDE_"
_OF_THE_MAKER = ("PATH", "LD_LIBRARY_PATH")
# set by none of the variables of a determinism level
_PRIVATE = {"HOME": "/tmp", "TMPDIR": "/tmp"}


@dataclass(frozen=True)
class Sandbox:
    """A kind of sandbox, bubblewrap or namespaces, and the folders that it hides.

    ``runs`` are folders of runs, of which it shows what a process is given; of ``secret`` ones it shows nothing.
    """

    kind: str
    runs: tuple[Path, ...] = ()
    secret: tuple[Path, ...] = ()

    def start(
        self,
        command: Sequence[str],
        variables: Mapping[str, str],
        confinement: Confinement,
        *,
        processes: Sequence[Mapping[str, str]] = ({},),
        log: IO[bytes],
        held: Sequence[int] = (),
    ) -> ConfinedProcess:
        """Start ``command``, a Python interpreter and its words, once for each of ``processes``, given its variables.

        ``held`` are descriptors that stay open as long as the processes live, and that these do not get. Raises
        SandboxError where a path cannot be shown.
        """
        command = [without_dots(command[0]), *command[1:]]
        seen = replace(confinement, readable=(*confinement.readable, *interpreter_paths(command[0])))
        # NCCL passes the memory of GPUs from process to process over Unix sockets
        unix_sockets = seen.gpu and len(processes) > 1
        reading, writing = os.pipe()
        alive, lifeline = os.pipe()
        try:
            process = subprocess.Popen(
                self._words(command, variables, seen, processes, command[0], unix_sockets, writing, alive=alive),
                env=self.variables(variables),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(*held, writing, alive),
            )
        except BaseException:
            os.close(reading)
            os.close(lifeline)
            raise
        finally:
            os.close(writing)
            os.close(alive)
        with os.fdopen(reading, "rb") as told:
            return ConfinedProcess(process, told.read(), lifeline)

    def command_line(
        self, command: Sequence[str], variables: Mapping[str, str], confinement: Confinement, report: int | None = None
    ) -> list[str]:
        """The command line of a sandbox with any program in it, for whoever starts it: its exit code is the program's.

        The program's processes may make Unix sockets, by which multiprocessing passes tensors: they reach those that
        the sandbox shows, and so none of this machine's services. Where something else is at a path than the
        confinement expects, or processes stay behind, that is written to the descriptor ``report``, which no program
        gets. Raises SandboxError where a path cannot be shown.
        """
        return self._words(command, variables, confinement, ({},), without_dots(sys.executable), True, report=report)

    @staticmethod
    def variables(inherited: Mapping[str, str]) -> dict[str, str]:
        """The variables of a sandbox: home and temporary files are its own."""
        return {**inherited, **_PRIVATE}

    def handed_in(self, variables: Mapping[str, str], home: Path | None) -> dict[str, str]:
        """The environment of what makes the sandbox for ``command_line``, with the program's variables inside.

        ``home``: as in Confinement.

        Those are somebody else's texts: ``TZ=:PATH`` opens a path, and the dynamic loader has variables too. What makes
        the sandbox has all rights of the user, so it gets them under names that mean nothing, until ``inside`` runs.
        """
        own = {name: os.environ[name] for name in _OF_THE_MAKER if name in os.environ}
        given = {**self.variables(variables), **({"HOME": str(home)} if home else {})}
        return {**own, **{f"{_HANDED_IN}{name}": value for name, value in given.items()}}

    def _words(
        self,
        command: Sequence[str],
        variables: Mapping[str, str],
        confinement: Confinement,
        processes: Sequence[Mapping[str, str]],
        python: str,
        unix_sockets: bool,
        info: int | None = None,
        report: int | None = None,
        alive: int | None = None,
    ) -> list[str]:
        seen = replace(
            confinement,
            readable=(*confinement.readable, *_named_folders(variables)),
            hidden=(*confinement.hidden, *self.runs),
            secret=(*confinement.secret, *self.secret),
        )
        asked: dict[str, object] = {
            "processes": [dict(each) for each in processes],
            "unix_sockets": unix_sockets,
            "stops_blocked": alive is not None,  # training processes
        }
        if alive is not None:
            asked |= {"alive": alive}
        if confinement.expected is not None:
            asked |= {"expected": str(EXPECTED), "report": report}
        return [
            *_launcher(self.kind),
            *(f"--unshare-{name}" for name in _SEPARATE),
            *("--die-with-parent", "--new-session", "--as-pid-1", "--cap-drop", "ALL"),
            *(() if info is None else ("--info-fd", str(info))),
            *seen.words(_HERE / "inside.py"),
            *("--", python, "-I", "-S", str(INSIDE), json.dumps(asked), *command),
        ]


class ConfinedProcess:
    """A sandbox as the process that it is for (``ndrepro.execution.containers.container_spec.Process``).

    ``lifeline`` is a descriptor that is closed with it, or when this process ends, however it does.
    """

    def __init__(self, process: subprocess.Popen[bytes], told: bytes, lifeline: int) -> None:
        self._process = process
        weakref.finalize(self, os.close, lifeline)
        # the first process inside, as it is numbered outside; none where the sandbox could not be made
        self._first = int(json.loads(told)["child-pid"]) if told.strip() else None

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, -n for signal n. Raises subprocess.TimeoutExpired."""
        return _code(self._process.wait(timeout))

    def poll(self) -> int | None:
        """The exit code once it is over."""
        code = self._process.poll()
        return None if code is None else _code(code)

    def send_signal(self, sig: int) -> None:
        """Signal the processes inside; killing ends the sandbox with all that is in it."""
        if self._first is not None and self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self._first, sig)
        if sig == signal.SIGKILL or self._first is None:
            self._process.send_signal(sig)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)


def choose(wanted: str, *, container: bool) -> tuple[str, str]:
    """The kind of sandbox for ``wanted``, one of CHOICES, and, where that is none, why.

    ``container`` says whether the code will run in a container. Raises UsageError for a kind that does not fit,
    SandboxError for one that does not work here.
    """
    if wanted not in CHOICES:
        raise UsageError(f"--sandbox {wanted}: no such sandbox", f"choose {', '.join(CHOICES)}")
    if container:
        if wanted not in (AUTO, CONTAINER):
            raise UsageError(f"--sandbox {wanted}: the run is repeated in a container", "leave --sandbox out")
        return CONTAINER, ""
    if wanted == CONTAINER:
        raise UsageError("--sandbox container: the run was recorded outside of one", "name an engine: --in podman")
    if wanted == NO_SANDBOX:
        return NO_SANDBOX, "none was asked for"
    reasons = {}
    for kind in (BUBBLEWRAP, NAMESPACES) if wanted == AUTO else (wanted,):
        reason = why_not(kind)
        if reason is None:
            return kind, ""
        reasons[kind] = reason
    told = "; ".join(f"{kind}: {reason}" for kind, reason in reasons.items())
    if wanted == AUTO:
        return NO_SANDBOX, told
    raise SandboxError(f"no sandbox of this kind here: {told}", "choose another one with --sandbox")


@functools.cache
def why_not(kind: str) -> str | None:
    """Why a kind of sandbox does not work on this machine; None where it does: a command was run in it."""
    if not sys.platform.startswith("linux"):
        return "it needs Linux"
    if kind == BUBBLEWRAP and find_program("bwrap") is None:
        return "bwrap is not installed"
    read, write = os.pipe()
    with os.fdopen(read, "rb") as said, os.fdopen(write, "wb") as log:
        try:
            process = Sandbox(kind).start(
                [sys.executable, "-I", "-S", "-c", ""], {}, Confinement((), (), Path("/")), log=log
            )
        except SandboxError as error:
            return error.message
        log.close()
        try:
            code = process.wait(_PROBE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            return "it does not answer"
        last = said.read(4096).decode("utf-8", "replace").strip().rpartition("\n")[2]
    return None if code == 0 else last or f"exit code {code}"


def _named_folders(variables: Mapping[str, str]) -> tuple[Path, ...]:
    """Where the dynamic loader and the interpreter look by these variables: libraries, bytecode."""
    names = [*variables.get("LD_LIBRARY_PATH", "").split(":"), variables.get("PYTHONPYCACHEPREFIX", "")]
    return existing(Path(name) for name in names if name.startswith("/") and Path(name).is_dir())


def _launcher(kind: str) -> list[str]:
    if kind == NAMESPACES:
        return [sys.executable, "-I", "-S", str(_HERE / "namespaces.py")]
    program = find_program("bwrap")
    if kind != BUBBLEWRAP or program is None:
        raise SandboxError(f"no sandbox {kind} here")
    return [program, *(("--disable-userns",) if "--disable-userns" in _help(program) else ())]


@functools.cache
def _help(program: str) -> str:
    return subprocess.run([program, "--help"], capture_output=True, text=True).stdout


def _code(status: int) -> int:
    return 128 - status if 128 < status <= 128 + signal.SIGRTMAX else status
