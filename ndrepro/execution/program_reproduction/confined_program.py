"""Stands in a recorded program's place and executes it in a sandbox: ``python -I -m …confined_program DOCUMENT``.

The recorder starts this instead of the program, with the start-up hook's variables; their folders lie in the new run's
folder, which is known only then. DOCUMENT is the JSON of ``ConfinedCommand``. This process becomes the sandbox
(exec(2)), so its exit code is the program's, 128 + n for signal n.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from ndrepro.execution.sandbox.confinement import Confinement, existing
from ndrepro.execution.sandbox.interpreter_paths import interpreter_paths
from ndrepro.execution.sandbox.sandbox import Sandbox

_HOOK_OUTPUT, _SEARCHED = "NDREPRO_HOOK_OUT", "PYTHONPATH"


@dataclass(frozen=True)
class ConfinedCommand:
    """A command, the kind of sandbox, and what it sees: see ``Confinement`` and ``Sandbox``; paths as text."""

    kind: str
    command: tuple[str, ...]
    folder: str
    writable: tuple[str, ...]
    readable: tuple[str, ...]
    interpreters: tuple[str, ...]
    runs: str
    secret: str

    def words(self) -> list[str]:
        """The command line that executes it in the sandbox."""
        module = "ndrepro.execution.program_reproduction.confined_program"
        return [sys.executable, "-I", "-m", module, json.dumps(asdict(self))]


def main(document: str) -> None:
    """Become the sandbox with the command in it."""
    asked = ConfinedCommand(**json.loads(document))
    hook = os.environ.get(_HOOK_OUTPUT)
    written = [] if hook is None else [hook]
    searched = [path for path in os.environ.get(_SEARCHED, "").split(os.pathsep) if path]
    shown = [path for name in asked.interpreters for path in interpreter_paths(name)]
    confinement = Confinement(
        readable=existing([*map(Path, (*asked.readable, *searched)), *shown]),
        writable=tuple(map(Path, (*asked.writable, *written))),
        folder=Path(asked.folder),
        gpu=True,
    )
    sandbox = Sandbox(asked.kind, runs=(Path(asked.runs),), secret=(Path(asked.secret),))
    words = sandbox.command_line(asked.command, os.environ, confinement)
    os.execve(words[0], words, sandbox.variables(os.environ))


if __name__ == "__main__":
    main(sys.argv[1])
