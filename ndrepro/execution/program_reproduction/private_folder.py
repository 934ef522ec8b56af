"""The folder in which a program runs again: its commit and patch, and the files that it read, by their digests.

    commit, patch, untracked files ── check_out ──> place        from a repository that is here
    copies of source in the run    ── digest equal? ──> place    where no commit has it
    inputs elsewhere ── digest equal? ──> copied below place, or left where they are and shown
    declared data    ── every digest equal? ──> left where they are and shown, by a link where place would hold them

An input counts as available where a file with the recorded digest is found: in the checkout, or where the program read
it. What is not is named; nothing else takes its place.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ndrepro.execution.program_reproduction.recorded_command import RecordedCommand, RecordedData, is_below
from ndrepro.execution.sandbox.confinement import expect_harmless
from ndrepro.execution.sandbox.recorded_data import expect_recorded_path
from ndrepro.protocol.errors import SandboxError, UsageError
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.program_record import ProgramFile
from provenance.attestation.manifest import SOURCE, Manifest
from provenance.attestation.run_files import inside
from provenance.comparison.recorded_tree import SourceState, check_out
from provenance.errors import DigestError, SourceError, StorageError
from provenance.formats.atomic_io import make_folder, storage_error
from provenance.formats.bounded_read import LOG_BYTES, read_bounded
from provenance.formats.digest import file_digest
from provenance.formats.folder_tree import files_below, remove_tree, walk
from provenance.formats.listing import parse

_COPY_BYTES = 256 << 20
_LEADS_OUT = "a link of the recorded code leads out of it"
_ENVIRONMENT = ("site-packages", "dist-packages")
Snapshot = tuple[tuple[str | int, ...], ...]


@dataclass(frozen=True)
class PrivateFolder:
    """A folder with what a program had.

    Attributes:
        place: the top of its repository here, or its working folder where there was none.
        working_folder: where the command is started.
        shown: files elsewhere that it read, which are here with the recorded digest, each as it was before it was
            read: whoever can write there may exchange it while the program runs.
        available, wanted: how many of the inputs are here, and how many there were.
        missing: the others, each with the reason, in words.
        differences: where the code is not what was recorded, in words.
    """

    place: Path
    working_folder: Path
    shown: Mapping[Path, Snapshot]
    available: int
    wanted: int
    missing: tuple[str, ...]
    differences: tuple[str, ...]

    def changed(self) -> tuple[str, ...]:
        """What of ``shown`` is not as it was, in words."""
        return tuple(f"{path} changed meanwhile" for path, before in self.shown.items() if _snapshot(path) != before)


Judge = Callable[[Path], None]


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
) -> PrivateFolder:
    """Fill the new folder ``place``.

    Args:
        judge: see ``judge_of``.
        folder: the signed copy of the run, with its patch and untracked files.
        repositories: folders that may be in a repository with the commit; the first that has it is used.

    Raises UsageError where the code cannot be had, StorageError.
    """
    top = command.top or command.working_folder
    differences = _code(command, manifest, folder, place, repositories)
    working_folder = place / command.working_folder.relative_to(top) if is_below(command.working_folder, top) else place
    _expect_inside(place, working_folder)
    make_folder(working_folder)
    shown: dict[Path, Snapshot] = {}
    missing: list[str] = []
    wanted = 0
    for data in command.data:
        wanted += 1
        problem = _show_data(data, command.working_folder / data.path, top, place, folder, shown, judge)
        missing += [f"data {data.path}: {problem}"] if problem else []
    for file in command.inputs:
        path = command.working_folder / file.path
        if _is_of_an_environment(path):
            continue
        wanted += 1
        before = _snapshot(path) if path.is_file() else ()
        here = _here(path, top, place)
        problem = "" if _unpack(file, folder, here, place) else _bring(file, path, here, place, judge)
        if problem:
            missing.append(f"input {file.path}: {problem}")
        elif not is_below(path, top) or (file.size or 0) > _COPY_BYTES:
            shown[path] = before
    return PrivateFolder(place, working_folder, shown, wanted - len(missing), wanted, tuple(missing), differences)


def _code(
    command: RecordedCommand, manifest: Manifest, folder: RunFolder, place: Path, repositories: Sequence[Path]
) -> tuple[str, ...]:
    """Check the commit out; what differs from it. Without a commit the code is among the inputs, or unknown."""
    if command.top is None:
        if not command.inputs:
            raise UsageError(
                f"{manifest.invocation_id}: no commit was recorded, nor the files that it read: its code is not known",
                "commit the code to git, and record it again",
            )
        make_folder(place)
        return ("code: no commit was recorded; only the files that it is known to have read are there",)
    described = manifest.dependency(SOURCE)
    state = SourceState((described.annotations if described else None) or {}, folder.root)
    problem = SourceError("no repository was named")
    for repository in repositories:
        try:
            return tuple(f"code: {caveat}" for caveat in check_out(state, repository, place))
        except SourceError as error:
            problem = error
            remove_tree(place, ignore_errors=True)
    raise UsageError(
        f"{manifest.invocation_id}: its code cannot be checked out: {problem.message}",
        "clone its repository, and run this there or name it with --repository DIR",
    )


def _here(path: Path, top: Path, place: Path) -> Path | None:
    """Where a recorded path is in the private folder; ``None`` for one outside of the recorded folder."""
    return place / os.path.relpath(path, top) if is_below(path, top) else None


def _unpack(file: ProgramFile, folder: RunFolder, here: Path | None, place: Path) -> bool:
    """Whether the copy that the run has of an input is at ``here`` now."""
    if file.copy is None or here is None or not inside(file.copy) or not is_inside(here, place):
        return False
    copy = folder.root / file.copy
    if file.sha256 is None or _digest(copy) != file.sha256:
        return False
    _put(copy, here, place, link=False)
    return True


def _bring(file: ProgramFile, path: Path, here: Path | None, place: Path, judge: Judge) -> str:
    """Have an input at ``here``, or see that it is at ``path`` where it was read; why it is not, in words."""
    if file.sha256 is None:
        return f"not digested when it was recorded ({file.reason})" if file.reason else "not digested"
    if here is not None and not is_inside(here, place):
        return _LEADS_OUT
    if here is not None and _digest(here) == file.sha256:
        return ""
    try:
        judge(path)
    except SandboxError as error:
        return error.message
    if not path.is_file():
        return "not here"
    if path.is_file() and file.size is not None and path.stat().st_size != file.size:
        return f"another file here ({path})"
    found = _digest(path)
    if found is None:
        return "not here"
    if found != file.sha256:
        return f"another file here ({path})"
    if here is not None:
        _put(path, here, place, link=(file.size or 0) > _COPY_BYTES)
    return ""


def _show_data(
    data: RecordedData,
    path: Path,
    top: Path,
    place: Path,
    folder: RunFolder,
    shown: dict[Path, Snapshot],
    judge: Judge,
) -> str:
    """Have declared data in the private folder, or show them where they are; why they are not, in words."""
    here = _here(path, top, place)
    if here is not None and not is_inside(here, place):
        return _LEADS_OUT
    try:
        expected = parse(read_bounded(folder.root / data.listing, LOG_BYTES).decode("utf-8", "surrogateescape"))
        if here is not None and _all_equal(here, expected):
            return ""
        judge(path)
        if not path.exists():
            return f"not here, or other files ({path})"
    except (DigestError, SandboxError) as error:
        return error.message
    except OSError as error:
        return f"its files are not listed ({error.strerror})"
    before = _snapshot(path)
    if not _all_equal(path, expected):
        return f"not here, or other files ({path})"
    shown[path] = before
    if here is not None and not here.exists():
        _put(path, here, place, link=True)
    elif here is not None:
        return f"a part of it is in the commit and the rest at {path}: have it outside of the repository"
    return ""


def _all_equal(path: Path, expected: Mapping[str, str]) -> bool:
    """Whether the listed files are there and no other: what nobody listed is not shown to the program."""
    if path.is_file():
        return list(expected.values()) == [_digest(path)]
    if not expected or not path.is_dir():
        return False
    try:
        names = {os.path.relpath(file, path) for file in files_below(path)}
    except StorageError:  # nested more deeply than any data
        return False
    return names == expected.keys() and all(_digest(path / name) == digest for name, digest in expected.items())


def _snapshot(path: Path) -> Snapshot:
    """By what a file, or a folder and all that it holds, is known to be as it was: no program sets back a ctime."""
    try:
        names = [path, *(Path(at, name) for at, below, files in walk(path) for name in (*below, *files))]
        return tuple((os.fspath(name), *_identity(name.lstat()), *_identity(name.stat())) for name in sorted(names))
    except (OSError, StorageError):
        return ()


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev


def _put(path: Path, here: Path, place: Path, *, link: bool) -> None:
    """Copy or link a file into the private folder. Raises UsageError where a link of the code leads out of it."""
    try:
        _expect_inside(place, here.parent)
        make_folder(here.parent)
        here.unlink(missing_ok=True)
        if link:
            here.symlink_to(path)
        else:
            shutil.copyfile(path, here)
    except OSError as error:
        raise storage_error(here, error) from error


def is_inside(path: Path, place: Path) -> bool:
    """Whether a path leads to ``place`` or below it, every link followed: those of the code are its author's."""
    return path.resolve().is_relative_to(place.resolve())


def _expect_inside(place: Path, folder: Path) -> None:
    if not is_inside(folder, place):
        raise UsageError(f"{folder.name}: {_LEADS_OUT}, to {folder.resolve()}")


def _digest(path: Path) -> str | None:
    try:
        return file_digest(path).sha256 if path.is_file() else None
    except (DigestError, StorageError, OSError):
        return None


def _is_of_an_environment(path: Path) -> bool:
    """Whether a file belongs to an installed distribution, which is compared with the environment."""
    return any(part in _ENVIRONMENT for part in path.parts)
