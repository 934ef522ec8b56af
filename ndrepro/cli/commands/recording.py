"""What ``ndrepro record`` does: run the command, have it recorded, say where, and end as the command did."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ndrepro.cli.commands.record_options import RecordOptions
from ndrepro.cli.display import output, terminal
from ndrepro.execution.programs.command import CommandError, resolve_command
from ndrepro.execution.programs.program_run import FinishedProgram, ProgramRequest, record_program
from ndrepro.protocol.errors import UsageError
from ndrepro.protocol.layout import DEFAULT_RUNS, RunsFolder
from provenance.attestation.key_home import default_home
from provenance.formats.bounded_read import read_tail

_NO_MODULE = re.compile(rb"^ModuleNotFoundError: No module named '(\w+)['.]", re.MULTILINE)
_SEED_NAME = re.compile(r"[\w.-]{1,100}", re.ASCII)


def record_command(asked: RecordOptions) -> int:
    """Run and record a command; the exit code is the command's, or that of an error that kept it from starting."""
    try:
        resolved = resolve_command(asked.command, asked.name)
    except CommandError as error:
        output.print_error(output.record_of(error))
        return error.exit_code
    request = ProgramRequest(
        resolved,
        outputs=asked.out,
        data=tuple(map(Path, asked.data)),
        metrics=asked.metrics,
        seeds=declared_seeds(asked.seed),
        trail=asked.trail,
    )
    finished = record_program(request, RunsFolder(asked.runs), default_home())
    if finished.exit_code:
        finished = replace(finished, notes=(*finished.notes, *_other_python(resolved.executable, finished.folder.log)))
    problem = None if finished.error is None else output.record_of(finished.error)
    if asked.as_json:
        terminal.write_text(output.document_text(_document(finished, problem)), sys.stderr)
    elif not asked.quiet:
        _print_end(finished, asked.runs)
    if problem is not None and not asked.as_json:
        output.print_error(problem)
    if finished.exit_code is None:
        return output.COULD_NOT
    return _end_as(finished.exit_code)


def _other_python(executable: Path, log: Path) -> Iterator[str]:
    """A hint where the Python that ran has no module that this program's own has: PATH named another one."""
    own = Path(sys.executable)
    if not executable.name.startswith("python") or executable.absolute() == own:
        return
    try:
        missing = _NO_MODULE.findall(read_tail(log))
    except OSError:
        return
    if missing and find_spec(name := missing[-1].decode()) is not None:
        yield f"{executable} has no module {name}, and {own} has: name the Python that you mean"


def declared_seeds(pairs: Sequence[str]) -> dict[str, int]:
    """The seeds of ``--seed NAME=V``. Raises UsageError for another form, or a name that is given twice."""
    found: dict[str, int] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        try:
            value = int(text)
        except ValueError:
            equals = ""
            value = 0
        if not equals or not _SEED_NAME.fullmatch(name):
            raise UsageError(f"--seed {pair!r}: expected NAME=V with a whole number", "e.g. --seed torch=3")
        if name in found:
            raise UsageError(f"--seed: {name!r} is given twice", "give it once")
        found[name] = value
    return found


def _document(finished: FinishedProgram, error: dict[str, Any] | None) -> dict[str, Any]:
    """The JSON of a recorded program: its outcome, and where it is."""
    return {
        "name": finished.folder.root.parent.name,
        "run": finished.folder.root.name,
        "folder": str(finished.folder.root.absolute()),
        "outcome": finished.outcome,
        "exit_code": finished.exit_code,
        "signer": finished.signer,
        "manifest": str(finished.manifest.absolute()) if finished.manifest else None,
        "notes": list(finished.notes),
        "error": error,
    }


def _print_end(finished: FinishedProgram, runs: Path) -> None:
    rows: list[tuple[str, Any]] = [("outcome", finished.outcome), ("run", terminal.here(finished.folder.root))]
    rows.append(("signed by", finished.signer if finished.manifest else "nobody: there is no manifest"))
    rows += [("note", note) for note in finished.notes]
    if finished.manifest:
        word = terminal.run_word(finished.folder.root, runs, DEFAULT_RUNS)
        rows.append(("next", f"{terminal.program()} verify {word}"))
    for name, text in rows:
        terminal.write_line(f"ndrepro: {name:<10} {text}", sys.stderr)


def _end_as(exit_code: int) -> int:
    """End as the program did: by its signal, so that whoever waits for this process sees the same.

    Where the signal does not end this process, the exit code that a shell gives to such an end.
    """
    import resource  # not on every system that has the other commands

    if exit_code >= 0:
        return exit_code
    terminal.flush()
    number = -exit_code
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))  # it is not our core
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    return 128 + number
