"""Which file a command executes, what its runs are called, and its words where its folder is at another path.

A command is looked up as a shell does it, before anything is recorded: what does not exist or cannot be executed is an
error with the exit code that shells give it, and leaves no run behind.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from ndrepro.protocol.errors import NdreproError, UsageError
from ndrepro.protocol.layout import SEGMENTS
from ndrepro.protocol.program_record import is_below

NOT_EXECUTABLE, NOT_FOUND = 126, 127
_SCRIPTS = (".py", ".ipynb", ".sh", ".jl", ".R")
_NAME = re.compile(r"[\w][\w.+-]{0,99}", re.ASCII)


class CommandError(NdreproError):
    """A command that cannot be executed; ``exit_code`` is the one that a shell ends with."""

    def __init__(self, message: str, cure: str, exit_code: int) -> None:
        super().__init__(message, cure)
        self.exit_code = exit_code


@dataclass(frozen=True)
class Command:
    """The words of a command, the file that its first word names, and a name for its runs."""

    words: tuple[str, ...]
    executable: Path
    name: str


def resolve_command(words: Sequence[str], name: str | None = None) -> Command:
    """The command of these words; ``name`` is the user's own for its runs.

    Raises UsageError for no words or a name that cannot be a folder's, CommandError for what cannot be executed.
    """
    if not words or not words[0]:
        raise UsageError("no command to record", "write it after two dashes: ndrepro record -- python train.py")
    if any("\0" in word for word in words):
        raise UsageError("the command has a NUL character, which no program can be given")
    if name is not None and (not _NAME.fullmatch(name) or name.endswith(SEGMENTS)):
        raise UsageError(
            f"--name {name!r}: expected up to 100 letters, digits, dots, dashes, underscores or plus signs",
            "the runs of a name share a folder: choose a short one, e.g. --name baseline",
        )
    return Command(tuple(words), _executable(words[0]), name or default_name(words))


def default_name(words: Sequence[str]) -> str:
    """The name of a script or module among the words, else that of the program."""
    scripts = (word for word in words if word.endswith(_SCRIPTS) and os.path.isfile(word))
    modules = (after for before, after in pairwise(words) if before == "-m")
    chosen = next(scripts, None)
    text = Path(chosen).stem if chosen else next(modules, os.path.basename(words[0]))
    name = re.sub(r"[^\w.+-]+", "-", text, flags=re.ASCII).lstrip(".+-")[:60].removesuffix(SEGMENTS)
    return name or "program"


def _executable(word: str) -> Path:
    """The file that a command's first word names. Raises CommandError."""
    places = [word] if os.sep in word else [os.path.join(folder, word) for folder in os.get_exec_path()]
    there = [place for place in places if os.path.isfile(place)]
    for place in there:
        if os.access(place, os.X_OK):
            return Path(place)
    if there:
        cure = "make it executable (chmod +x), or name its interpreter: ndrepro record -- python FILE"
        raise CommandError(f"{there[0]}: not executable", cure, NOT_EXECUTABLE)
    if os.path.isdir(places[0]):
        raise CommandError(f"{word}: a folder, expected a program", "name a program", NOT_EXECUTABLE)
    where = "" if os.sep in word else " in any folder of PATH"
    raise CommandError(f"{word}: command not found{where}", "check its spelling and its path", NOT_FOUND)


def moved(word: str, top: Path, place: Path) -> str:
    """A word that is a path of the folder ``top``, or has it behind "=", with that of the folder ``place``."""
    for start in (0, *(found.end() for found in re.finditer("=", word))):
        path = Path(word[start:])
        if path.is_absolute():
            return word[:start] + str(place / os.path.relpath(path, top)) if is_below(path, top) else word
    return word
