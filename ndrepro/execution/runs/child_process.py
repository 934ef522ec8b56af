"""Starts the training child and waits for it: the only place that knows how its process is made.

The child gets every variable that must precede its interpreter, a session of its own (so that Ctrl-C reaches only the
parent, which decides), the run folder's lock (so that the folder stays busy while it lives), and no way to the key
home's name. Its output goes to ``log.txt``. Code that somebody else wrote runs in a sandbox
(``ndrepro.execution.sandbox``).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO

from ndrepro.execution.containers import engines
from ndrepro.execution.containers.container_spec import Process
from ndrepro.execution.environments import matrix
from ndrepro.execution.runs import process_group, slurm_allocation
from ndrepro.execution.sandbox.confinement import Confinement, data_paths
from ndrepro.execution.sandbox.passed_variables import passed_variables
from ndrepro.execution.sandbox.sandbox import Sandbox
from ndrepro.protocol import extras
from ndrepro.protocol.experiment.determinism import variables
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import Request
from provenance.attestation.run_files import LOCK
from provenance.code.bytecode import NO_BYTECODE, BytecodeCache
from provenance.code.snapshot import CodeCopy
from provenance.code.witness import Witness
from provenance.formats.bounded_read import open_regular
from provenance.formats.digest_cache import cache_folder, private_folder
from provenance.recording.stop_requests import stops_taken, stops_wait

_POLL_SECONDS = 0.2
# where keys and their passphrases lie is none of the child's business; the others load code that no manifest lists into
# every process
_WITHHELD = {
    *("NDREPRO_HOME", "NDREPRO_PASSPHRASE_FILE"),
    *("LD_PRELOAD", "LD_AUDIT", "DYLD_INSERT_LIBRARIES", "GCONV_PATH", "OMP_TOOL_LIBRARIES"),
    *("CUDA_INJECTION64_PATH", "NVTX_INJECTION64_PATH", "PYTHONHOME", "PYTHONPLATLIBDIR", "PYTHONSTARTUP"),
    *("PYTHONINSPECT", "PYTHONBREAKPOINT", "PYTHON_PRESITE", "PYTHONCASEOK", "PYTHONUSERBASE", "PYTHONEXECUTABLE"),
}
# of torch.compile; triton's is below it
_COMPILED = "TORCHINDUCTOR_CACHE_DIR"
# Threads that have nothing to do sleep: spinning, they keep the cores from each other as soon as anything else runs
# (a small net on two busy cores took 12 s instead of 18 to 54). It moves no bits; a variable that is set wins.
PATIENCE = {"OMP_WAIT_POLICY": "PASSIVE"}


def child_python(request: Request) -> str:
    """This interpreter, or that of the environment asked for, which is made if need be.

    Raises MissingExtra where this one has no torch, EnvironmentMissing where the other cannot be made.
    """
    if request.environment:
        return str(matrix.create(matrix.cell(request.environment)))
    extras.require("torch")
    return sys.executable


def child_variables(
    request: Request, code: Path, inherited: Mapping[str, str], bytecode: Mapping[str, str] = NO_BYTECODE
) -> dict[str, str]:
    """The child's environment variables: the inherited ones, those of its determinism level, where its code lies.

    Not passed on are the place of the keys and what would load other code: ``LD_PRELOAD`` and its like. No bytecode is
    read from the folders of code; ``bytecode`` gives the variables that name other bytecode.
    """
    kept = {name: value for name, value in inherited.items() if name not in _WITHHELD.union(process_group.VARIABLES)}
    experiment = request.experiment
    return {
        **PATIENCE,
        **kept,
        **variables(experiment.determinism, experiment.threads, experiment.cpu_isa),
        "PYTHONPATH": str(code),
        "PYTHONNOUSERSITE": "1",
        "PYTHONUNBUFFERED": "1",
        **bytecode,
        "NDREPRO_PARENT_PID": str(os.getpid()),
    }


def compiled_code(request: Request, code: Path) -> dict[str, str]:
    """Where torch.compile keeps code that it loads again: a folder of this user's alone, unless the user chose one.

    By itself it takes one below /tmp, of a name that another user may have taken before; what he puts there is
    executed. Where there is no private one the run's copy of the ``code`` gets it, which is removed after the run.
    """
    if not request.experiment.compile or os.environ.get(_COMPILED):
        return {}
    try:
        return {_COMPILED: str(private_folder(cache_folder().absolute() / "compiled"))}
    except OSError:
        return {_COMPILED: str(code / "compiled")}


def witness_of(request: Request, folder: RunFolder, code: Path) -> Witness | None:
    """Who looks at the child from outside while it runs; nobody into a container."""
    if request.container is not None:
        return None
    return Witness(child_python(request), str(folder.root.absolute()), code, compiled_code(request, code))


def keep_bytecode(request: Request, modules: Iterable[str]) -> None:
    """Compile what a child outside of a container imported, for the next one; nothing where that cannot be kept."""
    if request.container is None:
        with suppress(OSError):
            BytecodeCache(child_python(request)).add(modules)


def run_child(start: Callable[[], Process], look: Callable[[str], None], *, asked: bool = False) -> int:
    """Run the child to its end; returns its exit code, -n for signal n.

    Args:
        start: what ``prepare`` returned.
        look: called a few times a second with "training", or "stopping" once the child was asked to stop.
        asked: whether a stop came before.

    The first SIGINT, SIGTERM or SIGHUP asks the child to stop at the next step, a second one kills it.
    """
    with _Forwarding(asked) as forwarding, stops_taken(forwarding.forward):
        process = forwarding.to(start())
        while True:
            try:
                return process.wait(timeout=_POLL_SECONDS)
            except subprocess.TimeoutExpired:
                look("stopping" if forwarding.asked else "training")


def prepare(
    request: Request, folder: RunFolder, copy: CodeCopy, lock_fd: int, sandbox: Sandbox | None
) -> Callable[[], Process]:
    """What starts the child, here, in the request's container or in ``sandbox``; or its processes, as one.

    ``copy`` holds the packages ``ndrepro`` and ``provenance`` which the child imports. An environment that is missing
    is made, which may take minutes.
    """
    code = copy.place
    if request.container is not None:
        return partial(engines.start, request.container, request, folder, code)
    if sandbox is not None:
        return partial(_confined, sandbox, request, folder, copy, lock_fd)
    python = child_python(request)
    variables = child_variables(request, code, os.environ, BytecodeCache(python).variables(copy.sources))

    variables |= compiled_code(request, code)
    command = (python, "-m", "ndrepro.training", str(folder.root.absolute()))
    experiment = request.experiment
    nodes = slurm_allocation.find(os.environ) if experiment.processes > 1 else None

    def one(place: Mapping[str, str]) -> Process:
        with stops_wait():
            return _popen(command, {**variables, **place}, folder, code, lock_fd)

    if nodes is None:
        return partial(process_group.start, experiment.processes, one)
    step = nodes.words(experiment.processes, experiment.threads, command)

    def others(place: Mapping[str, str]) -> Process:
        return slurm_allocation.Step(_popen(step, _elsewhere({**variables, **place}, folder), folder, code))

    return partial(process_group.start, experiment.processes, one, nodes.share(experiment.processes), others)


def _confined(sandbox: Sandbox, request: Request, folder: RunFolder, copy: CodeCopy, lock_fd: int) -> Process:
    """The child in a sandbox; of several processes all share one, and talk over its loopback interface."""
    root, count, code = folder.root.absolute(), request.experiment.processes, copy.place
    python = child_python(request)
    bytecode = BytecodeCache(python).variables(copy.sources)
    compiled = Path(bytecode["PYTHONPYCACHEPREFIX"])
    seen = Confinement(
        # of the cache the bytecode alone, which it cannot change: the next process would execute it
        readable=(code, *([compiled] if compiled.is_dir() else []), *data_paths(Path(request.data))),
        writable=(root,),
        folder=code,
        gpu=request.experiment.device != "cpu",
    )
    with open_log(folder.log) as log, stops_wait():
        return sandbox.start(
            [python, "-m", "ndrepro.training", str(root)],
            child_variables(request, code, passed_variables(os.environ), bytecode),
            seen,
            processes=process_group.places(count, count) if count > 1 else [{}],
            log=log,
            held=[lock_fd],
        )


def _elsewhere(variables: Mapping[str, str], folder: RunFolder) -> dict[str, str]:
    """The variables of a process on another machine: it has another parent, and looks at the recorder's lock."""
    kept = {name: value for name, value in variables.items() if name != "NDREPRO_PARENT_PID"}
    return {**kept, "NDREPRO_PARENT_LOCK": str(folder.root.absolute() / LOCK)}


def _popen(
    command: Sequence[str], variables: Mapping[str, str], folder: RunFolder, code: Path, *held: int
) -> subprocess.Popen[bytes]:
    with open_log(folder.log) as log:
        return subprocess.Popen(
            command,
            # python -m looks into the current folder first: a run folder may hold files of anybody's
            cwd=code,
            env=dict(variables),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=held,
        )


def open_log(path: Path) -> IO[bytes]:
    """The log, to append to: nothing else that an earlier attempt left under its name is written to. Raises OSError."""
    return os.fdopen(open_regular(path, appending=True), "ab")


class _Forwarding:
    """Hands what asks this process to stop to the child: first as SIGTERM, then as SIGKILL; closed, there is none."""

    def __init__(self, asked: bool) -> None:
        self._process: Process | None = None
        self.asked = asked

    def __enter__(self) -> _Forwarding:
        return self

    def to(self, process: Process) -> Process:
        """The child; a stop that came before it is handed on now."""
        self._process = process
        if self.asked:
            process.send_signal(signal.SIGTERM)
        return process

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            # an error in this process while the child trains: it must not continue unrecorded
            self._process.kill()
            self._process.wait()

    def forward(self, number: int, frame: types.FrameType | None) -> None:
        """A signal's handler."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL if self.asked else signal.SIGTERM)
        self.asked = True
