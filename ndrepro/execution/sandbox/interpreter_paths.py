"""Where an interpreter and its packages lie: what a process needs to see in order to run it."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path

from ndrepro.execution.sandbox.confinement import existing
from ndrepro.protocol.errors import SandboxError

_SCRIPT = (
    "import json, sys; "
    "print(json.dumps([sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix, *sys.path]))"
)
_PACKAGES = ("site-packages", "dist-packages")


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
    packages = [entry for entry in searched if Path(entry).name in _PACKAGES]
    return existing(map(Path, dict.fromkeys([*prefixes, *packages, python])))
