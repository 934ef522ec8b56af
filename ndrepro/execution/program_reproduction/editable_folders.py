"""Editable installations: folders that the interpreter here imports from, and that no wheel filled.

Of one in a clone of the recorded code's repository the program sees the recorded code in the place of the reviewer's
work tree, whatever that has checked out. Of any other it sees the packages and modules, and nothing else: beside them
are the reviewer's own files, and the sockets of what works there.

So it is with metadata that git tracks in such a clone. All others, and scripts, are those of the installation here,
which may be of another commit than what they describe.
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
from provenance.capture.distribution_metadata import Metadata, read
from provenance.capture.editable_source import editable_project
from provenance.errors import SourceError
from provenance.git.repository import Repository

_METADATA = (".egg-info", ".dist-info")
# what metadata are made from
_BUILD_FILES = ("pyproject.toml", "setup.cfg", "setup.py")


@dataclass(frozen=True)
class EditableFolders:
    """What the program is shown of them: ``readable`` as it is here, ``mapped`` from elsewhere (path in the sandbox ->
    path here), and not the metadata ``hidden``; in words what of it is not the recorded code, and where in the recorded
    code the others import from; and the names of the ``modules`` that are imported from there."""

    readable: tuple[Path, ...]
    mapped: Mapping[Path, Path]
    hidden: frozenset[Path]
    differences: tuple[str, ...]
    places: tuple[str, ...]
    modules: frozenset[str]

    def shown(self, installed: Mapping[str, Metadata], searched: Collection[Path]) -> dict[str, Metadata]:
        """By name the distributions that the program sees, of those ``installed`` here in the ``searched`` folders."""
        kept = {name: each for name, each in installed.items() if each.place not in self.hidden}
        places = (path for inside, path in self.mapped.items() if _is_metadata(path) and inside.parent in searched)
        recorded = (read(path.parent, path, path.suffix) for path in places)
        return {each.name: each for each in recorded if not each.leftover} | kept


def find(searched: Iterable[Path], bases: Collection[Path]) -> dict[Path, dict[str, Path]]:
    """The folders of editable installations, each with the names of what is imported from it, and from where there:
    those of a search path that are neither the interpreter's own, below ``bases``, nor of wheels, and those that
    modules there lead to."""
    found: dict[Path, dict[str, Path]] = {}
    for folder in searched:
        if folder.name not in PACKAGE_FOLDERS and not any(folder.is_relative_to(base) for base in bases):
            found.setdefault(folder, {}).update(dict.fromkeys(_imported(folder), folder))
        for module, package in _found_by_modules(folder):
            found.setdefault(package.parent, {})[module] = package
    return found


def _imported(folder: Path) -> Iterator[str]:
    """The names of modules and packages in a folder; beside a project's build files are its tests and tools, too."""
    project = any((folder / name).is_file() for name in _BUILD_FILES)
    for path in _entries(folder):
        if _is_code(path) and not (project and path.is_dir() and not (path / "__init__.py").is_file()):
            yield path.name.partition(".")[0]


def _found_by_modules(packages: Path) -> Iterator[tuple[str, Path]]:
    """What modules of setuptools among the installed ``packages`` find, and in which folder; none is executed.

    Source: setuptools 80, ``setuptools.command.editable_wheel``: a module with a table of packages and their folders.
    """
    for module in sorted(packages.glob("__editable___*_finder.py")):
        try:
            for node in ast.parse(module.read_bytes()).body:
                if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "MAPPING" and node.value is not None:
                    for name, folder in ast.literal_eval(node.value).items():
                        yield name.partition(".")[0], Path(folder)
        except (OSError, ValueError, SyntaxError, TypeError, AttributeError):  # of another form: then it shows nothing
            continue


def look(
    folders: Mapping[Path, Mapping[str, Path]],
    place: Path,
    repositories: Sequence[Path],
    private: Sequence[Path],
    *,
    maps: bool,
) -> EditableFolders:
    """What is shown of these folders of editable installations.

    Args:
        folders: as ``find`` answers.
        place: the private folder with the recorded code.
        repositories: folders that may be in a repository with the recorded commit.
        private: the folders of runs and keys.
        maps: whether there is a sandbox, which shows one file in the place of another.

    Raises SourceError where git does not say what it tracks in one.
    """
    tops = list(_tops(repositories)) if folders else []
    readable: list[Path] = []
    mapped: dict[Path, Path] = {}
    hidden: set[Path] = set()
    differences, places = [], []
    modules: set[str] = set()
    for folder, names in folders.items():
        top = next((top for top in tops if folder.resolve().is_relative_to(top)), None)
        recorded = None if top is None else place / folder.resolve().relative_to(top)
        metadata = {path for path in _entries(folder) if _is_metadata(path)}
        is_recorded = recorded is not None and recorded.is_dir()
        if top is not None and is_recorded:
            places += [f"{name} from {each.resolve().relative_to(top)}" for name, each in sorted(names.items())]
        modules |= set() if is_recorded else {*names}
        if recorded is not None and is_recorded and maps:
            shown = (path for path in _entries(recorded) if _is_code(path) or _is_metadata(path))
            mapped |= (of_commit := {folder / path.name: path for path in shown})
            hidden |= metadata & {*of_commit, *(folder / name for name in _tracked(folder))}
            readable += sorted(metadata - hidden)
            continue
        code = [path for path in _entries(folder) if _is_code(path) and _is_harmless(path, private)]
        readable += [*sorted(metadata), *code]
        if folder.resolve() != CODE.resolve():
            differences.append(f"{folder}: an editable installation, taken as it is here")
    return EditableFolders(
        tuple(readable), mapped, frozenset(hidden), tuple(differences), tuple(places), frozenset(modules)
    )


def metadata_of_here(
    installed: Iterable[Metadata], place: Path, repositories: Sequence[Path]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Editable installations by name: those that were installed from the build files of the recorded code, and all
    others, whose metadata may say anything else; none whose metadata are in the code. Arguments as in ``look``."""
    of_here = (each for each in installed if not each.folder.is_relative_to(place))
    found = [(each, _project(folder)) for each in of_here if (folder := editable_project(each)) is not None]
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


def _tracked(folder: Path) -> Iterator[str]:
    """The names of what git tracks at or below a folder, as far as they are in it."""
    return (name.partition("/")[0] for name in Repository(folder).ask("ls-files", "-z").split("\0") if name)


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _is_metadata(path: Path) -> bool:
    return path.name.endswith(_METADATA)


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
