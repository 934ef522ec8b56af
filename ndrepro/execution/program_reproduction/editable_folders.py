"""Editable installations: folders that the interpreter here imports from, and that no wheel filled.

Of one in a clone of the recorded code's repository the program sees the recorded code in the place of the reviewer's
work tree, whatever that has checked out, and all of it: a package may read any file of its repository. Of any other it
sees the packages and modules, and nothing else: beside them are the reviewer's own files, and the sockets of what works
there.

So it is with metadata that git tracks in such a clone. All others, and scripts, are those of the installation here,
which may be of another commit than what they describe.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.machinery import BYTECODE_SUFFIXES, EXTENSION_SUFFIXES, all_suffixes
from pathlib import Path

from ndrepro.execution.program_reproduction.data_elsewhere import digest_of
from ndrepro.execution.sandbox.confinement import expect_harmless, link_steps
from ndrepro.execution.sandbox.interpreter_paths import PACKAGE_FOLDERS
from ndrepro.execution.sandbox.recorded_data import expect_files_only
from ndrepro.protocol.errors import SandboxError
from ndrepro.protocol.project_folders import CODE
from provenance.capture.distribution_metadata import Metadata, read
from provenance.capture.editable_source import editable_project
from provenance.errors import SourceError
from provenance.git.repository import Repository
from provenance.git.scratch_repository import LINK
from provenance.git.tracked_paths import tracked

_METADATA = (".egg-info", ".dist-info")
# what metadata are made from
_BUILD_FILES = ("pyproject.toml", "setup.cfg", "setup.py")
_IMPORT = re.compile(rb"^import[ \t]+(\w+)", re.MULTILINE)
# the folders of what these install are in what ``_found_by_modules`` reads, or there are none
_TOOLS_READ = ("setuptools", "bdist_wheel")


@dataclass(frozen=True)
class EditableFolders:
    """What the program is shown of them: ``readable`` as it is here, ``mapped`` from elsewhere (path in the sandbox ->
    path here), and not the metadata ``hidden``; in words what of it is not the recorded code, and where in the recorded
    code the others import from; the names of the ``modules`` that are imported from there; and paths of those that were
    ``built`` or generated in the work trees here, and are not shown.

    Of ``clones``, work trees, nothing but that is shown. ``links`` are made in the sandbox, with their targets: those
    of the recorded code, and those on the way to a clone. ``opened`` has by each path at which the program finds
    something of the recorded code where that is here, and ``sources`` so the folders that it imports from."""

    readable: tuple[Path, ...] = ()
    mapped: Mapping[Path, Path] = field(default_factory=dict)
    links: Mapping[Path, str] = field(default_factory=dict)
    clones: frozenset[Path] = frozenset()
    opened: Mapping[Path, Path] = field(default_factory=dict)
    sources: Mapping[Path, Path] = field(default_factory=dict)
    hidden: frozenset[Path] = frozenset()
    differences: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    modules: frozenset[str] = frozenset()
    built: tuple[Path, ...] = ()

    @property
    def compiled(self) -> tuple[Path, ...]:
        """Those of the modules that were built which are machine code."""
        return tuple(each for each in self.built if each.name.endswith(tuple(EXTENSION_SUFFIXES)))

    def shown(self, installed: Mapping[str, Metadata], searched: Collection[Path]) -> dict[str, Metadata]:
        """By name the distributions that the program sees, of those ``installed`` here in the ``searched`` folders."""
        kept = {name: each for name, each in installed.items() if each.place not in self.hidden}
        places = (path for each in searched if each in self.sources for path in _entries(self.sources[each]))
        recorded = (read(path.parent, path, path.suffix) for path in places if _is_metadata(path))
        return {each.name: each for each in recorded if not each.leftover} | kept


def find(searched: Iterable[Path], own: Collection[Path]) -> dict[Path, dict[str, Path]]:
    """The folders of editable installations, each with the names of what is imported from it, and from where there:
    those of a search path that are neither the interpreter's ``own``, nor of another environment's wheels, and those
    that modules there lead to."""
    found: dict[Path, dict[str, Path]] = {}
    for folder in searched:
        if folder not in own and not _is_of_environment(folder):
            found.setdefault(folder, {}).update(dict.fromkeys(_imported(folder), folder))
        for module, package in _found_by_modules(folder):
            found.setdefault(package.parent, {})[module] = package
    return found


def _is_of_environment(folder: Path) -> bool:
    """Whether a folder has the packages of an environment, or of the system, and is no folder of a repository that is
    called like one."""
    if folder.name not in PACKAGE_FOLDERS or len(folder.parents) < 3:
        return False
    marks = [folder.parents[2] / name for name in ("pyvenv.cfg", "bin/python3")]
    return any(mark.is_file() for mark in marks) and not any(tracked([folder.resolve(), *marks]))


def _imported(folder: Path) -> Iterator[str]:
    """The names of modules and packages in a folder; beside a project's build files are its tests and tools, too."""
    project = any((folder / name).is_file() for name in _BUILD_FILES)
    for path in _entries(folder):
        if _is_code(path) and not (project and path.is_dir() and not (path / "__init__.py").is_file()):
            yield path.name.partition(".")[0]


def _found_by_modules(packages: Path) -> Iterator[tuple[str, Path]]:
    """What modules that are imported at each start of Python find, and where; none is executed.

    Source: setuptools 80, ``setuptools.command.editable_wheel``: a table of modules and their places; so it is in
    scikit-build-core 0.11, ``scikit_build_core.resources._editable_redirect``; editables 0.5: calls with one each.
    """
    for lines in packages.glob("*.pth"):
        for name in _IMPORT.findall(lines.read_bytes()) if lines.is_file() else ():
            try:
                nodes = ast.walk(ast.parse((packages / f"{os.fsdecode(name)}.py").read_bytes()))
            except (OSError, ValueError, SyntaxError):  # elsewhere, or of another form: then it shows nothing
                continue
            for node in nodes:
                if isinstance(node, ast.Dict):
                    yield from _places(zip(node.keys, node.values, strict=True))
                elif isinstance(node, ast.Call) and len(node.args) == 2:
                    yield from _places([(node.args[0], node.args[1])])


def _places(pairs: Iterable[tuple[ast.expr | None, ast.expr]]) -> Iterator[tuple[str, Path]]:
    """The first name and its place, of each module that is said to be at an absolute path."""
    for name, place in pairs:
        if not (isinstance(name, ast.Constant) and isinstance(place, ast.Constant)):
            continue
        if not (isinstance(name.value, str) and isinstance(place.value, str)):
            continue
        if all(map(str.isidentifier, name.value.split("."))) and os.path.isabs(place.value):
            path = Path(place.value)
            if path.name.endswith(tuple(all_suffixes())):
                path = path.parent if path.stem == "__init__" else path
                for _ in range(name.value.count(".")):
                    path = path.parent
            if path.parent != Path(path.anchor):  # beside it may be anything
                yield name.value.partition(".")[0], path


def look(
    folders: Mapping[Path, Mapping[str, Path]],
    place: Path,
    repositories: Sequence[Path],
    private: Sequence[Path],
    kept: Sequence[Path],
    *,
    maps: bool,
) -> EditableFolders:
    """What is shown of these folders of editable installations.

    Args:
        folders: as ``find`` answers.
        place: the private folder with the recorded code.
        repositories: folders that may be in a repository with the recorded commit.
        private: the folders of runs and keys.
        kept: what else is shown as it is here.
        maps: whether there is a sandbox, which shows one file in the place of another.

    Raises SourceError where git does not say what it tracks in one.
    """
    tops = list(_tops(repositories)) if folders else []
    readable: list[Path] = []
    sources: dict[Path, Path] = {}
    clones: dict[Path, Path] = {}
    links: dict[Path, str] = {}
    hidden: set[Path] = set()
    differences: list[str] = []
    places: list[str] = []
    modules: set[str] = set()
    built: set[Path] = set()
    for folder, names in folders.items():
        within = _within(folder, tops)
        recorded = None if within is None else place / within[1]
        metadata = {path for path in _entries(folder) if _is_metadata(path) and _is_shown(path, private)}
        if within is not None and recorded is not None and recorded.is_dir():
            places += [_in_words(name, each, tops) for name, each in sorted(names.items())]
            differences += _linked(folder, within[0].resolve(), place)
            if maps:
                sources[folder] = recorded
                clones[within[0]] = top = within[0].resolve()
                links |= {step: to for step, to in _steps(folder) if to and top not in step.parents}
                # by a link of the clone these are of another folder
                of_link = folder.resolve() != top / within[1]
                of_commit = {folder / each.name for each in _entries(recorded)}
                hidden |= metadata & {*of_commit, *(folder / name for name in _tracked(folder))}
                hidden |= metadata if of_link else set()
                readable += sorted(metadata - hidden)
                built |= {
                    each for each in _untracked(folder, names, top) if not (place / each.relative_to(top)).exists()
                }
                continue
        else:
            modules |= {*names}
        code = [path for path in _entries(folder) if _is_code(path) and _is_shown(path, private)]
        readable += [*sorted(metadata), *code]
        if folder.resolve() != CODE.resolve():
            differences.append(f"{folder}: an editable installation, taken as it is here")
    shown = {Path(each) for path in (*kept, *readable, *private) for each in (os.path.abspath(path), path.resolve())}
    opened = {path: each for top in {*clones.values()} for path, each in _recorded(top, place, shown)}
    mapped = {path: each for path, each in opened.items() if not each.is_symlink()}
    return EditableFolders(
        tuple(readable),
        mapped,
        links | {path: os.readlink(each) for path, each in opened.items() if path not in mapped},
        frozenset(clones.values()),
        {
            written / path.relative_to(top): each
            for written, top in (*clones.items(), *((top, top) for top in clones.values()))
            for path, each in opened.items()
            if top in path.parents
        },
        sources,
        frozenset(hidden),
        tuple(differences),
        tuple(places),
        frozenset(modules),
        tuple(sorted(built)),
    )


def _within(path: Path, tops: Collection[Path]) -> tuple[Path, Path] | None:
    """The clone that a path is in, as it is written there, and the path in the clone, which no link of the clone
    changes: that may be another one in the recorded code."""
    for written in path.parents if path.resolve() not in tops else [path]:
        if written.resolve() in tops:
            return written, path.relative_to(written)
    top = next((top for top in tops if path.resolve().is_relative_to(top)), None)
    return None if top is None else (top, path.resolve().relative_to(top))


def _in_words(name: str, path: Path, tops: Collection[Path]) -> str:
    """Where in the recorded code a name is imported from; where a link leads here, too."""
    within = _within(path, tops)
    assert within is not None
    here = os.path.relpath(path.resolve(), within[0].resolve())
    return f"{name} from {within[1]}" + (f" (here a link to {here})" if here != str(within[1]) else "")


def _linked(folder: Path, top: Path, place: Path) -> Iterator[str]:
    """Each link that git tracks in a clone, and the recorded code has not, which leads to a folder that is imported
    from: an installer writes where it leads, and the recorded code is imported from there."""
    for line in Repository(top).ask("ls-files", "--stage", "-z").split("\0"):
        mode, _, name = line.partition(" ")
        if mode == LINK and folder.resolve().is_relative_to((top / name.partition("\t")[2]).resolve()):
            link = name.partition("\t")[2]
            if not (place / link).is_symlink():
                yield f"{folder}: {link} is a link that leads there here, and none in the recorded code"


def _steps(path: Path) -> Iterator[tuple[Path, str]]:
    with suppress(SandboxError):  # nothing is there
        yield from link_steps(path)


def _recorded(here: Path, recorded: Path, shown: Collection[Path]) -> Iterator[tuple[Path, Path]]:
    """By paths below ``here`` the entries of a folder of the recorded code, without those that are ``shown`` anyway."""
    for entry in _entries(recorded):
        path = here / entry.name
        if any(path in each.parents for each in shown):
            yield from () if entry.is_symlink() else _recorded(path, entry, shown)
        elif path not in shown:
            yield path, entry


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


def not_read(installed: Iterable[Metadata], folders: Iterable[Path]) -> Iterator[str]:
    """In words the editable installations of which no folder is among these, as ``find`` answers: who made them writes
    it in another way."""
    known = {*map(_project, folders), CODE.resolve()}
    for each in installed:
        project = editable_project(each)
        wheel = each.place / "WHEEL"
        if project is not None and project.resolve() not in known and wheel.is_file():
            made = re.search(r"^Generator: *(\S+)", wheel.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
            if (tool := made[1] if made else "an unknown tool") not in _TOOLS_READ:
                yield f"{each.name}: an editable installation by {tool}, taken as it is here"


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


def _untracked(folder: Path, names: Mapping[str, Path], top: Path) -> Iterator[Path]:
    """The modules that git does not track in a clone, of those that are imported from one of its folders."""
    of_folder = (path for path in _entries(folder) if names.get(path.name.partition(".")[0]) == folder)
    paths = [path.resolve() for path in (*of_folder, *names.values()) if path != folder]
    words = [f":(literal){path.relative_to(top)}" for path in paths if path.is_relative_to(top)]
    for name in Repository(top).ask("ls-files", "--others", "-z", "--", *words).split("\0") if words else ():
        if name.endswith(tuple(all_suffixes())) and not name.endswith(tuple(BYTECODE_SUFFIXES)):
            yield top / name


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _is_metadata(path: Path) -> bool:
    return path.name.endswith(_METADATA)


def _is_code(path: Path) -> bool:
    """Whether it is a module, or a folder of modules."""
    if path.name.startswith("."):
        return False
    return any(path.glob("*.py")) or any(path.glob("*/*.py")) if path.is_dir() else path.suffix in (".py", ".so")


def _is_shown(path: Path, private: Sequence[Path]) -> bool:
    """Whether an entry of a folder is one of the project itself, and not what a link leads to, which the author of a
    clone may have made; and holds no socket."""
    return path.resolve().is_relative_to(_project(path.parent)) and _is_harmless(path, private)


def _is_harmless(path: Path, private: Sequence[Path]) -> bool:
    try:
        hidden = [folder.resolve() for folder in private]
        expect_harmless(path, hidden, hidden)
        expect_files_only(path, own=True)
    except (SandboxError, OSError):
        return False
    return True
