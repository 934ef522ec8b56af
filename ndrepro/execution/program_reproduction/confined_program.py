"""Stands in a recorded program's place and executes it in a sandbox: ``python -I -m …confined_program FILE``.

The recorder starts this instead of the program, with this machine's own variables and those of the start-up hook;
their folders are in the new run's folder, which is known only then. FILE has the JSON of ``ConfinedCommand``: a word of
a command line has at most 128 KiB. This process becomes the sandbox (exec(2)), so its exit code is the program's,
128 + n for signal n. A report is in a file beside FILE: why nothing was started (the exit code is then of none), or
which processes were still there when the program had ended.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from ndrepro.execution.sandbox.confinement import Confinement, existing
from ndrepro.execution.sandbox.interpreter_paths import installation_paths
from ndrepro.execution.sandbox.sandbox import Sandbox
from ndrepro.protocol.errors import NdreproError, SandboxError
from provenance.capture.unavailable import printable
from provenance.redaction.redact import redact_arguments

_HOOK_OUTPUT, _SEARCHED = "NDREPRO_HOOK_OUT", "PYTHONPATH"
_REPORT = ".report"
_OF_THE_HOOK = (_HOOK_OUTPUT, "NDREPRO_HOOK_TRAIL", _SEARCHED)


@dataclass(frozen=True)
class ConfinedCommand:
    """A command, the kind of sandbox, and what it sees: see ``Confinement`` and ``Sandbox``; paths as text.

    ``variables`` are the program's environment, but for those of the start-up hook; ``home`` is the path of its home
    folder, "" for the sandbox's own; ``expected``: path -> inode and time of change, see ``Confinement``. Of the
    folders ``covered`` only what is named is shown, where an interpreter's shows them.
    """

    kind: str
    command: tuple[str, ...]
    folder: str
    writable: tuple[str, ...]
    readable: tuple[str, ...]
    interpreters: tuple[str, ...]
    runs: str
    secret: str
    variables: Mapping[str, str]
    home: str
    mapped: Mapping[str, str]
    placed: Mapping[str, str]
    links: Mapping[str, str]
    covered: tuple[str, ...]
    expected: Mapping[str, tuple[int, int]]

    def words(self, file: Path) -> list[str]:
        """The command line that executes it in the sandbox; ``file``, which is written, has to stay until then."""
        module = "ndrepro.execution.program_reproduction.confined_program"
        file.write_text(json.dumps(asdict(self)), encoding="utf-8")
        return [sys.executable, "-I", "-m", module, str(file)]

    def expect_possible(self) -> None:
        """Raise SandboxError where there is no sandbox that shows all of this at these paths."""
        _in_sandbox(self, Path(os.devnull), 0)


def left_behind(file: Path) -> tuple[str, ...]:
    """The command lines of the processes that outlived the command in ``file``, and ended with the sandbox.

    Raises SandboxError where it never started: no sandbox, or what it is shown was exchanged.
    """
    report = file.with_suffix(_REPORT)
    told = json.loads((report.exists() and report.read_text(encoding="utf-8")) or "{}")
    if reason := told.get("refused"):
        raise SandboxError(reason, "nothing was executed, and nothing judged")
    return tuple(shlex.join(printable(redact_arguments(words))) for words in told.get("stayed", ()))


def main(file: str) -> None:
    """Become the sandbox with the command in it."""
    report = os.open(Path(file).with_suffix(_REPORT), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        asked = ConfinedCommand(**json.loads(Path(file).read_text(encoding="utf-8")))
        expected = Path(file).with_name("expected.json")
        expected.write_text(json.dumps(asked.expected), encoding="utf-8")
        words, variables = _in_sandbox(asked, expected, report)
    except NdreproError as error:
        os.write(report, json.dumps({"refused": error.message}).encode())
        sys.exit(error.message)
    os.set_inheritable(report, True)
    os.execve(words[0], words, variables)


def _in_sandbox(asked: ConfinedCommand, expected: Path, report: int) -> tuple[list[str], Mapping[str, str]]:
    """The sandbox's command line, and its own variables. Raises SandboxError."""
    hook = os.environ.get(_HOOK_OUTPUT)
    written = [] if hook is None else [hook]
    # the hook's folder comes first; what follows is the recorded program's, which sees its own folder anyway
    hooked = [] if hook is None else os.environ.get(_SEARCHED, "").split(os.pathsep)[:1]
    variables = {**asked.variables, **{name: os.environ[name] for name in _OF_THE_HOOK if name in os.environ}}
    shown = [path for name in asked.interpreters for path in installation_paths(name)]
    confinement = Confinement(
        readable=existing([*map(Path, (*asked.readable, *hooked)), *shown]),
        writable=tuple(map(Path, (*asked.writable, *written))),
        folder=Path(asked.folder),
        mapped={Path(inside): Path(found) for inside, found in asked.mapped.items()},
        placed={Path(inside): Path(found) for inside, found in asked.placed.items()},
        links={Path(inside): target for inside, target in asked.links.items()},
        hidden=tuple(map(Path, asked.covered)),
        gpu=True,
        home=Path(asked.home) if asked.home else None,
        expected=expected,
    )
    sandbox = Sandbox(asked.kind, runs=(Path(asked.runs),), secret=(Path(asked.secret),))
    handed_in = sandbox.handed_in(variables, confinement.home)
    return sandbox.command_line(asked.command, variables, confinement, report), handed_in


if __name__ == "__main__":
    main(sys.argv[1])
