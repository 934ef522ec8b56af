"""Programs that start a command in an environment which they look for first: ``uv run``, ``conda run``, ``poetry run``.

A sandbox has neither their caches nor a network, so what they start is executed, in the environment that is here. Words
that are not known for certain to lead there leave the command as it is.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ndrepro.execution.program_reproduction.recorded_command import RecordedCommand
from ndrepro.execution.programs.interpreters import is_python
from ndrepro.protocol.program_record import is_below
from provenance.attestation.manifest import Resource


@dataclass(frozen=True)
class _Launcher:
    """The options between ``run`` and the command, in one text each: those with a value, and those without."""

    with_value: str = ""
    alone: str = ""


_CONDA = _Launcher("-n --name -p --prefix", "--no-capture-output --live-stream")
_UV = _Launcher(
    "-p --python --with --with-editable --with-requirements --extra --group --only-group --no-group",
    "-q --quiet --frozen --locked --no-sync --offline --isolated --active --exact --all-extras --all-groups --dev "
    "--no-dev --no-project --managed-python --no-cache",
)
_LAUNCHERS: Mapping[str, _Launcher] = {
    "uv": _UV,
    **dict.fromkeys(("conda", "mamba", "micromamba"), _CONDA),
    **dict.fromkeys(("poetry", "pdm", "pipenv", "rye", "hatch", "pixi"), _Launcher()),
}


def without_launcher(command: RecordedCommand) -> tuple[RecordedCommand, tuple[str, ...]]:
    """The command that a launcher starts, and in words that it is executed alone; any other command as it is."""
    words, top = started_by(command.words), command.top or command.working_folder
    # a program of this name among the code is the author's own
    if not words or is_below(command.program or command.working_folder, top):
        return command, ()
    launcher = shlex.join(command.words[:2])
    told = f"{launcher}: what it starts is executed, by the environment here: activate its own before, or --rebuild-env"
    uri = words[0] if os.sep in words[0] else None
    return replace(command, words=words, executable=Resource("executable", uri=uri)), (told,)


def started_by(words: Sequence[str]) -> tuple[str, ...]:
    """The words that a launcher starts; () where they name none, or are not understood."""
    name = os.path.basename(words[0])
    launcher = _LAUNCHERS.get(name)
    if launcher is None or [*words[1:2]] != ["run"]:
        return ()
    rest = [*words[2:]]
    while rest and rest[0].startswith("-"):
        option, _, value = rest.pop(0).partition("=")
        if option == "--":
            break
        if name == "uv" and option in ("-m", "--module", "-s", "--script"):
            return ("python", *(["-m"] if "m" in option else []), *rest)
        if option in launcher.with_value.split():
            if not value and rest:
                rest.pop(0)
        elif option not in launcher.alone.split():
            return ()
    if not rest:
        return ()
    if name == "uv" and rest[0].endswith(".py"):
        return ("python", *rest)
    # a word may be the name of a task of theirs
    return tuple(rest) if launcher.with_value or is_python(Path(rest[0])) else ()
