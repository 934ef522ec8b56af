"""Paths of an interpreter and its packages: what a process needs to see in order to run it."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

from ndrepro.execution.sandbox.confinement import existing
from ndrepro.protocol.errors import SandboxError

_SCRIPT = (
    "import json, sys; "
    "print(json.dumps([sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix, *sys.path]))"
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
    """The interpreter's own path and its prefixes. Raises SandboxError."""
    return [path for path in interpreter_paths(python) if path.name not in PACKAGE_FOLDERS]


@functools.cache
def interpreter_paths(python: str) -> tuple[Path, ...]:
    """The interpreter's own path, its prefixes, and folders of packages elsewhere. Raises SandboxError."""
    if python == sys.executable:
        found = [sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix, *sys.path]
    else:
        asked = subprocess.run([python, "-I", "-c", _SCRIPT], capture_output=True, text=True)
        if asked.returncode:
            raise SandboxError(f"{python}: it does not run: {asked.stderr.strip().rpartition(chr(10))[2]}")
        found = json.loads(asked.stdout)
    prefixes, searched = found[:4], found[4:]
    packages = [entry for entry in searched if Path(entry).name in PACKAGE_FOLDERS]
    return existing(map(Path, dict.fromkeys([*prefixes, *packages, python])))
