"""The claim that a repeated program was given the recorded Python and its distributions, and ran no other."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

from ndrepro.execution.program_reproduction.execute_again import ProgramPlan
from ndrepro.execution.program_reproduction.modules_in_place import (
    imported_by_others,
    modules_before_others,
    modules_in_place,
)
from ndrepro.execution.program_reproduction.recorded_command import python_of_script
from ndrepro.execution.program_reproduction.recorded_words import programs_of_the_code
from ndrepro.execution.programs.interpreters import python_of
from ndrepro.execution.programs.program_run import FinishedProgram
from ndrepro.execution.reproduce.reexecute import Original
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.program_record import ProgramRecord
from ndrepro.protocol.verdicts import ClaimCheck, claim
from ndrepro.text.plurals import all_of, bounded
from provenance.attestation.manifest import Manifest
from provenance.errors import ProvenanceError
from provenance.hook.started_programs import UNOBSERVED
from provenance.observation.process_record import ImportedModule, ProcessRecord, read_processes


def environment_claim(
    prepared: ProgramPlan, original: Original, again: Manifest, finished: FinishedProgram, python: str
) -> ClaimCheck:
    """Made when the program has ended: not checked where either run used more than the Python that was compared, or
    the environment was rebuilt, of wheels that nobody has read.

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
        *_modules_in_place(prepared, finished.imported),
        *_others_than_recorded((original.manifest, again)),
        *_started_unseen((original.folder, finished.folder)),
    ]
    lines = [*given.differences, *given.concerns]
    words = f"given Python {version} and its distributions, as recorded"
    if not version and ran:
        lines = [f"which Python ran was not recorded; {ran} now", *lines]
    elif not version:
        lines = ["no Python was seen: of what it, or what it started, ran in nothing was compared", *lines]
    words = "; ".join([bounded("; ".join(lines)) or words, *given.notes])
    if others:
        words = f"it also ran what is not compared: {all_of(dict.fromkeys(others))}; {words}"
    checked = version and not (others or lines or given.packages)
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


def _started_unseen(folders: Iterable[RunFolder]) -> Iterator[str]:
    """What Python code of either run started without the hook."""
    for folder in folders:
        problems = [problem for each in _processes(folder) for problem in each.problems]
        yield from (problem for problem in problems if problem.startswith(UNOBSERVED))


def _others_than_compared(prepared: ProgramPlan, again: Manifest) -> Iterator[str]:
    """The Pythons of the repetition that are not the environment's."""
    environment = prepared.environment
    compared = {os.path.dirname(path) for path in (environment.executable, *environment.interpreters)}
    for each in ProgramRecord.of(again).interpreters:
        if os.path.dirname(each.executable) not in compared:
            yield f"{each.executable} ({each.version})"


def imports_claim(prepared: ProgramPlan, finished: FinishedProgram) -> tuple[ClaimCheck, ...]:
    """The claim that names modules of the code that something else imported than the code; () for none."""
    folder = prepared.place.working_folder
    words = [(folder / each.cwd, word) for each in _processes(finished.folder) for word in each.argv]
    paths = (os.path.normpath(start / word) for start, word in (*((folder, word) for word in prepared.words), *words))
    found = imported_by_others(
        str(prepared.place.place),
        finished.imported,
        prepared.words,
        {*prepared.words, *paths} - {str(folder), *map(str, folder.parents)},
        prepared.environment.importable,
    )
    names = tuple(found)
    return (claim("imports", None, f"of the code, by no file of it: {all_of(names)}"),) if names else ()


def _modules_in_place(prepared: ProgramPlan, imported: Sequence[ImportedModule]) -> Iterator[str]:
    """The modules of the code that the repetition imported in the place of others."""
    place, environment = str(prepared.place.place), prepared.environment
    found = {*modules_in_place(place, imported, environment.importable, environment.modules)}
    yield from sorted(found | {*modules_before_others(place, imported)})


def _processes(folder: RunFolder) -> tuple[ProcessRecord, ...]:
    """Those of a repetition; none where their list is none, which is said elsewhere."""
    try:
        return read_processes(folder.processes)
    except ProvenanceError:
        return ()
