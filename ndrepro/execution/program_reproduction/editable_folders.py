"""Editable installations: folders that the interpreter here imports from, and that no wheel filled.

Of one in a clone of the recorded code's repository the program sees the recorded code in the place of the reviewer's
work tree, whatever that has checked out. Of any other it sees the packages and modules, and nothing else: beside them
are the reviewer's own files, and the sockets of what works there.

Metadata and scripts of each are those of its installation here, which may be of another commit than what they describe.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ndrepro.execution.program_reproduction.data_elsewhere import digest_of
from ndrepro.execution.sandbox.confinement import expect_harmless
from ndrepro.execution.sandbox.interpreter_paths import PACKAGE_FOLDERS
from ndrepro.execution.sandbox.recorded_data import expect_files_only
from ndrepro.protocol.errors import SandboxError
from ndrepro.protocol.project_folders import CODE
from provenance.capture.distribution_metadata import Metadata
from provenance.capture.editable_source import editable_project
from provenance.errors import SourceError
from provenance.git.repository import Repository

_METADATA = (".egg-info", ".dist-info")
# what metadata are made from
_BUILD_FILES = ("pyproject.toml", "setup.cfg", "setup.py")


@dataclass(frozen=True)
class EditableFolders:
    """What the program is shown of them: ``readable`` as it is here, ``mapped`` from elsewhere (path in the sandbox ->
    path here); and in words what of it is not the recorded code."""

    readable: tuple[Path, ...]
    mapped: Mapping[Path, Path]
    differences: tuple[str, ...]


def is_editable(folder: Path, bases: Collection[Path]) -> bool:
    """Whether a folder of an interpreter's search path is neither its own, below ``bases``, nor one of wheels."""
    return folder.name not in PACKAGE_FOLDERS and not any(folder.is_relative_to(base) for base in bases)


def found_by_modules(packages: Path) -> Iterator[Path]:
    """The folders that modules of setuptools among the installed ``packages`` find editable ones in; none is executed.

    Source: setuptools 80, ``setuptools.command.editable_wheel``: a module with a table of packages and their folders.
    """
    for module in sorted(packages.glob("__editable___*_finder.py")):
        try:
            for node in ast.parse(module.read_bytes()).body:
                if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "MAPPING" and node.value is not None:
                    yield from {Path(folder).parent for folder in ast.literal_eval(node.value).values()}
        except (OSError, ValueError, SyntaxError, TypeError, AttributeError):  # of another form: then it shows nothing
            continue


def look(
    folders: Iterable[Path], place: Path, repositories: Sequence[Path], private: Sequence[Path], *, maps: bool
) -> EditableFolders:
    """What is shown of these folders of editable installations.

    Args:
        place: the private folder with the recorded code.
        repositories: folders that may be in a repository with the recorded commit.
        private: the folders of runs and keys.
        maps: whether there is a sandbox, which shows one file in the place of another.
    """
    folders = list(folders)
    tops = list(_tops(repositories)) if folders else []
    readable: list[Path] = []
    mapped: dict[Path, Path] = {}
    differences = []
    for folder in folders:
        top = next((top for top in tops if folder.resolve().is_relative_to(top)), None)
        recorded = None if top is None else place / folder.resolve().relative_to(top)
        readable += [path for path in _entries(folder) if path.name.endswith(_METADATA)]
        if recorded is not None and recorded.is_dir() and maps:
            mapped |= {folder / path.name: path for path in _entries(recorded) if _is_code(path)}
            continue
        readable += [path for path in _entries(folder) if _is_code(path) and _is_harmless(path, private)]
        if folder.resolve() != CODE.resolve():
            differences.append(f"{folder}: an editable installation, taken as it is here")
    return EditableFolders(tuple(readable), mapped, tuple(differences))


def metadata_of_here(
    installed: Iterable[Metadata], place: Path, repositories: Sequence[Path]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Editable installations by name: those that were installed from the build files of the recorded code, and all
    others, whose metadata may say anything else. Arguments as in ``look``."""
    found = [(each, _project(folder)) for each in installed if (folder := editable_project(each)) is not None]
    tops = list(_tops(repositories)) if found else []
    as_recorded, others = [], []
    for each, project in found:
        top = next((top for top in tops if project.is_relative_to(top)), None)
        if top is not None and _is_built_from(place / project.relative_to(top), project, os.stat(str(each.place))):
            as_recorded.append(each.name)
        elif top is not None or project != CODE.resolve():
            others.append(each.name)
    return tuple(as_recorded), tuple(others)


def _project(folder: Path) -> Path:
    """The folder of build files that a folder of source belongs to; itself where there are none."""
    folder = folder.resolve()
    return next((each for each in (folder, *folder.parents) if any((each / n).is_file() for n in _BUILD_FILES)), folder)


def _is_built_from(recorded: Path, project: Path, metadata: os.stat_result) -> bool:
    """Whether a project has the recorded build files, unchanged since its metadata were written."""
    if any(digest_of(recorded / name) != digest_of(project / name) for name in _BUILD_FILES):
        return False
    files = [project / name for name in _BUILD_FILES if (project / name).is_file()]
    return bool(files) and all(file.stat().st_mtime <= metadata.st_mtime for file in files)


def _tops(repositories: Iterable[Path]) -> Iterator[Path]:
    for folder in repositories:
        try:
            if folder.is_dir():
                yield Path(Repository(folder).line("rev-parse", "--show-toplevel")).resolve()
        except SourceError:  # not a repository, or one that git refuses
            continue


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _is_code(path: Path) -> bool:
    """Whether it is a module, or a folder of modules."""
    if path.name.startswith("."):
        return False
    return any(path.glob("*.py")) or any(path.glob("*/*.py")) if path.is_dir() else path.suffix in (".py", ".so")


def _is_harmless(path: Path, private: Sequence[Path]) -> bool:
    try:
        hidden = [folder.resolve() for folder in private]
        expect_harmless(path, hidden, hidden)
        expect_files_only(path, own=True)
    except (SandboxError, OSError):
        return False
    return True
