"""Claims on what a repeated program was given, code, variables and inputs: each names what is its author's."""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path

from ndrepro.analysis.verdicts.run_conditions import variables_claim
from ndrepro.execution.program_reproduction.execute_again import ProgramPlan
from ndrepro.execution.program_reproduction.recorded_command import RecordedData, listed_files
from ndrepro.execution.program_reproduction.recorded_words import files_of_the_code
from ndrepro.execution.program_reproduction.uncompared_inputs import opened_here, uncompared_inputs
from ndrepro.execution.programs.program_run import FinishedProgram
from ndrepro.execution.reproduce.files_beside_data import data_as_code
from ndrepro.execution.reproduce.rare_files import rare_first
from ndrepro.execution.reproduce.unread_files import unread_files
from ndrepro.protocol.program_record import INPUTS, STANDARD_INPUT, ProgramRecord
from ndrepro.protocol.verdicts import FLAGGED, RECORDED_CODE, ClaimCheck, claim
from ndrepro.text.plurals import all_of, bounded, first_of, in_room, plural, quoted
from provenance.attestation.manifest import Manifest
from provenance.capture.unavailable import at, text
from provenance.formats.folder_tree import files_below
from provenance.observation.process_record import ProcessRecord

# of a command in a claim, which has more to say
_COMMAND = 1000
_OF_THE_MACHINE = (
    "which files of the system and of the environment it read, beside modules, what it looked for elsewhere and did "
    "not find, and what it took of the names, attributes and times of any file, is not compared"
)
# of the names of inputs, and of one
_NAMES, _NAME = 1500, 200


def given_claims(prepared: ProgramPlan) -> tuple[ClaimCheck, ...]:
    """Those that can be made before the program starts. Raises StorageError for folders nested too deeply."""
    return (
        _recorded_code(prepared),
        *_unread_files(prepared),
        *_of_no_commit(prepared.place.uncommitted),
        *_data_as_code(prepared),
        *_other_inputs(tuple(uncompared_inputs(prepared))),
        claim("files of the machine", None, _OF_THE_MACHINE),
        *variables_claim(prepared.other_variables, (*prepared.other_places, *prepared.search_path[1])),
    )


def _recorded_code(prepared: ProgramPlan) -> ClaimCheck:
    """The claim that the code is what the recorded commit shows, with the recorded patch and untracked files; it names
    the command.
    """
    code, differences = prepared.execution.code, (*prepared.place.differences, *prepared.words_of_then)
    top = prepared.command.top or prepared.command.working_folder
    words = [f"command: {bounded(shlex.join(prepared.command.words), _COMMAND)}"]
    words += ["; ".join(files_of_the_code(prepared)), "; ".join(prepared.environment.scripts)]
    if prepared.place.standard_input is not None and (file := prepared.command.standard_input) is not None:
        words += [f"standard input: {file.path}"]
    # where the private folder has its own name alone
    there = "not there" if prepared.at is None else "of the recorded code"
    there = "there as it is now, of whatever commit" if prepared.recorded_folder_is_there else there
    words += [f"what its code looks for by the path of {all_of([top, *prepared.names])} is {there}"]
    if prepared.place.repositories.folders:
        words.append("git has the files of no earlier commit here")
    words += [f"commit {code.commit}" if code.commit else "", "; ".join(differences), *code.changes()]
    checked = not differences and not prepared.recorded_folder_is_there
    return claim(RECORDED_CODE, True if checked else None, in_room(words))


def _unread_files(prepared: ProgramPlan) -> tuple[ClaimCheck, ...]:
    """The claim that names what of the recorded code and inputs nobody reads as plain text; () for nothing."""
    place, entries = prepared.place, prepared.search_path[0].split(os.pathsep)
    executed = {os.path.normpath(place.working_folder / word) for word in (*prepared.words, *entries)}
    return unread_files(place.place, place.shown, place.repositories.folders, executed)


def _of_no_commit(paths: Sequence[str]) -> tuple[ClaimCheck, ...]:
    """The claim that names source that no commit has, and that the repetition was given; () for none."""
    if not paths:
        return ()
    words = f"{plural(len(paths), 'file')} of source came from elsewhere, by digest: {all_of(paths)}"
    return (claim("code of no commit", None, words),)


def _data_as_code(prepared: ProgramPlan) -> tuple[ClaimCheck, ...]:
    """The claim on what is shown where it is, with all that it has beside its content; () for no declared data."""
    shown = prepared.place.shown if prepared.command.data else ()
    tops = {top.resolve(): top for top in shown}.values()  # the same data may be shown under several paths
    paths = [(path, top) for top in tops for path in (files_below(top) if top.is_dir() else [top])]
    return (data_as_code([os.path.relpath(path, top.parent) for path, top in paths], tops),) if tops else ()


def _other_inputs(paths: Sequence[str]) -> tuple[ClaimCheck, ...]:
    """The claim that names inputs of which the repetition had whatever is here, or nothing; () for none."""
    many = f"{plural(len(paths), 'file')} of an installation, the machine or git"
    return (claim("other inputs", None, f"{many}, not here as recorded: {all_of(paths)}"),) if paths else ()


def inputs_claim(prepared: ProgramPlan, finished: FinishedProgram, again: Manifest) -> ClaimCheck:
    """The claim that the program was given the recorded inputs, made when it has ended; ``again`` is what was signed
    of the repetition.

    An input that the repetition did not read may be none: then nothing shows that the program read it.
    """
    place = prepared.place
    had = [f"{place.available} of {place.wanted} that it is known to have read are here, by digest"]
    if place.linked:
        had.append(f"by links, which a walk through folders does not follow: {all_of(place.linked)}")
    if place.empty:
        had.append(f"folders that were there before the start, whatever was in them, are empty: {all_of(place.empty)}")
    ways = {(file.path, file.how) for file in listed_files(finished.folder.inputs)}
    opened = {path for path, how in ways if how != STANDARD_INPUT}
    # what is not here is another claim's
    read = opened | {*opened_here(prepared, opened), *uncompared_inputs(prepared)}
    # what the sandbox shows under another path is read where it is
    read |= {str(shown) for shown, path in place.mapped.items() if str(path) in read}
    if place.standard_input is not None and prepared.command.standard_input is not None:  # a copy's path was read now
        read.add(prepared.command.standard_input.path)
    unread = [file.path for file in prepared.command.inputs if file.path not in read]
    named = opened - {getattr(prepared.command.standard_input, "path", None)}
    otherwise = [f.path for f in prepared.command.inputs if f.path in named and (f.path, f.how) not in ways]
    unnamed = {
        "recorded as read in another way than now": otherwise,
        "not read this time, as far as was seen": [] if place.missing else unread,
        "of declared data no file was seen to be opened": [
            data.path for data in prepared.command.data if not _opened_of(data, opened, prepared)
        ],
        "looked for beside the recorded folder, and not there": _not_beside(prepared, finished.processes),
        "data have links, or folders without files": place.unlisted,
    }
    files = again.dependency(INPUTS)
    left_out = text(at(files and files.annotations, "problem"))  # a module of the code may be among them
    doubts = [*([f"not listed now: {left_out}"] if left_out else []), *filter(None, ["; ".join(place.missing)])]
    doubts += [f"{what}: {all_of(names)}" for what, names in unnamed.items() if names]
    if changed := place.changed():
        return ClaimCheck("inputs", FLAGGED, in_room(changed))
    if not place.wanted:
        return claim("inputs", None, "which files it read is not known")
    recorded = {file.path for file in prepared.command.inputs} | {data.path for data in prepared.command.data}
    own = {file.path for file in place.of_environment}
    of_data = {path for data in prepared.command.data for path in _opened_of(data, opened, prepared)}
    beyond = opened - recorded - of_data - set(map(str, place.mapped.values()))
    listed = {"recorded": recorded - own, "also read now": beyond}
    names = [*_of_data(prepared, opened), *(f"{what}: {_named(paths)}" for what, paths in listed.items() if paths)]
    return claim("inputs", None if doubts else True, in_room([*had, *doubts, *names]))


def _opened_of(data: RecordedData, opened: Iterable[str], prepared: ProgramPlan) -> dict[str, str]:
    """Which of the ``opened`` paths are of declared data, and which file of them each is, relative to the data."""
    others = {place: each.part for each in data.other_paths for place in _places_of(each.path, prepared)}
    parts = {**others, **dict.fromkeys(_places_of(data.path, prepared), ".")}
    above = ((path, str(each)) for path in opened for each in (Path(path), *Path(path).parents))
    return {
        path: os.path.normpath(os.path.join(parts[place], os.path.relpath(path, place)))
        for path, place in above
        if place in parts
    }


def _of_data(prepared: ProgramPlan, opened: Collection[str]) -> Iterator[str]:
    """The files of declared data folders that were not seen to be opened, where others of the same were."""
    for data in prepared.command.data:
        shown = {Path(place) for place in _places_of(data.path, prepared)} & {*prepared.place.shown}
        top = next(iter(shown), prepared.place.working_folder / data.path)
        files = [os.path.relpath(path, top) for path in files_below(top)] if top.is_dir() else []
        seen = {*_opened_of(data, opened, prepared).values()}
        closed = [name for name in files if name not in seen]
        if 0 < len(closed) < len(files):
            many = f"{len(closed)} of {plural(len(files), 'file')}"
            yield f"of declared data {data.path} {many} not seen to be opened: {_named(closed)}"


def _places_of(data: str, prepared: ProgramPlan) -> set[str]:
    """The paths at which what was recorded at a path of declared data is seen to be opened."""
    recorded = os.path.normpath(prepared.command.working_folder / data)
    return {os.path.normpath(data), recorded, str(prepared.place.mapped.get(Path(recorded), recorded))}


def _not_beside(prepared: ProgramPlan, processes: Iterable[ProcessRecord]) -> list[str]:
    """What the program asked to open where declared data would be if they were beside the private folder, and are not;
    relative to its working folder.
    """
    here, then = prepared.place.working_folder, prepared.command.working_folder
    data = {Path(os.path.normpath(then / each.path)) for each in prepared.command.data}
    shown = {prepared.place.place, *prepared.place.shown, *prepared.place.mapped}
    asked = {os.path.relpath(each.path, here) for process in processes for each in process.opened if each.read}
    return sorted(name for name in asked if _is_at(then / name, data) and not _is_at(here / name, shown))


def _is_at(path: Path, tops: Collection[Path]) -> bool:
    plain = Path(os.path.normpath(path))
    return any(each in tops for each in (plain, *plain.parents))


def _named(paths: Iterable[str]) -> str:
    """The names of files, as far as there is room; of the others how many."""
    shown = [quoted(bounded(name, _NAME)) for name in rare_first(paths)]
    return first_of(shown, sum(length <= _NAMES for length in accumulate(len(name) + 2 for name in shown)))


def stayed_claim(manifest: Manifest, again: Manifest, finished: FinishedProgram) -> tuple[ClaimCheck, ...]:
    """The claim that names processes that were there when the program of either run had ended; () for none."""
    now = (*ProgramRecord.of(again).outlived_by, *finished.left_behind)
    found = dict.fromkeys((*ProgramRecord.of(manifest).outlived_by, *now))
    here = f"{len(now)} of the repetition, which ended with its sandbox; " if finished.left_behind else ""
    words = f"{here}what {all_of(found)} wrote after the program had ended is in no record"
    return (claim("processes that stayed", None, words),) if found else ()
