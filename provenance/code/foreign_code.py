"""What a process executes that neither its own packages, nor a distribution's RECORD, nor the system accounts for.

Each of these can change every result while the recorded versions and digests stay the same:

    module     a module imported from a folder or an archive that no RECORD describes, or from a file in site-packages
               that no RECORD lists: ``sitecustomize``, an extension module beside a source file, bytecode alone
    library    machine code mapped from such a file: ``LD_PRELOAD``, a library found through ``LD_LIBRARY_PATH``
    startup    a ``.pth`` file with lines of code, which run at each start, that no RECORD lists
    preload    a library that ``LD_PRELOAD``, ``LD_AUDIT`` or ``/etc/ld.so.preload`` names

The interpreter's own installation and the folders of the system's packages count as known; the libraries mapped from
them are listed with their digests. What torch's compiler wrote for this process is counted by itself: no RECORD can
list it. Whether listed files are as their RECORDs say is ``provenance.capture.imported_files``' part.
"""

from __future__ import annotations

import os
import re
import site
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from provenance.capture.distribution_metadata import Metadata
from provenance.capture.imported_files import module_files
from provenance.capture.unavailable import is_missing, printable, probe, unavailable
from provenance.errors import DigestError
from provenance.formats.digest import file_digest
from provenance.formats.digest_cache import DigestCache
from provenance.redaction.redact import redact_tree

# of the system's package managers; the last holds the host's driver inside of Apptainer
_SOURCES = ("/usr/src/", "/usr/local/src/")  # where people keep projects
_SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/nix/store", "/gnu/store", "/.singularity.d/libs")
# modules that Python imports at each start
START_MODULES = ("sitecustomize", "usercustomize")
_NAMED = 100
_CODE_LINE = re.compile(r"^import[ \t]", re.MULTILINE)
# executable mappings that are no files of anybody's: devices, and libffi's own pages
# where compilers keep what they generate
COMPILERS = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
_NO_FILES = ("/dev/", "/memfd:libffi", "/SYSV", "/anon_hugepage")
_PRELOADS = ("LD_PRELOAD", "LD_AUDIT")
_PRELOAD_FILE = "/etc/ld.so.preload"


@dataclass(frozen=True)
class InterpreterFolders:
    """Where an interpreter's code lies: its own installation, and the folders in which ``.pth`` files are read."""

    installation: Path
    site: tuple[Path, ...]

    @classmethod
    def current(cls) -> InterpreterFolders:
        """This process's."""
        return cls(Path(os.path.realpath(sys.base_prefix)), tuple(map(Path, site.getsitepackages())))

    @classmethod
    def of(cls, python: str) -> InterpreterFolders:
        """Those of a virtual environment's ``python``, read from its files: nothing of it is executed."""
        if os.path.abspath(python) == os.path.abspath(sys.executable):
            return cls.current()
        prefix = Path(python).absolute().parents[1]
        installation = Path(os.path.realpath(python)).parents[1]
        return cls(installation, tuple(sorted(prefix.glob("lib/python3*/site-packages"))))


def mapped_libraries(process: int | str = "self") -> set[str]:
    """The files that are mapped executable into a process. Raises OSError where there is no such process, or /proc."""
    with open(f"/proc/{process}/maps", encoding="utf-8", errors="surrogateescape") as lines:
        return {line[line.index("/") :].rstrip("\n") for line in lines if "x" in line.split(" ", 2)[1] and "/" in line}


def capture(searched: Any, recorded: Iterable[Path] = ()) -> Any:
    """``survey`` of this process, as JSON without secrets; or why there is none.

    ``searched`` is what ``provenance.capture.environment.search`` returned. This process's own packages are those
    beside this one; Python files below ``recorded`` are signed with what is recorded, and count as its own too.
    """
    if is_missing(searched):
        return searched
    own = Path(__file__).resolve().parents[2]
    found = probe(_survey_of_this_process, searched.installed.values(), own, tuple(recorded))
    return redact_tree(printable(found))


def _survey_of_this_process(installed: Iterable[Metadata], own: Path, recorded: tuple[Path, ...]) -> dict[str, Any]:
    kept = tuple(f"{folder}{os.sep}" for folder in recorded)
    modules = [path for path in module_files() if not (path.startswith(kept) and path.endswith(".py"))]
    return survey(installed, own, InterpreterFolders.current(), modules, mapped_libraries(), os.environ)


def survey(
    installed: Iterable[Metadata],
    own: Path,
    folders: InterpreterFolders,
    modules: Iterable[str],
    libraries: Iterable[str],
    variables: Mapping[str, str],
) -> dict[str, Any]:
    """Sort the files that a process executes, which has these environment variables.

    Returns ``foreign``: {path: {kind, sha256}}, the first hundred by path; ``count`` of all; ``system``: {path: sha256}
    of the libraries from the system and the interpreter's installation; where there are any, ``compiled``: how many
    files torch's compiler wrote, and ``unrecorded``: how many are, or may be, of distributions without a RECORD.
    """
    found = _Survey(list(installed), own, folders, variables)
    for kind, paths in (("module", modules), ("library", libraries)):
        for path in paths:
            if os.path.isabs(path) and not path.startswith(_NO_FILES):
                found.sort(path, kind)
    for path in _preloads(variables):
        found.foreign[path] = "preload"
    found.foreign.update((str(path), "startup") for path in _startup(folders.site, found.installed))
    return found.to_json()


def merged(*looks: Any) -> Any:
    """Several looks at one process, the latest last: what was foreign in any is foreign."""
    whole = [look for look in looks if isinstance(look, Mapping) and isinstance(look.get("foreign"), Mapping)]
    if not whole:
        return looks[0] if looks else None
    foreign = {path: entry for look in whole for path, entry in look["foreign"].items()}
    system = {path: entry for look in whole for path, entry in (look.get("system") or {}).items()}
    count = max(len(foreign), *(look.get("count", 0) for look in whole))
    return {**whole[-1], "count": count, "foreign": dict(sorted(foreign.items())), "system": system}


class _Survey:
    def __init__(
        self, installed: list[Metadata], own: Path, folders: InterpreterFolders, variables: Mapping[str, str]
    ) -> None:
        self.installed = installed
        self.foreign: dict[str, str] = {}
        self.system: set[str] = set()
        self.compiled = 0
        self._own = tuple(f"{own / name}{os.sep}" for name in ("ndrepro", "provenance"))
        self._known = tuple(f"{each}{os.sep}" for each in (folders.installation, *_SYSTEM))
        self._compiler = tuple(_compiler_folders(variables))
        self._sites = _sites(installed, folders.site)

    def sort(self, path: str, kind: str) -> None:
        """Put a file where it belongs."""
        if path.startswith(self._own):
            return
        top = next((top for top in self._sites if path.startswith(top)), None)
        if top is not None:
            # a file that is listed and was replaced is an edited one
            self._sites[top].loaded[path[len(top) :].removesuffix(" (deleted)")] = (path, kind)
        elif path.startswith(self._known) and not path.startswith(_SOURCES):
            if kind == "library":
                self.system.add(path)
        elif path.startswith(self._compiler):
            self.compiled += 1
        else:
            self.foreign.setdefault(path, kind)

    def to_json(self) -> dict[str, Any]:
        sites = {id(each): each for each in self._sites.values()}.values()
        for each in sites:
            self.foreign.update(each.unlisted())
        unrecorded = sum(each.unrecorded for each in sites)
        digests = DigestCache(Path("/"))
        named = sorted(self.foreign)[:_NAMED]
        found: dict[str, Any] = {
            "count": len(self.foreign),
            "foreign": {path: {"kind": self.foreign[path], "sha256": _sha256(path)} for path in named},
            "system": {path: _remembered(digests, path) for path in sorted(self.system)},
        }
        digests.save()
        for name, number in (("compiled", self.compiled), ("unrecorded", unrecorded)):
            if number:
                found[name] = number
        return found


def _sites(installed: Iterable[Metadata], folders: Iterable[Path]) -> dict[str, _Site]:
    """The site folders, as they are named and as they really lie, one inside another first."""
    sites = {folder: _Site() for folder in folders}
    for metadata in installed:
        sites.setdefault(metadata.folder, _Site()).distributions.append(metadata)
    found = {f"{place}{os.sep}": each for folder, each in sites.items() for place in (folder, os.path.realpath(folder))}
    return dict(sorted(found.items(), reverse=True))


@dataclass
class _Site:
    """A site folder: the distributions in it, and the files of it that a process executes, by relative path."""

    distributions: list[Metadata] = field(default_factory=list)
    loaded: dict[str, tuple[str, str]] = field(default_factory=dict)
    unrecorded: int = 0

    def unlisted(self) -> Iterator[tuple[str, str]]:
        """Path and kind of the loaded files that no RECORD lists.

        Where a distribution has no RECORD, as the system's have none, a file of nobody's may be its own: ``unrecorded``
        counts those.
        """
        tops = {name.partition(os.sep)[0] for name in self.loaded}
        owners = [each for each in self.distributions if each.tops & tops]
        owned = {top for each in owners for top in each.tops}
        listed = {row.path for each in owners for row in each.files(self.loaded)}
        all_recorded = all(isinstance(each.record, bytes) for each in self.distributions)
        for name, entry in self.loaded.items():
            if name in listed:
                continue
            if all_recorded or name.partition(os.sep)[0] in owned or name.startswith(START_MODULES):
                yield entry
            else:
                self.unrecorded += 1


def startup_files(folder: Path) -> Iterator[Path]:
    """The ``.pth`` files of a site folder with lines of code, which each start of Python executes."""
    for path in sorted(folder.glob("*.pth")):
        try:
            text = path.read_bytes().decode("utf-8-sig", "surrogateescape")
        except OSError:
            continue
        # as site.py of any release splits it: later ones at every line end that Unicode knows, behind a mark
        if _CODE_LINE.search("\n".join(text.splitlines())):
            yield path


def _startup(folders: Iterable[Path], installed: list[Metadata]) -> Iterator[Path]:
    """Those of the files that are executed at each start that no RECORD lists with the digest that they have."""
    for folder in folders:
        yield from (path for path in startup_files(folder) if not _is_listed(path, installed))


def _is_listed(path: Path, installed: list[Metadata]) -> bool:
    rows = (row for each in installed if each.folder == path.parent for row in each.files({path.name}))
    return any(row.sha256 == _sha256(str(path)) for row in rows)


def _preloads(variables: Mapping[str, str]) -> Iterator[str]:
    """The libraries that the dynamic loader loads into every process because somebody said so."""
    for name in _PRELOADS:
        yield from filter(None, re.split(r"[:\s]+", variables.get(name, "")))
    try:
        text = Path(_PRELOAD_FILE).read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return
    for line in text.splitlines():
        yield from filter(None, re.split(r"[:\s]+", line.partition("#")[0]))


def _compiler_folders(variables: Mapping[str, str]) -> Iterator[str]:
    """Where torch.compile and triton keep what they generate."""
    for name in COMPILERS:
        if folder := variables.get(name):
            yield f"{os.path.realpath(folder)}{os.sep}"
    yield os.path.join(os.path.realpath(tempfile.gettempdir()), "torchinductor_")
    yield os.path.join(os.path.realpath(os.path.expanduser("~")), ".triton", "")


def _remembered(digests: DigestCache, path: str) -> Any:
    try:
        return digests.sha256(path.lstrip("/"))
    except (OSError, DigestError) as error:
        return unavailable(getattr(error, "strerror", None) or str(error))


def _sha256(path: str) -> Any:
    """A file's digest; of a module in an archive, the archive's."""
    place = path.removesuffix(" (deleted)")
    while not os.path.lexists(place) and os.path.dirname(place) not in ("/", ""):
        place = os.path.dirname(place)
    try:
        return file_digest(place).sha256 if place == path or not os.path.isdir(place) else unavailable("not there")
    except DigestError as error:
        return unavailable(error.message)
