"""Paths of an interpreter and its packages: what a process needs to see in order to run it."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

from ndrepro.execution.sandbox.confinement import entries, existing, is_of_the_system
from ndrepro.protocol.errors import SandboxError

_SCRIPT = (
    "import json, sys; "
    "print(json.dumps([sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix, *sys.path]))"
)
# what installations of Python, environments and conda's packages have at the top of a prefix, which may be a project's
_INSTALLED = re.compile(
    r"bin|sbin|condabin|lib(32|64|exec)?|include|share|etc|man|ssl|pyvenv\.cfg|nltk_data|"
    r"conda-meta|compiler_compat|nvvm|targets|\w+-conda\w*-linux-gnu\w*"
)
PACKAGE_FOLDERS = ("site-packages", "dist-packages")


def without_dots(program: str) -> str:
    """The path of a program without ``..``: the folders that it leads through need not be shown. Links are kept."""
    folder, name = os.path.split(program)
    return os.path.join(os.path.realpath(folder), name) if os.pardir in folder.split(os.sep) else program


def package_folders() -> tuple[Path, ...]:
    """The folders of installed packages of this interpreter."""
    return existing(Path(entry).resolve() for entry in sys.path if Path(entry).name in PACKAGE_FOLDERS)


def installation_paths(python: str) -> list[Path]:
    """The interpreter's own path and what is installed at its prefixes. Raises SandboxError."""
    return [path for path in interpreter_paths(python) if path.name not in PACKAGE_FOLDERS]


@functools.cache
def interpreter_paths(python: str) -> tuple[Path, ...]:
    """The interpreter's own path, what is installed at its prefixes, and folders of packages elsewhere.

    Raises SandboxError, also for a socket, FIFO or device there, which would be a way out.
    """
    if python == sys.executable:
        found = [sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix, *sys.path]
    else:
        asked = subprocess.run([python, "-I", "-c", _SCRIPT], capture_output=True, text=True)
        if asked.returncode:
            raise SandboxError(f"{python}: it does not run: {asked.stderr.strip().rpartition(chr(10))[2]}")
        found = json.loads(asked.stdout)
    prefixes, searched = found[:4], found[4:]
    packages = [entry for entry in searched if Path(entry).name in PACKAGE_FOLDERS]
    installed = [path for prefix in existing(map(Path, dict.fromkeys(prefixes))) for path in of_prefix(prefix)[0]]
    shown = existing(dict.fromkeys([*installed, *map(Path, packages), Path(python)]))
    for path in shown:
        if not (_is_of_the_machine(path) or any(other in path.parents for other in shown)):
            _expect_files_only(path)
    return shown


def of_prefix(prefix: Path) -> tuple[list[Path], list[Path]]:
    """What a sandbox shows of an interpreter's prefix, and what is beside that: maybe of a project which it is the root
    of. Of a prefix of the system's all is shown. Raises SandboxError where the prefix cannot be listed.
    """
    if _is_of_the_machine(prefix):
        return [prefix], []
    try:
        names = sorted(prefix.iterdir())
    except OSError as error:
        raise SandboxError(f"{prefix}: {error.strerror}") from None
    shown = [path for path in names if _is_installed(path, prefix)]
    return shown, [path for path in names if path not in shown]


def _is_of_the_machine(path: Path) -> bool:
    """Whether a sandbox shows a path, or refuses it, anyway."""
    return path.is_relative_to("/usr") or str(path) == path.anchor


def _is_installed(path: Path, prefix: Path) -> bool:
    """A link is what it leads to, which is of this prefix or the system's."""
    real, top = path.resolve(), prefix.resolve()
    named = real.relative_to(top).parts[:1] if real.is_relative_to(top) else ()
    inside = any(map(_INSTALLED.fullmatch, named)) or is_of_the_system(real)
    return inside and _INSTALLED.fullmatch(path.name) is not None


def _expect_files_only(top: Path) -> None:
    try:
        for entry in entries(top):
            if not (entry.is_symlink() or entry.is_file() or entry.is_dir()):
                why = "a socket, FIFO or device in an environment, which a sandbox does not show"
                raise SandboxError(f"{entry.path}: {why}", "move it elsewhere, or use another environment")
    except OSError as error:
        raise SandboxError(f"{error.filename or top}: {error.strerror}", "use another environment") from None
