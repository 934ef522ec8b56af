"""Which files of a work tree are source that git does not know, and which are not source at all.

Not source, and named as ``excluded`` with the reason: what the caller names (the run's own folder, the data that it
reads); folders that hold a run, but for code in them that its manifest does not list; what is beside the ledger of
any folder of runs; a symbolic link to a folder whose name git ignores for a folder, or that leads to one of the others.
All else that git does not ignore is source.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from provenance.errors import DigestError, SourceError, StorageError
from provenance.formats.digest import file_digest
from provenance.formats.folder_tree import temporary_folder, walk
from provenance.formats.run_markers import LEDGER, is_ledger, is_run_folder, listed_files
from provenance.git.repository import Repository

# what programs keep beside a ledger: digests of data, locks, submitted jobs, reviewers' verdicts
_BESIDE_A_LEDGER = (LEDGER, f"{LEDGER}.lock", ".data", ".claims", ".slurm", "verdicts")
_RUN = "a run"
# what Python imports or executes by its name
_CODE = (".py", ".pyc", ".pyw", ".pyd", ".so", ".pth", ".zip", ".egg", ".whl", ".pyz")


@dataclass(frozen=True)
class Untracked:
    """Names of untracked source files (a nested repository's ends in a slash), and what is excluded, with reasons."""

    names: tuple[str, ...]
    excluded: tuple[tuple[str, str], ...]


def list_untracked(repository: Repository, tracked: Collection[str], named: Sequence[tuple[Path, str]]) -> Untracked:
    """The untracked files of the work tree at ``repository.folder``. ``named``: folders or files, with the reason.

    Raises SourceError.
    """
    top = repository.folder
    listed = repository.ask("ls-files", "--others", "--exclude-standard", "-z").split("\0")
    names = [name for name in listed if name and name not in tracked]
    inside = dict(_inside(top, named))
    places = {place: reason for place, reason in inside.items() if not _is_below(place, inside.keys() - {place})}
    names = [name for name in names if not _is_below(name, places)]
    runs = dict(_run_places(top, names, _parents(tracked)))
    hidden = set(_code_of_no_run(top, names, [place for place, reason in runs.items() if reason == _RUN]))
    names = [name for name in names if name in hidden or not _is_below(name, runs)]
    links = dict(_links(repository, names, named))
    names = [name for name in names if name not in links]
    excluded = [*places.items(), *_by_folder(runs), *links.items()]
    return Untracked(tuple(names), tuple(sorted(excluded)))


def _inside(top: Path, named: Iterable[tuple[Path, str]]) -> Iterator[tuple[str, str]]:
    """Those of the places that are in the work tree, relative to it. The work tree itself is source, whatever it is."""
    for place, reason in named:
        relative = os.path.relpath(os.path.realpath(place), os.path.realpath(top))
        if relative != os.curdir and relative.split(os.sep)[0] != os.pardir:
            yield relative, reason


def _is_below(name: str, places: Collection[str]) -> bool:
    """Whether a name is one of the places, or below one."""
    name = name.rstrip("/")
    while name and places:
        if name in places:
            return True
        name = os.path.dirname(name)
    return False


def _parents(names: Iterable[str]) -> set[str]:
    """Every folder above the names, but for the top."""
    found: set[str] = set()
    for name in names:
        while (name := os.path.dirname(name.rstrip("/"))) and name not in found:
            found.add(name)
    return found


def _run_places(top: Path, names: Sequence[str], tracked: set[str]) -> Iterator[tuple[str, str]]:
    """Folders of runs, and what is beside their ledgers. A folder with a tracked file is no run's."""
    repositories = {name.rstrip("/") for name in names if name.endswith("/")}
    folders = _parents(names) | repositories
    for folder in folders - tracked:
        if is_run_folder(top / folder):
            yield folder, _RUN
    for folder in ("", *folders):
        if is_ledger(top / folder / LEDGER):
            for name in _BESIDE_A_LEDGER:
                yield os.path.join(folder, name), "a ledger, or what is kept beside it"


def _code_of_no_run(top: Path, names: Iterable[str], runs: Collection[str]) -> Iterator[str]:
    """Code in folders of runs that is source all the same: no file that the run's manifest lists, with this digest.

    A run's folder is called by its time and a random number; in one whose name could be a package's, all code is
    source.
    """
    listed: dict[str, dict[str, str]] = {}
    for name in names:
        above = [run for run in _parents([os.path.join(name, "file")]) if run in runs]
        for file in _code_in(top, name) if above else ():
            for run in above:
                if run not in listed:
                    listed[run] = {} if os.path.basename(run).isidentifier() else listed_files(top / run)
            if not any(listed[run].get(file[len(run) + 1 :]) == _sha256(top / file) for run in above):
                yield name
                break


def _code_in(top: Path, name: str) -> Iterator[str]:
    """The name itself where it is code's; of a nested repository, of which git names no file, all code in it."""
    if not name.endswith("/"):
        yield from [name] if name.endswith(_CODE) else []
        return
    try:
        for place, _, files in walk(top / name):
            yield from (os.path.relpath(os.path.join(place, file), top) for file in files if file.endswith(_CODE))
    except StorageError:  # nested too deeply to be looked through
        yield f"{name}{_CODE[0]}"


def _sha256(path: Path) -> str:
    try:
        return file_digest(path, follow_symlinks=False).sha256
    except DigestError:
        return "cannot be read"


def _by_folder(runs: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Runs summed up by the folder that holds them."""
    counts: dict[str, int] = {}
    for place, reason in runs.items():
        if reason == _RUN:
            counts[os.path.dirname(place)] = counts.get(os.path.dirname(place), 0) + 1
        else:
            yield place, reason
    for folder, count in counts.items():
        yield folder or ".", f"{count} folders of runs in it" if count > 1 else "a folder of a run in it"


def _links(
    repository: Repository, names: Iterable[str], named: Sequence[tuple[Path, str]]
) -> Iterator[tuple[str, str]]:
    """Symbolic links that are no source, with the reason."""
    links = [
        name for name in _symbolic_links(repository.folder, set(names)) if not (repository.folder / name).is_file()
    ]
    for name in links:
        link = os.path.abspath(repository.folder / name)
        target = os.path.realpath(link)
        for place, reason in named:
            if target == os.path.realpath(place) or f"{os.path.abspath(place)}/".startswith(f"{link}/"):
                yield name, f"a link: {reason}"
        if is_ledger(Path(target, LEDGER)):
            yield name, "a link to a folder of runs"
    for name in _ignored_as_folders(repository, links) if links else ():
        yield name, "a link, where git ignores a folder of that name"


def _symbolic_links(top: Path, names: set[str]) -> Iterator[str]:
    """Those of the names that are links; listing their folders is cheaper than asking for each file."""
    for folder in {os.path.dirname(name.rstrip("/")) for name in names}:
        with contextlib.suppress(OSError), os.scandir(top / folder) as listing:
            for entry in listing:
                if entry.is_symlink() and (name := os.path.join(folder, entry.name)) in names:
                    yield name


def _ignored_as_folders(repository: Repository, names: Sequence[str]) -> list[str]:
    """Those of the names that git would ignore if they were folders: asked in a work tree in which they are."""
    top = repository.folder
    with temporary_folder("ndrepro-ignored-") as scratch:
        listing, work_tree = scratch / "names", scratch / "tree"
        for name in names:
            (work_tree / name).mkdir(parents=True, exist_ok=True)
        for folder in {"", *_parents(names)}:
            if (top / folder / ".gitignore").is_file():
                shutil.copyfile(top / folder / ".gitignore", work_tree / folder / ".gitignore")
        listing.write_bytes(b"".join(os.fsencode(name) + b"\0" for name in names))
        there = {"GIT_WORK_TREE": str(work_tree), "GIT_DIR": repository.line("rev-parse", "--absolute-git-dir")}
        try:
            answer = Repository(work_tree, there).ask("check-ignore", "-z", "--stdin", "--no-index", stdin=listing)
        except SourceError:  # it answers 1 for "none of them"
            return []
    return [name for name in answer.split("\0") if name]
