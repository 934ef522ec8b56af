"""What an author's record says to the program that runs again, beside its command: each word may be a result.

A reviewer is shown the command, and the code of the commit. Names that git answers with, variables, paths under which
inputs are found, the working folder and the name of the run are in neither, and the program can see them all, since the
kernel shows them, too. So each is named, but for those that the command has as well, or the reviewer's own environment.
Whether the program uses them is not known. What need not be the record's is not: files are written in the order of
their names, and whether an untracked file is executable is decided by its content and name.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from ndrepro.execution.program_reproduction.execute_again import ProgramPlan
from ndrepro.execution.programs.interpreters import is_python
from ndrepro.protocol.program_record import RecordedInterpreter, is_below

_OF_HERE = {"PATH", "LD_LIBRARY_PATH", "PYTHONPATH"}


def recorded_words(plan: ProgramPlan) -> Iterator[str]:
    """Each word with what it is of; the fewest kinds first, since there may be many inputs."""
    command, place = plan.command, plan.place
    if command.name not in _words_and_stems(plan.words):
        yield f"name {command.name}"
    if plan.at is not None:
        yield f"folder {command.working_folder}"
    elif (folder := os.path.relpath(place.working_folder, place.place)) != os.curdir:
        yield f"folder {folder}"
    if not is_below(command.working_folder, command.top or command.working_folder):
        yield f"folder {command.working_folder}, which is not in the recorded code"
    if command.trail not in ("", "auto"):
        yield f"trail {command.trail}"
    values = {**plan.variables, "HOME": plan.recorded_home}
    of_code = is_below(plan.recorded_home, command.top or command.working_folder)  # what is in it is the author's
    for name in sorted(plan.recorded_variables.keys() & values.keys() - _OF_HERE):
        if values[name] != os.environ.get(name) or (of_code and name == "HOME"):  # else the reviewer's, too
            yield f"variable {name}"
    entries = [entry for entry in plan.search_path[0].split(os.pathsep) if entry]
    if entries:
        own = [os.path.relpath(entry, place.place) if os.path.isabs(entry) else entry for entry in entries]
        yield f"PYTHONPATH {os.pathsep.join(own)}"
    yield from (f"Python {path}" for path in plan.environment.in_place)
    yield from place.repositories.names
    yield from place.elsewhere
    said = {word.rpartition("=")[2] for word in plan.words} | {*plan.words}
    yield from (f"data {each.path}" for each in command.data if each.path not in said)
    yield from (f"input {path}" for path in place.beside_commit if path not in said)


def _words_and_stems(words: Iterable[str]) -> set[str]:
    return {each for word in words for each in (word, Path(word).name, Path(word).stem)}


def files_of_the_code(plan: ProgramPlan) -> Iterator[str]:
    """Which file of the recorded code is executed, and which ones absolute paths of the command lead to."""
    place, executable = plan.place.place, plan.environment.executable
    if executable.is_relative_to(place):
        yield f"its program is {executable.relative_to(place)} of the recorded code"
    for then, now in [*zip(plan.command.words, plan.words, strict=True)][1:]:
        found = Path(now[max(now.find(str(place)), 0) :])
        if now != then and found.is_file():
            yield f"{then} is {found.relative_to(place)} of the recorded code"


def programs_of_the_code(plan: ProgramPlan, interpreters: Iterable[RecordedInterpreter]) -> Iterator[str]:
    """The programs that a word names without a path, and the recorded Pythons, which are files of the recorded code:
    what is called ``python`` there need not be one.
    """
    place, command = plan.place, plan.command
    executable = plan.environment.executable
    if executable.is_relative_to(place.place) and (os.sep not in plan.words[0] or is_python(executable)):
        yield f"{plan.words[0]} is {executable.relative_to(place.place)} of the recorded code"
    top = command.top or command.working_folder
    for each in interpreters:
        path = os.path.normpath(command.working_folder / each.executable)
        name = os.path.relpath(path, top)
        if is_below(path, top) and name not in plan.environment.in_place and os.path.lexists(place.place / name):
            yield f"Python {name} of the recorded code"
    for word in plan.words:
        for folder in plan.variables["PATH"].split(os.pathsep) if word and os.sep not in word else ():
            found = Path(os.path.normpath(place.working_folder / folder / word))
            if found.is_relative_to(place.place) and found.is_file() and os.access(found, os.X_OK):
                yield f"{word} is {found.relative_to(place.place)} of the recorded code"
