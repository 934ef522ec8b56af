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
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from provenance.capture import distributions, imported_files
from provenance.capture.distribution_metadata import Metadata, normalized
from provenance.capture.unavailable import unavailable
from provenance.code import foreign_code
from provenance.code.foreign_code import InterpreterFolders, mapped_libraries

# between looks: a tenth of the time that has passed, so that a short run is seen too
_LEAST_SECONDS, _MOST_SECONDS = 0.5, 10.0
_SOURCES = re.compile(rb'(?m)^([^",\n]+\.py),sha256=')
_REQUIREMENT = re.compile(rb"(?m)^Requires-Dist:\s*([A-Za-z0-9][\w.-]*)(?!.*extra\s*==)")
_HEADER_BYTES = 1 << 16


class Witness:
    """Looks at the processes below this one that run ``python`` and have ``word`` in their command line."""

    def __init__(self, python: str, word: str, own: Path) -> None:
        self._word = os.fsencode(word)
        self._own = own
        self._folders = InterpreterFolders.of(python)
        self._path = _search_path(self._folders, python)
        self._libraries: set[str] = set()
        # as they were at the first look: an edited RECORD vouches for nothing later
        self._installed: dict[str, Metadata] = {}
        self._compared: list[dict[str, Any]] = []
        self._compared_names: set[str] = set()
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
        self._next = now + min(max((now - self._start) / 10, _LEAST_SECONDS), _MOST_SECONDS)
        # once for each set of packages: while it imports them, and again at the end
        if self._libraries and self._used() != self._compared_names:
            self._compare()

    def end(self) -> dict[str, Any]:
        """Compare once more; ``imported_files`` and ``loaded_code`` as the process itself records them.

        Where nothing could be seen, each is ``{"unavailable": reason}``.
        """
        if not self._libraries:
            missing = unavailable("the recorder saw no library mapped into the training process")
            return {"imported_files": missing, "loaded_code": missing}
        self._compare()
        files: Any = None
        for look in self._compared:
            files = imported_files.merged(files, look)
        installed = self._installed.values()
        survey = foreign_code.survey(installed, self._own, self._folders, (), self._libraries, {})
        return {"imported_files": files, "loaded_code": survey}

    def _used(self) -> set[str]:
        """The distributions whose libraries are mapped."""
        self._installed = self._installed or distributions.search(self._path).installed
        return _owners(self._installed, self._libraries)

    def _compare(self) -> None:
        """Compare the files of the packages in use with their RECORDs."""
        self._compared_names = self._used()
        used = _required(self._installed, self._compared_names)
        self._compared.append(imported_files.compare(used, {*self._libraries, *_sources(used)}))


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


def _sources(distributions: Sequence[Metadata]) -> Iterator[str]:
    for each in distributions:
        if isinstance(each.record, bytes):
            yield from (os.path.join(each.folder, os.fsdecode(name)) for name in _SOURCES.findall(each.record))


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
