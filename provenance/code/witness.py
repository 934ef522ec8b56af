"""What the recorder itself sees of the process that it records, since that process may be made to lie about itself.

The process is asked for nothing: its mapped libraries are the kernel's account, its packages are those whose libraries
these are with all that they require, and their files are those that the RECORDs list. All Python source and every
mapped library of them is compared with its RECORD, once they are loaded and again when the process has ended.
Digests are remembered (``provenance.formats.digest_cache``). Inside a container nothing can be seen from here.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from provenance.capture import distributions
from provenance.capture.distribution_metadata import Metadata, RecordedFile, normalized
from provenance.capture.unavailable import unavailable
from provenance.code import foreign_code
from provenance.code.foreign_code import InterpreterFolders, mapped_libraries
from provenance.errors import DigestError
from provenance.formats.digest_cache import DigestCache

# between looks: a tenth of the time that has passed, so that a short run is seen too
_LEAST_SECONDS, _MOST_SECONDS = 0.5, 10.0
_SOURCES = re.compile(rb'(?m)^([^",\n]+\.py),(sha256=[\w-]+)')
_REQUIREMENT = re.compile(rb"(?m)^Requires-Dist:\s*([A-Za-z0-9][\w.-]*)(?!.*extra\s*==)")
_HEADER_BYTES = 1 << 16
_DELETED = " (deleted)"


class Witness:
    """Looks at the processes below this one that run ``python`` and have ``word`` in their command line.

    ``variables`` are those that they get beside this one's: of all of them the folders of compilers count.
    """

    def __init__(
        self,
        python: str,
        word: str,
        own: Path,
        variables: Mapping[str, str] | None = None,
        least_seconds: float = _LEAST_SECONDS,
    ) -> None:
        given = {**os.environ, **(variables or {})}
        self._caches = {name: given[name] for name in foreign_code.COMPILERS if name in given}
        self._word = os.fsencode(word)
        self._own = own
        self._folders = InterpreterFolders.of(python)
        self._path = _search_path(self._folders, python)
        self._libraries: set[str] = set()
        # as they were at the first look: an edited RECORD vouches for nothing later
        self._installed: dict[str, Metadata] = {}
        self._packages: set[str] = set()
        self._listed: set[str] = set()
        self._read: set[str] = set()
        self._sources: list[_Row] = []
        self._mapped: list[_Row] = []
        self._digests: dict[Path, DigestCache] = {}
        self._edited: dict[str, Any] = {}
        self._least_seconds = least_seconds
        self._start = time.monotonic()
        self._next = 0.0

    def look(self) -> None:
        """Read which libraries are mapped; does nothing where it did so a moment ago."""
        now = time.monotonic()
        if now < self._next:
            return
        for process in _descendants(os.getpid()):
            if self._word in _command_line(process):
                self._libraries |= _mapped(process)
        self._next = now + min(max((now - self._start) / 10, self._least_seconds), _MOST_SECONDS)
        if not self._libraries or self._listed:
            return
        before, self._packages = self._packages, self._used()
        if before == self._packages:  # it imports no more of them
            self._compare()

    def end(self) -> dict[str, Any]:
        """Compare once more; ``imported_files`` and ``loaded_code`` as the process itself records them.

        Where nothing could be seen, each is ``{"unavailable": reason}``.
        """
        if not self._libraries:
            missing = unavailable("the recorder saw no library mapped into the training process")
            return {"imported_files": missing, "loaded_code": missing}
        self._compare()
        installed = self._installed.values()
        survey = foreign_code.survey(installed, self._own, self._folders, (), self._libraries, self._caches)
        rows = (*self._sources, *self._mapped)
        names = sorted({row.distribution for row in rows})
        files = {"imported": names, "checked": len(rows), "edited": dict(sorted(self._edited.items()))}
        return {"imported_files": files, "loaded_code": survey}

    def _used(self) -> set[str]:
        """The distributions whose libraries are mapped."""
        self._installed = self._installed or distributions.search(self._path).installed
        return _owners(self._installed, self._libraries)

    def _compare(self) -> None:
        """Compare the files of the packages in use with their RECORDs, as these were at the first look."""
        used = self._used()
        required = _required(self._installed, used)
        if used != self._read:
            self._sources, self._read = list(_source_rows(required)), used
        if new := self._libraries - self._listed:
            self._mapped += _library_rows(required, new)
            self._listed |= new
        rows = (*self._sources, *self._mapped)
        for folder in {row.folder for row in rows} - self._digests.keys():
            self._digests[folder] = DigestCache(folder)
        # by the kernel's account: another file is in the place of the one that is mapped
        replaced = {path.removesuffix(_DELETED) for path in self._libraries if path.endswith(_DELETED)}
        for row in rows:
            actual = _actual(self._digests[row.folder], row)
            if actual == row.sha256 and replaced and row.place in replaced:
                actual = unavailable("the file was replaced after the process had loaded it")
            if actual not in (row.sha256, None):
                found = {"distribution": row.distribution, "recorded": row.sha256, "actual": actual}
                self._edited[row.path] = found
        for digests in self._digests.values():
            digests.save()


class _Row(NamedTuple):
    """A file as a RECORD lists it: the site folder, the distribution's name, the path in the folder, SHA-256 in hex."""

    folder: Path
    distribution: str
    path: str
    sha256: str

    @property
    def place(self) -> str:
        """The file's real path."""
        return os.path.realpath(self.folder / self.path)


def _source_rows(used: Iterable[Metadata]) -> Iterator[_Row]:
    """All Python source of the distributions."""
    for each in used:
        if isinstance(each.record, bytes):
            for name, digest in _SOURCES.findall(each.record):
                if sha256 := RecordedFile("", digest.decode()).sha256:
                    yield _Row(each.folder, each.name, os.fsdecode(name), sha256)


def _library_rows(used: Iterable[Metadata], libraries: set[str]) -> Iterator[_Row]:
    """Those of the libraries that the distributions list."""
    for each in used:
        tops = {f"{each.folder}{os.sep}", f"{os.path.realpath(each.folder)}{os.sep}"}
        names = (path[len(top) :] for path in libraries for top in tops if path.startswith(top))
        wanted = {
            name for name in (name.removesuffix(_DELETED) for name in names) if name.partition(os.sep)[0] in each.tops
        }
        for file in each.files(wanted) if wanted else ():
            if sha256 := file.sha256:
                yield _Row(each.folder, each.name, file.path, sha256)


def _actual(digests: DigestCache, row: _Row) -> Any:
    """A file's digest; None where it is not there: nothing of it can be imported."""
    try:
        return digests.sha256(row.path)
    except FileNotFoundError:
        return None
    except (OSError, DigestError) as error:
        return unavailable(getattr(error, "strerror", None) or str(error))


def _search_path(folders: InterpreterFolders, python: str) -> list[str]:
    """Where the interpreter finds packages: its site folders, and the folders that their ``.pth`` files name."""
    if os.path.abspath(python) == os.path.abspath(sys.executable):
        return sys.path
    found = []
    for folder in folders.site:
        found.append(str(folder))
        for each in sorted(folder.glob("*.pth")):
            lines = each.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
            places = (folder / line.strip() for line in lines if line.strip() and not line.startswith(("#", "import")))
            found += [str(place) for place in places if place.is_dir()]
    return found


def _owners(installed: Mapping[str, Metadata], libraries: set[str]) -> set[str]:
    """The distributions in whose folders mapped libraries lie."""
    tops: dict[Path, set[str]] = {}
    for folder in {each.folder for each in installed.values()}:
        below = {f"{folder}{os.sep}", f"{os.path.realpath(folder)}{os.sep}"}
        names = (path[len(top) :] for path in libraries for top in below if path.startswith(top))
        tops[folder] = {name.partition(os.sep)[0] for name in names}
    return {name for name, each in installed.items() if each.tops & tops[each.folder]}


def _required(installed: Mapping[str, Metadata], names: set[str]) -> list[Metadata]:
    """The distributions of these names and all that they require, as far as they are installed."""
    found: dict[str, Metadata] = {}
    waiting = sorted(names)
    while waiting:
        name = waiting.pop()
        if name in installed and name not in found:
            found[name] = installed[name]
            waiting += [normalized(each.decode()) for each in _requirements(installed[name])]
    return list(found.values())


def _requirements(metadata: Metadata) -> Sequence[bytes]:
    try:
        with (metadata.place / "METADATA").open("rb") as file:
            return _REQUIREMENT.findall(file.read(_HEADER_BYTES))
    except (OSError, KeyError):
        return ()


def _descendants(process: int) -> Iterator[int]:
    """The processes below one, by the kernel's account; nothing where it gives none."""
    try:
        threads = os.listdir(f"/proc/{process}/task")
    except OSError:
        return
    for thread in threads:
        try:
            children = Path(f"/proc/{process}/task/{thread}/children").read_text(encoding="ascii").split()
        except OSError:
            continue
        for child in map(int, children):
            yield child
            yield from _descendants(child)


def _command_line(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""


def _mapped(process: int) -> set[str]:
    try:
        return mapped_libraries(process)
    except OSError:  # it ended just now, or is another user's
        return set()
