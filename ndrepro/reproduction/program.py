"""A recorded program's or script's command is executed again, judged, and the verdict signed."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ndrepro.protocol.errors import TrainingFailed
from ndrepro.protocol.verdicts import FLAGGED, RECORDED_CODE, ClaimCheck, claim
from ndrepro.reproduction.reproduction import Permission, Reproduction, attested
from ndrepro.text.plurals import all_of, bounded, plural
from provenance.errors import ProvenanceError

if TYPE_CHECKING:
    from ndrepro.analysis.verdicts.program_results import ProgramResults
    from ndrepro.execution.program_reproduction.execute_again import ProgramPlan
    from ndrepro.execution.program_reproduction.private_folder import PrivateFolder
    from ndrepro.execution.programs.program_run import FinishedProgram
    from ndrepro.execution.programs.working_folder import EarlierContents
    from ndrepro.execution.reproduce.reexecute import Original
    from ndrepro.execution.runs.run import RunOptions
    from ndrepro.protocol.layout import RunFolder
    from ndrepro.reproduction.reproduction import OnPlan
    from provenance.attestation.manifest import Manifest

# of what is there before the start, the smallest first: some seconds
_EARLIER_BYTES, _EARLIER_FILES = 1 << 30, 50_000
# kinds of standard input in which there may be something
_INPUTS = ("pipe", "file", "terminal")


def of_program(
    original: Original,
    options: RunOptions,
    permission: Permission,
    on_plan: OnPlan,
    *,
    scratch: Path,
    repositories: Sequence[Path],
    rebuild: bool,
    data: Path | None,
    quiet: bool,
) -> Reproduction:
    """Execute a program's or script's command again, judge it and sign the verdict; see ``ndrepro.api.reproduce``."""
    from ndrepro.analysis.verdicts.program_verdict import judge_program
    from ndrepro.analysis.verdicts.run_conditions import program_conditions_claim
    from ndrepro.execution.program_reproduction.execute_again import plan_program, run_again
    from ndrepro.execution.program_reproduction.nested_runs import manifests_below
    from ndrepro.execution.program_reproduction.recorded_words import programs_of_the_code, recorded_words
    from ndrepro.execution.program_reproduction.uncompared_inputs import uncompared_inputs
    from ndrepro.execution.reproduce.reexecute import ReexecutionPlan
    from ndrepro.execution.runs.run_lookup import read_recorded
    from ndrepro.protocol.program_record import ProgramRecord

    scratch.mkdir()
    prepared = plan_program(
        original,
        scratch,
        repositories=repositories,
        private=(options.runs.root, options.home),
        sandbox=permission.sandbox,
        rebuild=rebuild,
        data=data,
    )
    plan = ReexecutionPlan(None, (), prepared.differences, prepared.execution, elsewhere=prepared.place.elsewhere)
    on_plan(original, plan)
    plan = replace(plan, execution=permission.given(plan.execution))
    prepared = replace(prepared, execution=plan.execution)
    before = manifests_below(prepared.place.place)
    had, unread = _earlier(prepared.place)
    given = tuple(recorded_words(prepared))
    code = (_recorded_code(prepared), *_unread_files(prepared), *_of_no_commit(prepared.place.uncommitted))
    code += (*_other_inputs(tuple(uncompared_inputs(prepared))), *_other_variables(prepared))
    finished = run_again(original, prepared, options.runs, options.home, quiet=quiet)
    unsigned = finished.exit_code is None or finished.manifest is None or finished.outcome == "interrupted"
    if unsigned or finished.error is not None:  # what was recorded of it cannot be believed
        raise finished.error or TrainingFailed(f"{finished.folder.root}: {finished.outcome}: nothing was judged")
    now = _side_of_program(prepared, finished, original, before)
    place, recorded = prepared.place, prepared.command.working_folder
    now = now.within(place.working_folder, place.place)
    then = _side(original.folder).within(recorded, prepared.command.top or recorded)
    again = read_recorded(finished.folder).manifest
    inputs, environment = _given(prepared, then, now, finished.folder)
    manifests = (original.manifest, again)
    of_code = programs_of_the_code(prepared, ProgramRecord.of(original.manifest).interpreters)
    others = (*of_code, *_others_than_compared(prepared, again), *_modules_in_place(prepared, finished.folder))
    environment = _of_one_python(environment, others, (original.folder, finished.folder), manifests)
    judgement = judge_program(
        then,
        now,
        inputs=inputs,
        environment=environment,
        conditions=program_conditions_claim(original.manifest, again, prepared.environment.unequal),
        whole=not prepared.place.missing,
        alike=not prepared.environment.differences,
        repeats=_repeats(finished.folder),
    )
    judgement = replace(judgement, claims=(*judgement.claims, *_stayed(original.manifest)))
    lost_input = _lost_input(prepared, ProgramRecord.of(original.manifest).streams.get("stdin"))
    computed = _not_computed(now, had, unread, given, lost_input, place.working_folder)
    return attested(original, plan, (finished.folder,), (judgement,), (*computed, *code), options)


def _earlier(folder: PrivateFolder) -> tuple[EarlierContents, int]:
    """All that the program has before it starts: code and inputs, wherever they are, and what git has of the commit;
    and how many of these files are too large or too many to be read.
    """
    from ndrepro.execution.programs.working_folder import EarlierContents, identity_of
    from provenance.formats.folder_tree import files_below

    own = folder.repositories.folders
    files = {}
    for top in (folder.place, *folder.shown):
        for path in files_below(top) if top.is_dir() else [top]:
            inside = top == folder.place
            if any(path.is_relative_to(each) for each in own) or (inside and path.is_symlink()):
                continue
            if (known := identity_of(path)) is not None and known[0]:  # empty files hold no result
                files[os.path.relpath(path, folder.place) if inside else str(path)] = known
    had = EarlierContents.read(folder.place, files, largest=_EARLIER_BYTES, most=_EARLIER_FILES)
    unread = len(files) - len(had.files)
    return replace(had, files={**had.files, **folder.repositories.committed}), unread


def _not_computed(
    now: ProgramResults,
    had: EarlierContents,
    unread: int,
    given: Sequence[str],
    lost_input: str,
    working_folder: Path,
) -> tuple[ClaimCheck, ...]:
    """The claim that no repetition checks: that outputs were computed. It names those that repeat what the recorded
    code and inputs had, how many of these were not read, the words that were ``given``, and what standard input was
    and is not now, ``lost_input``; () without outputs, metrics and notes.
    """
    from provenance.formats.digest import file_digest

    if not now.outputs and not now.rows and not now.notes:
        return ()
    left = {os.path.relpath(working_folder / path, had.folder): sha256 for path, sha256 in now.outputs.items()}
    if now.rows:  # a script's own log is none of its outputs
        left[str(now.folder.metrics)] = file_digest(now.folder.metrics).sha256
    found = [
        f"{path} {origin}"
        for path, sha256 in left.items()
        if sha256 is not None and (origin := had.origin(path, sha256))
    ]
    words = "equal outputs show what this code writes; whether it computes that, its reader sees"
    words += f"; {plural(unread, 'file')} of code and inputs were not compared with them" if unread else ""
    words += f"; its standard input was a {lost_input}, and is empty now" if lost_input else ""
    words += f"; beside its arguments the record gave it {all_of(given)}" if given else ""
    if found:
        many = f"{plural(len(found), 'output')} with content that was there before the start: {all_of(found)}"
        words = f"{many}; {words}"
    return (claim("outputs computed", None, words),)


def _lost_input(prepared: ProgramPlan, kind: object) -> str:
    """The recorded kind of standard input where there may have been something in it that the repetition does not have;
    else "".
    """
    return str(kind) if kind in _INPUTS and prepared.place.standard_input is None else ""


def _unread_files(prepared: ProgramPlan) -> tuple[ClaimCheck, ...]:
    """The claim that names what of the recorded code and inputs nobody reads as plain text; () for nothing."""
    from ndrepro.execution.program_reproduction.unread_files import unread_files

    place, entries = prepared.place, prepared.search_path[0].split(os.pathsep)
    executed = {os.path.normpath(place.working_folder / word) for word in (*prepared.words, *entries)}
    return unread_files(place.place, place.shown, place.repositories.folders, executed)


def _recorded_code(prepared: ProgramPlan) -> ClaimCheck:
    """The claim that the code is what the recorded commit shows, with the recorded patch and untracked files; it names
    the command.
    """
    code, differences = prepared.execution.code, prepared.place.differences
    words = [f"command: {shlex.join(prepared.command.words)}", *prepared.environment.scripts]
    if prepared.place.standard_input is not None and (file := prepared.command.standard_input) is not None:
        words += [f"standard input: {file.path}"]
    words += [*([f"commit {code.commit}"] if code.commit else []), *differences, *code.changes()]
    return claim(RECORDED_CODE, None if differences else True, bounded("; ".join(words)))


def _of_no_commit(paths: Sequence[str]) -> tuple[ClaimCheck, ...]:
    """The claim that names source that no commit has, and that the repetition was given; () for none."""
    if not paths:
        return ()
    words = f"{plural(len(paths), 'file')} of source came from elsewhere, by digest: {all_of(paths)}"
    return (claim("code of no commit", None, words),)


def _other_inputs(paths: Sequence[str]) -> tuple[ClaimCheck, ...]:
    """The claim that names inputs of which the repetition had whatever is here, or nothing; () for none."""
    many = f"{plural(len(paths), 'file')} of an installation, the machine or git"
    return (claim("other inputs", None, f"{many}, not here as recorded: {all_of(paths)}"),) if paths else ()


def _other_variables(prepared: ProgramPlan) -> tuple[ClaimCheck, ...]:
    """The claim that names recorded variables that the repetition does not get as they were; () for none."""
    names, entries = prepared.other_variables, prepared.search_path[1]
    words = [*([f"of then, not so now: {all_of(names)}"] if names else []), *entries]
    return (claim("variables", None, bounded("; ".join(words))),) if words else ()


def _of_one_python(
    environment: ClaimCheck, known: Sequence[str], folders: Iterable[RunFolder], manifests: Iterable[Manifest]
) -> ClaimCheck:
    """The claim on the environment, not checked where either run used more than the Python that was compared: what is
    ``known`` of that, and what both runs' records say.
    """
    from ndrepro.execution.program_reproduction.recorded_command import python_of_script
    from ndrepro.protocol.program_record import ProgramRecord
    from provenance.hook.started_programs import UNOBSERVED
    from provenance.observation.process_record import read_processes

    others = [*known]
    versions = []
    for manifest in manifests:
        first, *rest = ProgramRecord.of(manifest).interpreters or (None,)
        places = [(os.path.dirname(each.executable), each.version) for each in (first, *rest) if each is not None]
        others += [f"{place} ({version})" for place, version in places[1:] if (place, version) != places[0]]
        versions.append(", ".join(sorted({version for _, version in places})) or python_of_script(manifest) or "none")
    if versions[0] != versions[-1]:
        others.append(f"Python {versions[0]} then, {versions[-1]} now")
    for folder in folders:
        try:
            problems = [problem for each in read_processes(folder.processes) for problem in each.problems]
        except ProvenanceError:
            continue
        others += [problem for problem in problems if problem.startswith(UNOBSERVED)]
    if not others or environment.status == FLAGGED:
        return environment
    words = f"it also ran what is not compared: {all_of(dict.fromkeys(others))}; {environment.evidence}"
    return claim(environment.name, None, words)


def _others_than_compared(prepared: ProgramPlan, again: Manifest) -> Iterator[str]:
    """The Pythons of the repetition that are not the environment's."""
    from ndrepro.protocol.program_record import ProgramRecord

    environment = prepared.environment
    compared = {os.path.dirname(path) for path in (environment.executable, *environment.interpreters)}
    for each in ProgramRecord.of(again).interpreters:
        if os.path.dirname(each.executable) not in compared:
            yield f"{each.executable} ({each.version})"


def _modules_in_place(prepared: ProgramPlan, repetition: RunFolder) -> Iterator[str]:
    """The modules of the code that the repetition imported in the place of others, as far as it was seen."""
    from ndrepro.execution.program_reproduction.modules_in_place import modules_in_place
    from ndrepro.protocol.program_record import files_in
    from provenance.formats.bounded_read import LOG_BYTES, read_bounded
    from provenance.observation.process_record import read_processes

    try:
        searched = [entry for each in read_processes(repetition.processes) for entry in each.search_path]
        read = files_in(json.loads(read_bounded(repetition.inputs, LOG_BYTES)))
    except (ProvenanceError, OSError):
        return iter(())
    place, environment = prepared.place, prepared.environment.importable
    return modules_in_place(
        str(place.place), str(place.working_folder), (file.path for file in read), searched, environment
    )


def _repeats(folder: RunFolder) -> bool:
    """Whether no process of a repetition computed on a GPU without deterministic algorithms, as far as torch says."""
    from provenance.observation.process_record import read_processes

    try:
        torch = [each.torch for each in read_processes(folder.processes) if each.torch is not None]
    except ProvenanceError:
        return True
    moments = [moment for each in torch for moment in each.moments]
    return not any("cuda" in each.seeds and not each.flags.get("deterministic_algorithms") for each in moments)


def _stayed(manifest: Manifest) -> tuple[ClaimCheck, ...]:
    """The claim that names processes that were there when the program had ended; () for none."""
    from ndrepro.protocol.program_record import ProgramRecord

    found = ProgramRecord.of(manifest).outlived_by
    words = f"what {all_of(found)} wrote after the program had ended is in no record"
    return (claim("processes that stayed", None, words),) if found else ()


def _side(folder: RunFolder) -> ProgramResults:
    from ndrepro.analysis.verdicts.program_results import ProgramResults
    from ndrepro.execution.runs.run_lookup import read_recorded
    from ndrepro.protocol.run_kind import SCRIPT, run_kind

    manifest = read_recorded(folder).manifest
    return (ProgramResults.of_script if run_kind(manifest) == SCRIPT else ProgramResults.of_program)(folder, manifest)


def _side_of_program(
    prepared: ProgramPlan, finished: FinishedProgram, original: Original, before: frozenset[Path]
) -> ProgramResults:
    """What the repetition left. A script recorded a run of its own in its private folder, which is the one to compare;
    how the script ended is the recorder's word. ``before`` are the manifests that were there already.

    Raises TrainingFailed where it recorded none with the same name and parameters, or several.
    """
    from ndrepro.execution.program_reproduction.nested_runs import runs_of_script
    from ndrepro.protocol.run_kind import SCRIPT

    folder = finished.folder
    if prepared.command.kind != SCRIPT:
        return _side(folder)
    found = runs_of_script(prepared.place.place, original.manifest, before)
    if len(found) != 1:
        raise TrainingFailed(
            f"{folder.root}: the script recorded {len(found)} runs of this name and these parameters, expected 1",
            f"see what it printed in {folder.log}",
        )
    left = _side(found[0])
    return left if finished.exit_code == 0 else replace(left, exit_code=finished.exit_code)


def _given(
    prepared: ProgramPlan, then: ProgramResults, now: ProgramResults, repetition: RunFolder
) -> tuple[ClaimCheck, ClaimCheck]:
    """The claims that the program was given the recorded inputs and environment, made when it has ended.

    An input that the repetition did not read may be none: then nothing shows that the program read it.
    """
    from ndrepro.execution.programs.interpreters import python_of
    from ndrepro.protocol.program_record import files_in
    from provenance.formats.bounded_read import LOG_BYTES, read_bounded

    place, given = prepared.place, prepared.environment
    had = f"{place.available} of {place.wanted} that it is known to have read are here, by digest"
    found = files_in(json.loads(read_bounded(repetition.inputs, LOG_BYTES))) if repetition.inputs.exists() else ()
    read = {file.path for file in found} | {file.path for file in place.of_environment}
    # what the sandbox shows under another path is not there for the recorder
    read |= {str(path) for path in place.mapped} | {str(path) for path in place.mapped.values()}
    if place.standard_input is not None and prepared.command.standard_input is not None:  # a copy's path was read now
        read.add(prepared.command.standard_input.path)
    unread = [file.path for file in prepared.command.inputs if file.path not in read]
    unnamed = {
        "not read this time, as far as was seen": [] if place.missing else unread,
        "data have links, or folders without files": place.unlisted,
    }
    doubts = [*place.missing, *(f"{what}: {all_of(names)}" for what, names in unnamed.items() if names)]
    inputs = claim("inputs", None if doubts else True, bounded("; ".join([had, *doubts])))
    if not place.wanted:
        inputs = claim("inputs", None, "which files it read is not known")
    if changed := place.changed():
        inputs = ClaimCheck("inputs", FLAGGED, bounded("; ".join(changed)))
    version = prepared.command.interpreter
    # -I keeps the hook out, so that neither run shows which one it was
    python = now.python or python_of(given.executable)
    lines = [*given.differences, *given.concerns]
    words = f"given Python {version} and its distributions, as recorded"
    if not version and python:
        lines = [f"which Python ran was not recorded; {python} now"]
    elif not version:
        words = "no Python was seen: of what it, or what it started, ran in nothing was compared"
    words = "; ".join([bounded("; ".join(lines)) or words, *given.notes])
    return inputs, claim("environment", None if lines or not version else True, words)
