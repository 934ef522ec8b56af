"""Files of an environment that a program may execute and that no source of it names.

Equal RECORDs say that two environments have the same distributions, and not which files are there:

* every start of Python executes ``.pth`` files with lines of code, ``sitecustomize`` and ``usercustomize``;
* programs of distributions may have the names of the machine's;
* of a file that two distributions list with different content, that of the one installed last is there;
* a file may have been edited, a library too, or written by a distribution that does not list it;
* modules, libraries, programs and whatever else an environment has may be of no distribution at all: the sandbox shows
  all of it. An empty folder, and one with bytecode alone, is a package.

Bytecode in ``__pycache__`` is not looked at, since the repetition reads none. In the system's folders root installs
packages of another kind, which change files and have no RECORD: that is noted, and what no RECORD lists is counted.
Files that a package of conda's lists alone are compared with its digests; what none lists is noted, too, and what
another installation of Python has beside its usual folders, of which nobody lists anything; and of each prefix what is
not shown, since it may be the root of a project. Of a rebuilt environment, whose author chose every wheel, all this
would say too little, and nothing of it is looked at.
"""

from __future__ import annotations

import filecmp
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ndrepro.execution.programs.interpreters import is_python, python_of
from ndrepro.execution.sandbox.interpreter_paths import PACKAGE_FOLDERS, of_prefix
from ndrepro.text.plurals import all_of, first_of, plural
from provenance.capture import conda
from provenance.capture.distribution_metadata import Metadata, RecordedFile
from provenance.capture.distributions import DistributionSearch
from provenance.code.foreign_code import START_MODULES, startup_files
from provenance.errors import DigestError
from provenance.formats.digest_cache import DigestCache
from provenance.formats.folder_tree import files_and_links, walk

_OUTSIDE = ".."
_PROGRAMS = "/usr/bin"
# which venv, virtualenv, uv and this project's bootstrap.sh make in an environment or installation, beside its programs
_OF_INSTALLERS = ("pyvenv.cfg", "lib64", ".gitignore", ".lock", "CACHEDIR.TAG", ".complete", "BUILD")
# of an installation of Python
_OF_INSTALLATION = ("bin", "include", "lib", "lib64", "share")
# conda's own lists
_CONDA = "conda-meta"
_THREADS = 4
_SHOWN = 5
_OTHER = "other file"
_BYTECODE = re.compile(r"(?:^|/)__pycache__/[^/]+\.[^/]+\.pyc$")
_KINDS = {
    "module": re.compile(r"\.(?:py[cow]?|egg|zip)$|-info/entry_points\.txt$"),
    "compiled file": re.compile(r"\.(?:so|pyd|dylib|dll|nb[ci])(?:\.|$)"),
}
# which the installation of Python itself brings, and virtualenv and uv, to a site folder
_OF_PYTHON = "README.txt"
_OF_VIRTUALENV = ("_virtualenv.pth", "_virtualenv.py")
# scripts of venv, virtualenv and uv for shells, which no search for a program finds
_FOR_SHELLS = re.compile(r"[Aa]ctivate(?:\.\w+)?|activate_this\.py|deactivate\.(?:bat|nu)|pydoc\.bat")
# a row of a RECORD, with its distribution
_Row = tuple[Metadata, RecordedFile]


@dataclass(frozen=True)
class EnvironmentFiles:
    """In words: ``concerns`` may be another thing than the distributions say; ``notes`` are what honest environments
    have, too: what each start of Python executes, programs that the machine has, what cannot be compared."""

    concerns: tuple[str, ...]
    notes: tuple[str, ...]


def look(folders: Iterable[Path], found: DistributionSearch, pythons: Collection[Path]) -> EnvironmentFiles:
    """Look through the ``folders`` of a search path, what was ``found`` in them, and the environments of ``pythons``.

    Files are compared with RECORDs, and their digests are remembered. Scripts are where there is a virtual environment,
    since conda writes them anew; no ``.pth`` file is that only leads to folders. Raises StorageError for folders that
    are nested too deeply.
    """
    folders = list(folders)
    sites = [Path(each) for each in _real(each for each in folders if each.name in PACKAGE_FOLDERS)]
    prefixes = [Path(each) for each in _real(of.parents[1] for each in pythons for of in (each, each.resolve()))]
    shown = {each: of_prefix(each) for each in prefixes}
    environments = [each for each in prefixes if (each / "pyvenv.cfg").is_file()]
    installed = [*found.installed.values(), *found.shadowed]
    listed = _listed(installed)
    startup = [os.path.join(*_real([each.parent]), each.name) for each in _startup(folders)]
    doubtful = {path: words for path, rows in listed.items() if (words := _contradiction(path, rows))}
    compared = [
        rows[0]
        for path, rows in listed.items()
        if path not in doubtful and _is_compared(path, rows[0][1], environments, startup)
    ]
    of_system = {each.folder for each in installed if _is_of_system(each.folder)}
    concerns = [*doubtful.values(), *_edited(row for row in compared if row[0].folder not in of_system)]
    concerns += (words for each in prefixes for words in _edited(_of_conda(each, listed)))
    seen = _real((*folders, *(path for parts, _ in shown.values() for path in parts)))
    if hidden := sorted(path for path in listed if _is_below(path, prefixes) and not _is_below(path, seen)):
        concerns.append(f"{plural(len(hidden), 'file')} which a sandbox does not show: {all_of(hidden)}")
    if linked := sorted(_leading_out(listed, seen)):
        concerns.append(
            f"{plural(len(linked), 'link')} to files elsewhere, which a sandbox does not show: {all_of(linked)}"
        )
    notes = list(_notes(startup, listed, found.shadowed))
    if changed := _edited(row for row in compared if row[0].folder in of_system):
        notes.append(f"the system changed {plural(len(changed), 'file')}: {first_of(changed, _SHOWN)}")
    beside = [path for _, several in shown.values() for path in several]
    apart = {*map(str, (*sites, *beside)), *(str(each / "bin") for each in environments)}
    for place in (*sites, *environments):
        kinds = _by_kind(place, _unlisted(place, listed, apart), startup)
        if _is_of_system(place):
            notes += _uncompared(place, installed, kinds)
            continue
        if further := kinds.pop(_OTHER, []):
            notes.append(_no_record(place, _OTHER, _outermost(place, further, listed)))
        concerns += [_no_record(place, kind, _outermost(place, several, listed)) for kind, several in kinds.items()]
    for folder in (each / "bin" for each in environments):
        names = [name for name in _unlisted(folder, listed) if not _is_made(folder / name, pythons)]
        concerns += [_no_record(folder, "program", names)] if names else []
    notes += (words for each in prefixes if each not in environments for words in _of_installation(each, listed, apart))
    for prefix, (_, others) in shown.items():
        if names := [f"{each.name}{'/' * each.is_dir()}" for each in others if each.name not in _OF_INSTALLERS]:
            notes.append(f"{prefix}: not of the environment, nor shown with it: {all_of(names)}")
    return EnvironmentFiles(tuple(concerns), tuple(notes))


def _real(folders: Iterable[Path]) -> list[str]:
    """Each folder once, by the path that no link is on."""
    return list(dict.fromkeys(map(os.path.realpath, folders)))


def _leading_out(paths: Iterable[str], tops: Collection[str]) -> Iterator[str]:
    """Those that are links to what is not below ``tops``: installers make such links into their caches."""
    return (path for path in paths if os.path.islink(path) and not _is_below(os.path.realpath(path), tops))


def _is_below(path: str, tops: Iterable[Path | str]) -> bool:
    return path.startswith(tuple(f"{top}{os.sep}" for top in tops))


def _contradiction(path: str, rows: Sequence[_Row]) -> str:
    """What contradicts what, in the rows that list a file; "" for nothing."""
    owner, row = rows[0]
    if len(rows) > 1 and len({each.sha256 or each.digest for _, each in rows}) > 1:
        return f"{row.path}: of {_names(rows)}, with different content"
    if row.path.startswith(_OUTSIDE) and (is_python(Path(path)) or os.path.basename(path) == "pyvenv.cfg"):
        return f"{row.path}: a file of the environment itself that {owner.name} lists"
    return ""


def _is_compared(path: str, row: RecordedFile, environments: Iterable[Path], startup: Collection[str]) -> bool:
    if path.endswith(".pth"):
        return path in startup
    return not row.path.startswith(_OUTSIDE) or any(Path(path).is_relative_to(each) for each in environments)


def _notes(startup: Sequence[str], listed: Mapping[str, list[_Row]], hidden: Sequence[Metadata]) -> Iterator[str]:
    if startup:
        named = {path: f"{os.path.basename(path)} of {_names(listed[path])}" for path in startup if path in listed}
        names = (named.get(path, path) for path in dict.fromkeys(startup))
        yield f"each start of Python executes {all_of(names)}"
    outside = [path for path, rows in listed.items() if rows[0][1].path.startswith(_OUTSIDE)]
    hiding = [path for path in outside if _hides_machine_s(path)]
    if programs := [f"{os.path.basename(path)} of {listed[path][0][0].name}" for path in hiding]:
        yield f"it has programs that the machine has, too: {all_of(programs)}"
    if hidden:
        names = (f"{each.name} in {each.folder}" for each in hidden)
        yield f"distributions that others of their name hide were not compared: {all_of(names)}"


def _hides_machine_s(script: str) -> bool:
    """Whether the system has a program of this name, which is none of Python's."""
    folder, name = os.path.split(script)
    other = Path(_PROGRAMS, name)
    return os.path.basename(folder) == "bin" and folder != _PROGRAMS and other.exists() and python_of(other) is None


def _listed(installed: Iterable[Metadata]) -> dict[str, list[_Row]]:
    """By path the rows that list a file. A RECORD is a file of the distribution that it is of, listed or not."""
    found: dict[str, list[_Row]] = {}
    for each in installed:
        folder = f"{os.path.realpath(each.folder)}{os.sep}"
        for row in (*each.files(), RecordedFile(f"{each.place.name}/RECORD", "")):
            if not ("__pycache__" in row.path and _BYTECODE.search(row.path)):
                path = os.path.normpath(folder + row.path) if _OUTSIDE in row.path else folder + row.path
                found.setdefault(path, []).append((each, row))
    return found


def _names(rows: Iterable[_Row]) -> str:
    return " and of ".join(dict.fromkeys(each.name for each, _ in rows))


def _startup(folders: Iterable[Path]) -> Iterator[Path]:
    for folder in folders:
        yield from startup_files(folder) if folder.name in PACKAGE_FOLDERS else ()
        yield from (path for name in START_MODULES for path in folder.glob(f"{name}*"))


def _edited(several: Iterable[_Row]) -> list[str]:
    """In words the files that are not as their rows say, or of which these do not say what they are."""
    rows = list(several)
    caches = {folder: DigestCache(folder) for folder in {each.folder for each, _ in rows}}

    def problems(part: Sequence[_Row]) -> list[str]:
        return [words for owner, row in part if (words := _problem(owner, row, caches[owner.folder]))]

    # of an environment with torch some gigabytes are read, once
    with ThreadPoolExecutor(_THREADS) as pool:
        found = [*pool.map(problems, (rows[start::_THREADS] for start in range(_THREADS)))]
    for cache in caches.values():
        cache.save()
    return sorted(words for part in found for words in part)


def _of_conda(prefix: Path, listed: Collection[str]) -> Iterator[_Row]:
    """The files that one package of conda's lists and no RECORD, with the former's digest. What pip removed of them
    with a release that it replaced, conda lists on."""
    found: dict[str, dict[str, str]] = {}
    for package, row in conda.files(prefix):
        if row.digest and not _BYTECODE.search(row.path) and str(prefix / row.path) not in listed:
            found.setdefault(row.path, {})[row.digest] = package
    for path, packages in found.items():
        for digest, package in packages.items() if len(packages) == 1 and (prefix / path).is_file() else ():
            owner = Metadata(prefix, prefix / _CONDA, f"conda's {package}", "", {}, "", ())
            yield owner, RecordedFile(path, digest)


def _problem(owner: Metadata, row: RecordedFile, cache: DigestCache) -> str:
    if not row.sha256:
        known = not _kind(row.path) or row.path == f"{owner.place.name}/RECORD"
        return "" if known else f"{row.path}: {owner.name} lists it without a SHA-256"
    try:
        return "" if cache.sha256(row.path) == row.sha256 else f"{row.path}: not the file that {owner.name} lists"
    except FileNotFoundError:
        return f"{row.path}: {owner.name} lists it, and it is not there"
    except OSError as error:
        return f"{row.path}: {error.strerror}"
    except DigestError as error:
        return error.message


def _unlisted(folder: Path, listed: Collection[str], apart: Collection[str] = ()) -> list[str]:
    """What no RECORD lists of the files below a folder and the links to folders, but for bytecode and what is in the
    folders ``apart``; where packages are, also the folders with nothing else in them; sorted."""
    top = str(folder)
    names: list[str] = []
    empty: dict[str, None] = {}
    for listing in walk(folder):
        at, below, _ = listing
        below[:] = [each for each in below if os.path.join(at, each) not in apart]
        paths = [path for path in files_and_links(listing) if path not in apart and not _BYTECODE.search(path)]
        names += (path for path in paths if path not in listed)
        empty[at] = None
        while paths and at != top:
            empty.pop(at, None)
            at = os.path.dirname(at)
    empty.pop(top, None)
    if folder.name in PACKAGE_FOLDERS:
        names += (f"{each}/" for each in empty if os.path.dirname(each) not in empty and _is_importable(each, top))
    return sorted(path[len(top) + 1 :] for path in names)


def _is_importable(folder: str, top: str) -> bool:
    names = os.path.relpath(folder, top).split(os.sep)
    return names[-1] != "__pycache__" and all(map(str.isidentifier, names))


def _of_installation(prefix: Path, listed: Collection[str], apart: Collection[str]) -> Iterator[str]:
    """What is shown of an installation of Python beside its own files; not of the system's."""
    if not (prefix / _CONDA).is_dir():
        names = [each.name for each in of_prefix(prefix)[0] if each.name not in _OF_INSTALLATION]
        if names and not prefix.is_relative_to("/usr") and str(prefix) != prefix.anchor:
            yield f"{prefix}: beside the folders of Python: {all_of(names)}"
        return
    known = {*listed, *(str(prefix / row.path) for _, row in conda.files(prefix))}
    names = _outermost(prefix, _unlisted(prefix, known, {*apart, str(prefix / _CONDA)}), known)
    if names:
        yield f"{prefix}: of no package that conda lists: {all_of(names)}"


def _kind(name: str) -> str:
    return next((kind for kind, pattern in _KINDS.items() if pattern.search(name)), "")


def _by_kind(folder: Path, names: Iterable[str], startup: Collection[str]) -> dict[str, list[str]]:
    """What is not known to be the making of Python, virtualenv or uv, sorted; start-up files are named anyway."""
    found: dict[str, list[str]] = {}
    made = _OF_VIRTUALENV if str(folder / _OF_VIRTUALENV[0]) in startup else ()
    for name in names:
        path = folder / name
        if (
            name == _OF_PYTHON
            or name in made
            or name in _OF_INSTALLERS
            or (path.suffix == ".pth" and str(path) not in startup)
        ):
            continue  # what other .pth files lead to is on the search path
        module = path.suffix == ".pth" or path.is_dir()
        found.setdefault("module" if module else _kind(name) or _OTHER, []).append(name)
    return found


def _outermost(folder: Path, names: Iterable[str], listed: Iterable[str]) -> list[str]:
    """For each file the outermost folder that holds it and nothing that is listed; else the file itself."""
    top = f"{folder}{os.sep}"
    known = {path[len(top) :].rpartition("/")[0] for path in listed if path.startswith(top)}
    known |= {".", *(str(parent) for each in known for parent in Path(each).parents)}
    found = (next((f"{each}/" for each in reversed(Path(n).parents) if str(each) not in known), n) for n in names)
    return list(dict.fromkeys(found))


def _no_record(folder: Path, kind: str, names: Sequence[str]) -> str:
    return f"{folder}: {plural(len(names), kind)} that no RECORD lists: {all_of(names)}"


def _is_of_system(folder: Path) -> bool:
    """Whether the system's package manager fills a folder."""
    folder = folder.resolve()
    inside = folder.is_relative_to("/usr") and not folder.is_relative_to("/usr/local")
    return inside and folder.is_dir() and folder.stat().st_uid == 0


def _uncompared(folder: Path, installed: Iterable[Metadata], kinds: dict[str, list[str]]) -> Iterator[str]:
    """What is not known of a folder of the system's."""
    here = (each for each in installed if os.path.realpath(each.folder) == str(folder))
    without = [each.name for each in here if not isinstance(each.record, bytes)]
    files = ", ".join(plural(len(names), kind) for kind, names in kinds.items())
    if without:
        many = plural(len(without), "distribution")
        yield f"{folder}: {many} without a RECORD, whose versions alone were compared: {first_of(without, _SHOWN)}"
    if files:
        yield f"{folder}: {files} that no RECORD lists, of the system"


def _is_made(path: Path, pythons: Iterable[Path]) -> bool:
    """Whether a file beside an interpreter is a script for shells, or another name or a copy of the interpreter."""
    if _FOR_SHELLS.fullmatch(path.name):
        return True
    with suppress(OSError):
        return any(filecmp.cmp(path, python, shallow=False) for python in pythons)
    return False
