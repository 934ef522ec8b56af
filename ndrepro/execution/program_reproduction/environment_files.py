"""Files of an environment that a program executes and that no source of it names.

Equal RECORDs say that two environments have the same distributions, and not which files are there:

* every start of Python executes ``.pth`` files with lines of code, ``sitecustomize`` and ``usercustomize``;
* programs of distributions may have the names of the machine's;
* of a file that two distributions list with different content, that of the one installed last is there;
* a file may have been edited, or written by a distribution that does not list it.

Of a rebuilt environment, whose author chose every wheel, this would say too little, and nothing of it is looked at.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ndrepro.execution.programs.interpreters import is_python, python_of
from ndrepro.execution.sandbox.interpreter_paths import PACKAGE_FOLDERS
from provenance.capture.distribution_metadata import Metadata, RecordedFile
from provenance.code.foreign_code import START_MODULES, startup_files
from provenance.errors import DigestError
from provenance.formats.digest_cache import DigestCache

_OUTSIDE = ".."
_PROGRAMS = "/usr/bin"
# rows of RECORDs, each with its distribution
_Rows = list[tuple[Metadata, RecordedFile]]


@dataclass(frozen=True)
class EnvironmentFiles:
    """In words: what each start of Python executes, programs that the machine has, too, and files that are not those of
    the distribution that lists them."""

    startup: tuple[str, ...]
    programs: tuple[str, ...]
    doubtful: tuple[str, ...]


def look(folders: Iterable[Path], installed: Collection[Metadata]) -> EnvironmentFiles:
    """Look through the ``installed`` distributions in the folders of a search path.

    Python's source is compared with RECORDs, and its digests are remembered. Scripts are not, since conda writes them
    anew, and no ``.pth`` file that only leads to folders.
    """
    caches = {folder: DigestCache(folder) for folder in {each.folder for each in installed}}
    listed = _listed(installed)
    startup = list(_startup(folders))
    compared = (".py", *map(str, startup))
    programs: list[str] = []
    doubtful: list[str] = []
    for path, rows in listed.items():
        owner, row = rows[0]
        outside = row.path.startswith(_OUTSIDE)
        if len(rows) > 1 and len({each.sha256 or each.digest for _, each in rows}) > 1:
            doubtful.append(f"{row.path}: of {_names(rows)}, with different content")
        elif outside and (is_python(Path(path)) or os.path.basename(path) == "pyvenv.cfg"):
            doubtful.append(f"{row.path}: a file of the environment itself that {owner.name} lists")
        elif outside and _hides_one_of_the_machine(path):
            programs.append(f"{os.path.basename(path)} of {owner.name}")
        elif row.sha256 and not outside and path.endswith(compared):
            with suppress(OSError, DigestError):  # what is not there is not executed
                if caches[owner.folder].sha256(row.path) != row.sha256:
                    doubtful.append(f"{row.path}: not the file that {owner.name} lists")
    for cache in caches.values():
        cache.save()
    named = (f"{each.name} of {_names(listed[str(each)])}" if str(each) in listed else str(each) for each in startup)
    return EnvironmentFiles(tuple(named), tuple(programs), tuple(doubtful))


def _hides_one_of_the_machine(script: str) -> bool:
    """Whether the system has a program of this name, which is none of Python's."""
    folder, name = os.path.split(script)
    other = Path(_PROGRAMS, name)
    return os.path.basename(folder) == "bin" and folder != _PROGRAMS and other.exists() and python_of(other) is None


def _listed(installed: Iterable[Metadata]) -> dict[str, _Rows]:
    """By path the rows that list a file. A RECORD is a file of the distribution that it is of, listed or not."""
    found: dict[str, _Rows] = {}
    for each in installed:
        folder = f"{each.folder}{os.sep}"
        for row in (*each.files(), RecordedFile(f"{each.place.name}/RECORD", "")):
            if "__pycache__" not in row.path:
                path = os.path.normpath(folder + row.path) if _OUTSIDE in row.path else folder + row.path
                found.setdefault(path, []).append((each, row))
    return found


def _names(rows: _Rows) -> str:
    return " and of ".join(dict.fromkeys(each.name for each, _ in rows))


def _startup(folders: Iterable[Path]) -> Iterator[Path]:
    for folder in folders:
        yield from startup_files(folder) if folder.name in PACKAGE_FOLDERS else ()
        yield from (path for name in START_MODULES for path in folder.glob(f"{name}*"))
