"""The interpreter that a program runs in again, and how its distributions differ from those that were recorded.

    the recorded interpreter, where it is here   else the one that the command's first word names here
    --rebuild-env: an environment of its own, of the recorded versions, installed by uv

A rebuilt environment has no distribution that was not recorded, and those that no index can have (installed from a
folder or a repository, or of unknown version) are left out and named. Wheels alone are installed, and its interpreter
is not started here: an author chooses what is in it, and only the sandbox executes that.

The recorded interpreter is used where its file belongs to this user or to root: anybody may write elsewhere.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

from ndrepro.execution.environments.interpreters import find_python, uv_executable, uv_variables
from ndrepro.execution.program_reproduction.recorded_command import RecordedCommand
from ndrepro.protocol.errors import EnvironmentMissing, UsageError
from provenance.attestation.manifest import Manifest
from provenance.capture.distribution_metadata import normalized
from provenance.errors import DigestError
from provenance.formats.digest import file_digest

_PYTHON = re.compile(r"python(?:\d+(?:\.\d+)*)?[a-z]?")
_NAME, _VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*"), re.compile(r"[A-Za-z0-9][A-Za-z0-9.+!_-]*")
_QUESTION = "import json, sys; print(json.dumps([sys.version.split()[0], sys.path, sys.executable]))"
_SHOWN_LINES = 6


@dataclass(frozen=True)
class ProgramEnvironment:
    """Which file is executed, and what differs from the record, in words.

    ``interpreters`` are those that it may start; ``searched`` the folders that they import from, editable installations
    among them; ``folders`` hold a rebuilt environment, whose programs come first.
    """

    executable: Path
    interpreters: tuple[Path, ...]
    differences: tuple[str, ...]
    folders: tuple[Path, ...] = ()
    searched: tuple[Path, ...] = ()

    @property
    def shown(self) -> tuple[Path, ...]:
        """The folders that the program must be able to read."""
        return *self.folders, *self.searched


def find_environment(command: RecordedCommand, manifest: Manifest) -> ProgramEnvironment:
    """The environment that is here. Raises UsageError where the command is not found."""
    executable, difference = _executable(command)
    interpreter = executable if is_python(executable) else _on_path("python3", "python")
    version, searched, _ = ("", (), None) if interpreter is None else _asked(interpreter)
    differences = (*difference, *_different_distributions(command, manifest, version, _versions(searched)))
    folders = tuple(Path(place) for place in searched if Path(place).is_dir())
    return ProgramEnvironment(executable, (interpreter,) if interpreter else (), differences, searched=folders)


def rebuild_environment(command: RecordedCommand, manifest: Manifest, place: Path) -> ProgramEnvironment:
    """Install the recorded distributions into the new folder ``place``.

    Raises UsageError where no Python was recorded, EnvironmentMissing where uv cannot install them, with its words.
    """
    if not command.interpreter:
        raise UsageError("--rebuild-env: the recorded program ran no Python", "leave the option out")
    base = find_python(".".join(command.interpreter.split(".")[:2]))
    pins, left_out = _pins(manifest)
    _uv("venv", "--no-project", "--python", str(base), str(place))
    python = place / "bin" / "python"
    listed = place.with_name("recorded.txt")
    listed.write_text("".join(f"{name}=={version}\n" for name, version in sorted(pins.items())), encoding="utf-8")
    wheels = ("--no-deps", "--only-binary", ":all:")
    _uv("pip", "install", *wheels, "--python", str(python), "--requirements", str(listed))
    executable = python if is_python(Path(command.words[0])) else _executable(command)[0]
    packages = next(place.glob("lib/python*/site-packages"))
    found = _versions([str(packages)])
    differences = (*left_out, *_different_distributions(command, manifest, _asked(base)[0], found))
    return ProgramEnvironment(executable, (base,), differences, (place,))


def is_python(path: Path) -> bool:
    """Whether a file's name is that of a Python interpreter."""
    return _PYTHON.fullmatch(path.name) is not None


def _executable(command: RecordedCommand) -> tuple[Path, tuple[str, ...]]:
    """The file to execute, and how it differs from the recorded one. Raises UsageError where there is none.

    Of a Python that is the interpreter itself, which a shim or a link may have led to: its version is compared.
    """
    interpreter = Path(command.interpreter_path)
    if is_python(Path(command.words[0])) and interpreter.is_absolute() and _is_own(interpreter):
        return interpreter, ()
    recorded, digest = Path(command.executable.uri or ""), (command.executable.digest or {}).get("sha256")
    if recorded.is_absolute() and _is_own(recorded) and os.access(recorded, os.X_OK):
        same = digest is None or _digest(recorded) == digest
        return recorded, () if same else (f"{recorded}: another file than then",)
    found = _on_path(Path(command.words[0]).name)
    if found is not None and is_python(found):
        found = _asked(found)[2] or found  # a shim of pyenv, say, is a program that the sandbox does not show
    if found is None:
        raise UsageError(
            f"{command.words[0]}: command not found", "install it, or rebuild the environment: --rebuild-env"
        )
    same = digest is not None and _digest(found) == digest
    return found, () if same else (f"{command.words[0]}: {recorded} then, {found} now",)


def _is_own(path: Path) -> bool:
    """Whether a file belongs to this user or to root."""
    return path.is_file() and path.stat().st_uid in (0, os.getuid())


def _different_distributions(
    command: RecordedCommand, manifest: Manifest, version: str, installed: Mapping[str, str]
) -> Iterator[str]:
    """One line for each distribution of the interpreter that is not as recorded; nothing where no Python ran."""
    if not command.interpreter:
        return
    if version != command.interpreter:
        yield f"python: {command.interpreter} then, {version or 'none'} now"
    then = _recorded(manifest)
    for name in sorted(then.keys() | installed.keys()):
        before, now = then.get(name), installed.get(name)
        if before is None or now is None:
            yield f"{name}: {'not there then' if before is None else 'not here now'}"
        elif before != now:
            yield f"{name}: {before or 'unknown'} then, {now} now"


def _asked(python: Path) -> tuple[str, tuple[str, ...], Path | None]:
    """The version, the search path and the own file of an interpreter; "" where it does not answer."""
    asked = subprocess.run([str(python), "-I", "-c", _QUESTION], capture_output=True, text=True)
    if asked.returncode:
        return "", (), None
    version, places, executable = json.loads(asked.stdout)
    return version, tuple(place for place in places if place), Path(executable) if executable else None


def _versions(places: Sequence[str]) -> dict[str, str]:
    """Name and version of every distribution in some folders; of several of one name the first."""
    found: dict[str, str] = {}
    for each in distributions(path=list(places)):
        if name := each.metadata["Name"]:
            found.setdefault(normalized(name), each.version)
    return found


def _recorded(manifest: Manifest) -> dict[str, str]:
    named = filter(None, (item.distribution for item in manifest.dependencies))
    return {normalized(name): version for name, version in named}


def _pins(manifest: Manifest) -> tuple[dict[str, str], tuple[str, ...]]:
    """Versions that an index may have; and the others, in words."""
    pins, left_out = {}, []
    for item in manifest.dependencies:
        if (named := item.distribution) is None:
            continue
        name, version = named
        if "origin" in (item.annotations or {}):
            left_out.append(f"{name} {version}: installed from a folder or a repository, which no index has")
        elif not version:
            left_out.append(f"{name}: its version is not known")
        elif not (_NAME.fullmatch(name) and _VERSION.fullmatch(version)):
            left_out.append(f"{name} {version}: no name and version of a distribution")
        else:
            pins[name] = version
    return pins, tuple(left_out)


def _uv(*words: str) -> None:
    done = subprocess.run([str(uv_executable()), *words], env=uv_variables(), capture_output=True, text=True)
    if done.returncode:
        said = "; ".join(line.strip() for line in done.stderr.strip().splitlines()[-_SHOWN_LINES:])
        raise EnvironmentMissing(
            f"the recorded environment cannot be built: uv {words[0]}: {said}",
            "leave --rebuild-env out: the environment that is here is compared with the recorded one",
        )


def _on_path(*names: str) -> Path | None:
    found = (shutil.which(name) for name in names)
    return next((Path(path) for path in found if path), None)


def _digest(path: Path) -> str | None:
    try:
        return file_digest(path).sha256
    except DigestError:
        return None
