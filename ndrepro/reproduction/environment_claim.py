"""The claim that a repeated program was given the recorded Python and its distributions, and ran nothing else.

"Checked" is said of what was looked at alone: what Python code of either run starts, and the command itself, are named
unless it is known that the hook saw all that they execute.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from ndrepro.analysis.verdicts.code_claim import from_elsewhere
from ndrepro.execution.program_reproduction.execute_again import ProgramPlan
from ndrepro.execution.program_reproduction.modules_in_place import (
    imported_by_others,
    modules_before_others,
    modules_elsewhere,
    modules_in_place,
)
from ndrepro.execution.program_reproduction.recorded_command import python_of_script
from ndrepro.execution.program_reproduction.recorded_words import programs_of_the_code
from ndrepro.execution.programs.interpreters import python_of
from ndrepro.execution.programs.program_run import FinishedProgram
from ndrepro.execution.reproduce.reexecute import Original
from ndrepro.execution.sandbox.confinement import is_of_the_machine
from ndrepro.execution.sandbox.interpreter_paths import installation_paths
from ndrepro.protocol.program_record import ProgramRecord
from ndrepro.protocol.run_kind import PROGRAM, SCRIPT, run_kind
from ndrepro.protocol.verdicts import NO_SANDBOX, ClaimCheck, claim
from ndrepro.text.plurals import all_of, bounded, in_room
from provenance.attestation.manifest import Manifest
from provenance.errors import ProvenanceError
from provenance.git.repository import Repository
from provenance.hook.opened_files import OPENED_FILES
from provenance.hook.started_programs import LETTERS, UNOBSERVED
from provenance.observation.process_record import ImportedModule, ProcessRecord, read_processes
from provenance.redaction.redact import redact_arguments

# where a sandbox begins with nothing
_OF_A_SANDBOX = ("/tmp", "/dev/shm")
# of a command, among other words
_COMMAND = 200


def environment_claim(
    prepared: ProgramPlan, original: Original, again: Manifest, finished: FinishedProgram, python: str
) -> ClaimCheck:
    """Made when the program has ended: not checked where either run used more than the Python that was compared, or may
    have, since not all was observed, or the environment was rebuilt, of wheels that nobody has read.

    Args:
        again, finished: the manifest of the repetition, and how it ended.
        python: the version that ran in it, "" for none.
    """
    given, version = prepared.environment, prepared.command.interpreter
    # -I keeps the hook out, so that neither run shows which one it was
    ran = python or python_of(given.executable)
    others = [
        *programs_of_the_code(prepared, ProgramRecord.of(original.manifest).interpreters),
        *_others_than_compared(prepared, again),
        *(elsewhere := [*_modules_elsewhere(prepared, finished.imported)]),
        *_modules_in_place(prepared, [each for each in finished.imported if each.path not in elsewhere]),
        *_others_than_recorded((original.manifest, again)),
    ]
    problems = set(_problems(finished.processes)) - set(_asked_by_recorder(prepared))
    unseen = [*_command_unseen(prepared, finished.processes), *_unseen(original), *sorted(problems)]
    lines = [*given.differences]
    words = f"given Python {version} and its distributions, as recorded"
    if not version and ran:
        lines = [f"which Python ran was not recorded; {ran} now", *lines]
    elif not version:
        lines = ["no Python was seen: of what it, or what it started, ran in nothing was compared", *lines]
    notes = [*given.notes, *from_elsewhere(again)]
    if given.in_place:
        notes.append(f"{given.python} is started where the recorded folder had a Python: {all_of(given.in_place)}")
    words = "; ".join([in_room(["; ".join(lines), "; ".join(given.concerns)]) or words, *notes])
    if unseen:  # shells and compilers are common
        words = f"not observed, which by itself is no sign of a fault: {all_of(dict.fromkeys(unseen))}; {words}"
    if others:
        words = f"it also ran what is not compared: {all_of(dict.fromkeys(others))}; {words}"
    checked = version and not (others or unseen or lines or given.concerns or given.packages)
    return claim("environment", True if checked else None, words)


def _others_than_recorded(manifests: Iterable[Manifest]) -> Iterator[str]:
    """The Pythons of either run beside its first one, and the versions of both where they differ."""
    versions = []
    for manifest in manifests:
        first, *rest = ProgramRecord.of(manifest).interpreters or (None,)
        places = [(os.path.dirname(each.executable), each.version) for each in (first, *rest) if each is not None]
        yield from (f"{place} ({version})" for place, version in places[1:] if (place, version) != places[0])
        versions.append(", ".join(sorted({version for _, version in places})) or python_of_script(manifest) or "none")
    if versions[0] != versions[-1]:
        yield f"Python {versions[0]} then, {versions[-1]} now"


def _command_unseen(prepared: ProgramPlan, processes: Iterable[ProcessRecord]) -> Iterator[str]:
    """The command, unless a Python process of the repetition is the command's own, or that of the script it names."""
    executable, words = prepared.environment.executable, prepared.words
    python = python_of(executable)
    script = [] if python == str(executable) else [str(executable)]
    known = redact_arguments([*script, *words[1:]])
    # the first line of a script may have options
    own = (argv[1:] if not script else argv[-len(known) :] for argv in (each.argv for each in processes))
    if python is None or all([*argv] != known for argv in own):
        yield f"{bounded(shlex.join(words), _COMMAND)} (no Python that was seen): what it read and started itself"


def _unseen(original: Original) -> Iterator[str]:
    """What was not observed of the recorded run; a script records no processes."""
    try:
        yield from _problems(read_processes(original.folder.processes))
    except ProvenanceError as error:
        if run_kind(original.manifest) == PROGRAM:
            yield f"the recorded run's Python processes ({error.message})"


def _problems(processes: Iterable[ProcessRecord]) -> Iterator[str]:
    """What Python code started without the hook, and why else something was not seen; "inputs" has opened files."""
    problems = (problem for each in processes for problem in each.problems)
    return (problem for problem in problems if not problem.startswith(OPENED_FILES))


def _asked_by_recorder(prepared: ProgramPlan) -> Iterator[str]:
    """What a script's own recorder asks git, as the hook notes it, whose settings are all that it shows of it."""
    if prepared.command.kind == SCRIPT:
        with suppress(ProvenanceError):  # git is not installed
            words = Repository(prepared.place.working_folder).command()
            yield f"{UNOBSERVED}: {' '.join(map(prepared.seen, words))[:LETTERS]}"


def _others_than_compared(prepared: ProgramPlan, again: Manifest) -> Iterator[str]:
    """The Pythons of the repetition that are not the environment's."""
    environment = prepared.environment
    compared = {os.path.dirname(path) for path in (environment.executable, *environment.interpreters)}
    for each in ProgramRecord.of(again).interpreters:
        if os.path.dirname(each.executable) not in compared:
            yield f"{each.executable} ({each.version})"


def imports_claim(prepared: ProgramPlan, finished: FinishedProgram) -> tuple[ClaimCheck, ...]:
    """The claim that names modules of the code that something else imported than the code; () for none."""
    elsewhere, folder = {*_modules_elsewhere(prepared, finished.imported)}, prepared.place.working_folder
    imported = [module for module in finished.imported if module.path not in elsewhere]
    words = [(folder / each.cwd, word) for each in finished.processes for word in each.argv]
    paths = (os.path.normpath(start / word) for start, word in (*((folder, word) for word in prepared.words), *words))
    found = imported_by_others(
        str(prepared.place.place),
        imported,
        prepared.words,
        {*prepared.words, *(word for _, word in words), *paths} - {str(folder), *map(str, folder.parents)},
        prepared.environment.of_others,
    )
    names = tuple(found)
    return (claim("imports", None, f"of the code, by no file of it: {all_of(names)}"),) if names else ()


def _modules_elsewhere(prepared: ProgramPlan, imported: Sequence[ImportedModule]) -> Iterator[str]:
    """The modules of neither the code nor the environment, which nothing compares; data have a claim of their own."""
    environment, place = prepared.environment, prepared.place
    pythons = (environment.executable, *environment.interpreters)
    home = [prepared.home] if prepared.home and not is_of_the_machine(Path(prepared.home)) else []
    made = () if prepared.execution.sandbox == NO_SANDBOX else (*_OF_A_SANDBOX, *home)
    known = (
        *(place.place, *place.shown, *place.mapped.values()),
        *(environment.executable, *environment.folders, *(each.parent for each in pythons)),
        *(*environment.importable, *environment.of_others, *environment.editable.opened.values()),
    )
    shown = {str(path) for python in pythons[1:] for path in installation_paths(str(python))}
    shown |= {*filter(None, prepared.variables.get("LD_LIBRARY_PATH", "").split(os.pathsep))}
    yield from modules_elsewhere(imported, set(map(str, known)), made, shown)


def _modules_in_place(prepared: ProgramPlan, imported: Sequence[ImportedModule]) -> Iterator[str]:
    """The modules of the code that the repetition imported in the place of others."""
    place, environment = str(prepared.place.place), prepared.environment
    found = {*modules_in_place(place, imported, environment.of_others, environment.editable.modules)}
    yield from sorted(found | {*modules_before_others(place, imported)})
