"""The folder in which a program runs again: its commit and patch, and the files that it read, by their digests.

    commit, patch, untracked files ── check_out ──> place        from a repository that is here
    what the run wrote and is not known to have read             is removed from it, and so is bytecode
    folders that it wrote into and that were there               are made, without what was in them
    Pythons of the folder that it ran in                         are scripts that start the one that is here
    copies of source in the run    ── digest equal? ──> place    where no commit has it
    commit, branch, description    ── give_repository ──> place/.git, for programs that ask git which code they are
    inputs elsewhere ── digest equal? ──> copied below place, or left where they are and shown
    declared data    ── every digest equal? ──> left where they are and shown, by a link where place would hold them

An input counts as available where a file with the recorded digest is found: in the checkout, where the program read
it, or below the path that the reviewer names (``DataElsewhere``), which the sandbox shows under the recorded path. What
is not is named; nothing else takes its place.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ndrepro.execution.program_reproduction.data_elsewhere import (
    DataElsewhere,
    Snapshot,
    digest_of,
    snapshot,
    top_identity,
)
from ndrepro.execution.program_reproduction.recorded_command import RecordedCommand, is_of_git, is_plain
from ndrepro.execution.program_reproduction.recorded_inputs import Judge, RecordedInputs, expect_inside, is_inside
from ndrepro.execution.sandbox.confinement import expect_harmless
from ndrepro.execution.sandbox.recorded_data import expect_recorded_path
from ndrepro.protocol.errors import UsageError
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.program_record import ProgramFile, is_below
from ndrepro.text.plurals import all_of, plural
from provenance.attestation.manifest import SOURCE, Manifest
from provenance.attestation.run_files import inside
from provenance.comparison.recorded_repository import GivenRepositories, give_repository
from provenance.comparison.recorded_tree import SourceState, check_out
from provenance.errors import SourceError
from provenance.formats.atomic_io import make_folder
from provenance.formats.folder_tree import remove_tree, walk

_BYTECODE = "__pycache__"


@dataclass(frozen=True)
class PrivateFolder:
    """A folder with what a program had.

    Attributes:
        place: the top of its repository here, or its working folder where there was none.
        working_folder: where the command is started.
        shown: files elsewhere that it read, which are here with the recorded digest, each as it was before it was
            read: whoever can write there may exchange it while the program runs.
        mapped: paths under which the sandbox shows some of them, where those are not their own.
        beside: those of them that are for a program which sees this folder under its own path.
        linked: its links to inputs that are left where they are.
        available, wanted: how many of the inputs are here, and how many there were.
        missing: the others, each with the reason, in words.
        elsewhere: where the reviewer's data take the place of recorded paths, in words.
        uncommitted: source among the inputs that the recorded commit does not have.
        beside_commit: the recorded paths of all inputs that it does not have.
        empty: folders without files that it has because the program found them when it started.
        unlisted: folders without files, and links to folders, in declared data, which no digest binds.
        of_environment: inputs that are the machine's, of an installation or git's own, which are not brought.
        repositories: what it has for questions to git.
        standard_input: a copy of the file that standard input was read from; ``None`` where it was none, or is missing.
        differences: where the code is not what was recorded, in words.
    """

    place: Path
    working_folder: Path
    shown: Mapping[Path, Snapshot]
    mapped: Mapping[Path, Path]
    beside: frozenset[Path]
    linked: tuple[str, ...]
    available: int
    wanted: int
    missing: tuple[str, ...]
    uncommitted: tuple[str, ...]
    beside_commit: tuple[str, ...]
    empty: tuple[str, ...]
    elsewhere: tuple[str, ...]
    differences: tuple[str, ...]
    unlisted: tuple[str, ...]
    of_environment: tuple[ProgramFile, ...]
    repositories: GivenRepositories
    standard_input: Path | None

    @property
    def expected(self) -> dict[str, tuple[int, int]]:
        """Inode and time of change of what the program must find at each path of ``shown`` and ``mapped``."""
        found = {path: top_identity(before) for path, before in self.shown.items() if before}
        mapped = {path: found[place] for path, place in self.mapped.items() if place in found}
        return {str(path): known for path, known in (found | mapped).items()}

    def changed(self) -> tuple[str, ...]:
        """What of ``shown`` is not as it was, in words."""
        return tuple(f"{path} changed meanwhile" for path, before in self.shown.items() if snapshot(path) != before)


def judge_of(private: Sequence[Path], *, own: bool) -> Judge:
    """What raises SandboxError for a recorded path at which nothing is looked, and which the program is not shown.

    ``private`` are the folders of runs and keys; ``own``: the reviewer recorded the run himself.
    """
    if own:
        return lambda path: expect_harmless(path, (), ())
    return lambda path: expect_recorded_path(path, private)


def build(
    command: RecordedCommand,
    manifest: Manifest,
    folder: RunFolder,
    place: Path,
    repositories: Sequence[Path],
    judge: Judge,
    elsewhere: DataElsewhere | None = None,
    *,
    maps: bool = True,
) -> PrivateFolder:
    """Fill the new folder ``place``.

    Args:
        judge: see ``judge_of``.
        folder: the signed copy of the run, with its patch and untracked files.
        repositories: folders that may be in a repository with the commit; the first that has it is used.
        elsewhere: where inputs are looked for that are not where the program read them.
        maps: whether there is a sandbox, which can show a file under another path than its own.

    Raises UsageError where the code is not available, StorageError.
    """
    top = command.top or command.working_folder
    described = manifest.dependency(SOURCE)
    state = SourceState((described.annotations if described else None) or {}, folder.root)
    differences, lender = _code(command, manifest, state, place, repositories)
    working_folder = place
    if is_below(command.working_folder, top):
        working_folder = place / os.path.relpath(command.working_folder, top)
    else:
        differences += (f"code: it ran in {command.working_folder}, outside of {top}, and runs in the top of it now",)
    expect_inside(place, working_folder)
    make_folder(working_folder)
    differences += _without_outputs(command, place, working_folder)
    inputs = RecordedInputs(command, place, working_folder, folder, judge, elsewhere, maps=maps)
    # the order in which files are written shows in times and inodes
    for data in sorted(command.data, key=lambda each: os.path.normpath(each.path)):
        inputs.bring_data(data)
    inputs.bring_again()
    for file in sorted(command.inputs, key=lambda each: os.path.normpath(each.path)):
        inputs.bring(file)
    differences += _without_bytecode(place)
    empty = tuple(_make_folders(command.folders, place, working_folder))
    given = GivenRepositories() if lender is None else _given(state, lender, place)
    return PrivateFolder(
        place,
        working_folder,
        inputs.shown,
        {**inputs.beside, **inputs.mapped},
        frozenset(inputs.beside),
        tuple(sorted(inputs.linked)),
        inputs.wanted - len(inputs.missing),
        inputs.wanted,
        tuple(inputs.missing),
        tuple(inputs.uncommitted),
        tuple(inputs.beside_commit),
        empty,
        tuple(inputs.elsewhere),
        (*differences, *(f"git: {words}" for words in given.differences)),
        tuple(inputs.unlisted),
        tuple(inputs.of_environment),
        given,
        _standard_input(command, inputs, place),
    )


def _standard_input(command: RecordedCommand, inputs: RecordedInputs, place: Path) -> Path | None:
    """A copy beside ``place``: by an open file a program can write what the sandbox lets it only read."""
    file = command.standard_input
    if file is None or file not in inputs.places:
        return None
    copy = place.with_name("standard-input")
    try:
        shutil.copyfile(inputs.places[file], copy)
    except OSError:
        return None
    return copy if digest_of(copy) == file.sha256 else None


def _without_outputs(command: RecordedCommand, place: Path, working_folder: Path) -> tuple[str, ...]:
    """Remove from the checkout what the run wrote and is not known to have read: only what is written again counts."""
    recorded = command.working_folder
    read = {os.path.normpath(recorded / file.path) for file in command.inputs}
    removed = []
    for path in (path for path in command.written if os.path.normpath(recorded / path) not in read):
        here = working_folder / (os.path.relpath(path, recorded) if os.path.isabs(path) else path)
        if is_inside(here.parent, place) and (here.is_symlink() or here.is_file()):
            here.unlink()
            removed.append(path)
    if not removed:
        return ()
    many = plural(len(removed), "output")
    return (f"code: {many} that it has were removed, to be written again: {all_of(removed)}",)


def _make_folders(folders: Iterable[str], place: Path, working_folder: Path) -> Iterator[str]:
    """Make those that are not there and in ``place``, none of git's; say which. Raises StorageError."""
    for name in folders:
        here = working_folder / name
        if inside(name) and is_inside(here, place) and not os.path.lexists(here):
            make_folder(here)
            yield name


def have_pythons(command: RecordedCommand, place: Path, python: Path) -> tuple[str, ...]:
    """Have ``python`` started where the program found one below its folder, as a Makefile names ``.venv/bin/python``;
    which paths these are. What the code has stays. Raises StorageError.

    A script starts it, since an interpreter takes the environment beside a link to it for its own. Beside it is an
    ``activate`` for shells, which need none: the environment that is here comes first on PATH anyway.
    """
    top = command.top or command.working_folder
    named = [
        Path(os.path.relpath(path, top)) for path in command.pythons if is_plain(Path(path)) and is_below(path, top)
    ]
    made = []
    for name in sorted(each for each in named if each.parent.name == "bin" and not is_of_git(str(each))):
        here = place / name
        if is_inside(here, place) and not os.path.lexists(here):
            make_folder(here.parent)
            here.write_text(f'#!/bin/sh\nexec {shlex.quote(str(python))} "$@"\n', encoding="utf-8")
            here.chmod(0o755)
            made.append(str(name))
            if not os.path.lexists(beside := here.with_name("activate")):
                beside.write_text("# the environment that is compared is on PATH\n", encoding="utf-8")
    return tuple(made)


def _without_bytecode(place: Path) -> tuple[str, ...]:
    """Remove what Python would read in the place of source: bytecode may be of another one than that beside it."""
    found = [Path(at, name) for at, below, files in walk(place) for name in (*below, *files) if name == _BYTECODE]
    for path in found:
        path.unlink() if path.is_symlink() or path.is_file() else remove_tree(path)
    if not found:
        return ()
    names = all_of(path.relative_to(place) for path in found)
    return (f"code: bytecode that it has was removed, since its source decides: {names}",)


def _given(state: SourceState, lender: Path, place: Path) -> GivenRepositories:
    """The repositories for questions to git; none, in words, where they cannot be made."""
    try:
        return give_repository(state, lender, place)
    except SourceError as error:
        return GivenRepositories(differences=(f"no repository could be made ({error.message})",))


def _code(
    command: RecordedCommand, manifest: Manifest, state: SourceState, place: Path, repositories: Sequence[Path]
) -> tuple[tuple[str, ...], Path | None]:
    """Check the commit out; what differs from it, and the repository that has it.

    Without a commit the code is among the inputs, or unknown.
    """
    if command.top is None:
        if not command.inputs:
            raise UsageError(
                f"{manifest.invocation_id}: no commit was recorded, nor the files that it read: its code is not known",
                "commit the code to git, and record it again",
            )
        make_folder(place)
        return ("code: no commit was recorded; only the files that it is known to have read are there",), None
    problem = SourceError("no repository was named")
    for repository in repositories:
        try:
            return tuple(f"code: {caveat}" for caveat in check_out(state, repository, place)), repository
        except SourceError as error:
            problem = error
            remove_tree(place, ignore_errors=True)
    raise UsageError(
        f"{manifest.invocation_id}: its code cannot be checked out: {problem.message}",
        "clone its repository, and run this there or name it with --repository DIR",
    )
