"""Which Pythons a program ran in, and the distributions of the one that did the work.

The start-up hook names every Python process with its search path. Where it saw none, because the command starts Python
with -I, -E or -S, say, the command's interpreter is asked, in isolated mode, which executes no code of the user's; and
where the command is no Python at all, there is none. The folders of the search path are read here as an import would
read them (``provenance.capture.distributions``); where they are not on this machine, as in a container, the versions
count that the hook read there.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ndrepro.protocol.program_record import RecordedInterpreter
from provenance.attestation.manifest import Resource
from provenance.attestation.packages import resources
from provenance.capture import conda, distributions
from provenance.capture.unavailable import none, printable, probe, unavailable
from provenance.formats.bounded_read import open_regular
from provenance.observation.process_record import ProcessRecord
from provenance.system_programs import find_any_program

_CPYTHON = r"python(?:\d+(?:\.\d+)*)?[a-z]?(?:\.exe)?"
_PYTHON = re.compile(rf"{_CPYTHON}|pypy3?[\d.]*")
# under -I and -E the user's settings count for nothing; -S hides the installed packages from the program itself
_QUESTION = (
    "import json,sys;print(json.dumps([sys.executable,sys.version,sys.implementation.name,sys.prefix,"
    "sys.base_prefix,sys.path]))"
)
_SECONDS = 30
_SHEBANG_BYTES = 256
# ELF, and Mach-O of one or several processors, in either order of bytes
_COMPILED = tuple(map(bytes.fromhex, ("7f454c46", "feedface", "feedfacf", "cefaedfe", "cffaedfe", "cafebabe")))


@dataclass(frozen=True)
class Interpreters:
    """The Pythons of a program, the first one's description for ``machine.interpreter``, and its distributions.

    ``captured`` has the form of ``provenance.capture.environment``: interpreter and distributions.
    """

    found: tuple[RecordedInterpreter, ...]
    captured: Mapping[str, Any]

    @property
    def dependencies(self) -> tuple[Resource, ...]:
        """One resource for each distribution of the first interpreter; none where no Python ran."""
        return tuple(resources(self.captured)) if self.found else ()


@dataclass(frozen=True)
class _Python:
    """An interpreter as one of its processes saw it; ``versions`` are those that it found itself.

    ``other_folders`` are those of its path that are other folders here, as where it ran in a container.
    """

    executable: str
    version: str
    implementation: str
    prefix: str
    base_prefix: str
    path: tuple[str, ...]
    versions: Mapping[str, str]
    processes: int = 1
    other_folders: tuple[str, ...] = ()


def find_interpreters(
    processes: Iterable[ProcessRecord],
    executable: Path,
    words: Sequence[str],
    importable: Collection[str] | None = None,
) -> Interpreters:
    """The interpreters of the processes that the hook saw, else that of the command, if it is one. Nothing raises.

    ``importable`` are the folders of a search path that may be read, where the program is somebody else's: then it is
    not asked either, and of other folders the versions count that the hook read there.
    """
    pythons = _observed(processes)
    if not pythons and importable is None and (asked := _asked(executable, words)) is not None:
        pythons = [asked]
    if not pythons:
        reason = none("no Python was seen among the program's processes, and the command names none")
        return Interpreters((), {"interpreter": reason})
    first = pythons[0]
    installed = _distributions(first, importable)
    captured = {"interpreter": printable(_described(first)), "distributions": printable(installed)}
    own = importable is None and not first.other_folders
    if own and (packages := probe(conda.capture, Path(first.prefix))) is not None:
        captured["conda"] = printable(packages)
    return Interpreters(tuple(_recorded(each, {} if each is first else each.versions) for each in pythons), captured)


def _observed(processes: Iterable[ProcessRecord]) -> list[_Python]:
    """Each interpreter once, that which trained first, then by number of processes."""
    groups: dict[tuple[str, str, str], list[ProcessRecord]] = {}
    for process in processes:
        if process.executable and process.forked_from is None:
            groups.setdefault((process.executable, process.version, process.prefix), []).append(process)
    order = sorted(groups.values(), key=lambda group: (-max(map(_work, group)), -len(group)))
    return [_of_group(group) for group in order]


def _work(process: ProcessRecord) -> int:
    """Optimizer steps of torch, and something for having imported it at all."""
    return 0 if process.torch is None else 1 + process.torch.steps


def _of_group(group: Sequence[ProcessRecord]) -> _Python:
    best = max(group, key=lambda process: (_work(process), len(process.distributions)))
    return _Python(
        best.executable,
        best.version,
        best.implementation,
        best.prefix,
        best.base_prefix,
        best.search_path,
        dict(best.distributions),
        len(group),
        tuple(entry for entry in best.search_path if entry in best.other_folders),
    )


def _asked(executable: Path, words: Sequence[str]) -> _Python | None:
    """What the command's interpreter says of itself; ``None`` where the command is no Python, or it does not answer."""
    python = python_of(executable)
    if python is None:
        return None
    flags = ["-S"] if any(re.fullmatch(r"-[A-Za-z]*S[A-Za-z]*", word) for word in words[1:3]) else []
    try:
        answer = subprocess.run(
            [python, "-I", *flags, "-c", _QUESTION],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS,
            check=True,
        )
        name, version, implementation, prefix, base_prefix, path = json.loads(answer.stdout)
        return _Python(str(name), str(version), str(implementation), str(prefix), str(base_prefix), tuple(path), {})
    except (OSError, subprocess.SubprocessError, ValueError, TypeError):
        return None


def python_of(executable: Path) -> str | None:
    """The Python that a file is, or that the first line of a script names."""
    if _PYTHON.fullmatch(executable.name):
        return str(executable)
    try:
        with open(open_regular(executable, follow_symlinks=True), "rb") as script:
            line = script.readline(_SHEBANG_BYTES)
    except OSError:
        return None
    if not line.startswith(b"#!"):
        return None
    named = os.fsdecode(line[2:]).split()
    if named and os.path.basename(named[0]) == "env":
        named = [word for word in named[1:] if not word.startswith("-") and "=" not in word]
    if not named or not _PYTHON.fullmatch(os.path.basename(named[0])):
        return None
    return find_any_program(named[0])


def is_python(path: Path) -> bool:
    """Whether a file's name is that of CPython's interpreter."""
    return re.fullmatch(_CPYTHON, path.name) is not None


def not_compiled(folder: Path) -> Iterator[Path]:
    """The files of a folder that have an interpreter's name and are none, as a script that starts one."""
    for path in sorted(folder.iterdir()):
        if is_python(path) and path.is_file():
            with open(open_regular(path, follow_symlinks=True), "rb") as file:
                if not file.read(4).startswith(_COMPILED):
                    yield path


def _distributions(python: _Python, importable: Collection[str] | None) -> Any:
    """The distributions on its search path, with the digests of their RECORDs; else the versions that it found."""
    folders = [entry for entry in python.path if importable is None or entry in importable]
    folders = [entry for entry in folders if os.path.isdir(entry)]
    reason = unavailable("the interpreter's folders are not on this machine")
    if python.other_folders and not python.versions:
        return reason
    if not python.other_folders and (folders or not python.versions):
        return probe(distributions.capture, folders)
    installed = [
        {"name": name, "version": version, "record_sha256": reason} for name, version in sorted(python.versions.items())
    ]
    return {"count": len(installed), "installed": installed, "shadowed": [], "unreadable": []}


def _described(python: _Python) -> dict[str, Any]:
    return {
        "implementation": python.implementation,
        "version": python.version.split(" ")[0],
        "build": python.version,
        "executable": python.executable,
        "prefix": python.prefix,
        "base_prefix": python.base_prefix,
        "path": list(python.path),
    }


def _recorded(python: _Python, versions: Mapping[str, str]) -> RecordedInterpreter:
    executable, version = printable([python.executable, python.version.split(" ")[0]])
    return RecordedInterpreter(executable, version, python.processes, printable(dict(versions)))
