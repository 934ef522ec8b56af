"""What an interpreter of this machine says of itself: version, search path, file, and places of its own modules."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import NamedTuple

from ndrepro.execution.environments.interpreters import expect_untracked

# started without site, its search path has its own modules alone
_QUESTION = (
    "import json, sys; own = sys.path[:]; import site; site.main(); "
    "own += [*site.getsitepackages(), site.getusersitepackages()]; "
    "print(json.dumps([sys.version.split()[0], sys.path, sys.executable, own]))"
)


class AskedPython(NamedTuple):
    """``own`` are the places of its own modules and its environment's packages; version "" where it did not answer."""

    version: str = ""
    searched: tuple[str, ...] = ()
    executable: Path | None = None
    own: tuple[Path, ...] = ()


def ask_python(python: Path) -> AskedPython:
    """The answer of an interpreter. Raises UsageError where git tracks it."""
    expect_untracked(python)
    asked = subprocess.run([str(python), "-I", "-S", "-c", _QUESTION], capture_output=True, text=True)
    if asked.returncode:
        return AskedPython()
    version, places, executable, own = json.loads(asked.stdout)
    searched = tuple(place for place in places if place)
    return AskedPython(version, searched, Path(executable) if executable else None, tuple(map(Path, own)))
