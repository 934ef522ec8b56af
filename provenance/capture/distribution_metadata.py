"""One installed distribution as its metadata describe it: a .dist-info folder, an .egg-info folder or file, EGG-INFO.

What metadata claim may be false: an interrupted installation leaves folders without files, a power cut leaves empty
ones, and a second installer leaves its predecessor's. ``read`` therefore returns what is there, with ``leftover``
where the folder describes nothing that is installed, and ``remarks`` where its statements disagree. Whether the
files are those of this distribution is decided by ``provenance.capture.distributions``.
"""

from __future__ import annotations

import base64
import binascii
import csv
import hashlib
import os
import re
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from provenance.capture.unavailable import unavailable

if TYPE_CHECKING:
    import zipfile

    # a file or folder, or one inside a zip archive
    Place = Path | zipfile.Path

HEADER_FILES = {".dist-info": "METADATA", ".egg-info": "PKG-INFO", ".egg": "PKG-INFO"}
# name and version head the file; what follows is the project's README, of any size
_HEADER_BYTES = 1 << 16
_VERSION_FILES = ("__init__.py", "_version.py", "version.py")
_VERSION = re.compile(rb"""(?m)^(?:__version__|version)\s*(?::[^=\n]+)?=\s*(?:[\w.]+\s*\(\s*)?["']([^"'\n]+)["']""")
_TOP = re.compile(rb'(?m)^"?([^/,"\r\n]+)[/,]')
# folders that many distributions ship by mistake: who owns them says nothing
_NO_MODULES = {"tests", "test", "docs", "doc", "examples", "benchmarks", "scripts", "bin", "include", "share"}


# rows of a RECORD that an installer writes for one folder: scripts, whose first line is the interpreter's path; what it
# notes for itself; bytecode, which pip lists and uv does not
_OF_ONE_FOLDER = re.compile(
    rb'"?(?:\.\./)+(?:bin|Scripts)/'
    rb"|[^/,]+\.dist-info/(?:INSTALLER|REQUESTED|RECORD|direct_url\.json|uv_cache\.json|uv_build\.json),"
    rb"|.*\b__pycache__/"
)
# and of an editable installation what leads to its source, and its description: the source itself is recorded apart
_OF_ONE_CHECKOUT = re.compile(rb"[^/,]+\.pth,|__editable__[^/,]*,|[^/,]+\.dist-info/METADATA,")


class RecordedFile(NamedTuple):
    """A row of a RECORD: the path relative to the folder that holds the metadata, and the digest as it is written."""

    path: str
    digest: str

    @property
    def sha256(self) -> str:
        """The digest in hexadecimal; "" where there is none, or one of another algorithm."""
        algorithm, _, text = self.digest.partition("=")
        if algorithm != "sha256":
            return ""
        if len(text) == 64:  # Debian's packages have it in hexadecimal
            return text
        try:
            # URL-safe base64 without padding
            return base64.urlsafe_b64decode(f"{text}{'=' * (-len(text) % 4)}").hex()
        except (ValueError, binascii.Error):
            return ""


@dataclass(frozen=True)
class Metadata:
    """What one distribution's metadata state.

    Attributes:
        folder: the entry of the search path in which they were found.
        place: their folder, or file.
        name: normalised (PEP 503).
        version: text, or ``{"unavailable": reason}``.
        record: RECORD's bytes, or ``{"unavailable": reason}``.
        leftover: why they describe nothing that is installed; "" where they may.
        remarks: statements of theirs that disagree.
    """

    folder: Path
    place: Place
    name: str
    version: str | dict[str, str]
    record: bytes | dict[str, str]
    leftover: str
    remarks: tuple[str, ...]

    @property
    def record_sha256(self) -> str | dict[str, str]:
        """The digest of RECORD, which pins every file that it lists; or why there is none."""
        return hashlib.sha256(self.record).hexdigest() if isinstance(self.record, bytes) else self.record

    def content_sha256(self, editable: bool = False) -> str | None:
        """The digest of RECORD's rows, sorted, without those that an installer writes for one folder; None without one.

        It is equal in two environments that hold the same files in other folders, made by pip or by uv, and another
        one where the path, digest or size of any file of the distribution itself differs.
        """
        return _content_sha256(self.record, editable) if isinstance(self.record, bytes) else None

    @cached_property
    def tops(self) -> frozenset[str]:
        """The files and folders that RECORD lists directly in ``folder``, without the metadata themselves."""
        if not isinstance(self.record, bytes):
            return frozenset()
        names = {name.decode("utf-8", "surrogateescape") for name in set(_TOP.findall(self.record))}
        return frozenset(
            name for name in names if name not in ("..", "__pycache__") and not name.endswith((*HEADER_FILES, ".pth"))
        )

    @cached_property
    def modules(self) -> frozenset[str]:
        """The names of the top-level modules; without a RECORD that of the distribution itself."""
        if not isinstance(self.record, bytes):
            return frozenset({self.name.replace("-", "_")})
        return frozenset(
            name.partition(".")[0]
            for name in self.tops
            if ("." not in name or name.endswith((".py", ".so", ".pyd"))) and name not in _NO_MODULES
        )

    def files(self, wanted: Container[str] | None = None) -> Iterator[RecordedFile]:
        """RECORD's rows, of all files or the ``wanted`` ones, in its order; none where there is no RECORD."""
        if isinstance(self.record, bytes):
            # most paths are not quoted, and torch has ten thousand
            chosen = (line for path, line in self._lines if wanted is None or path in wanted or path[:1] == '"')
            yield from _rows(chosen, wanted)

    @cached_property
    def _lines(self) -> tuple[tuple[str, str], ...]:
        """RECORD's lines, each with what is before its first comma."""
        assert isinstance(self.record, bytes)
        return tuple((line.partition(",")[0], line) for line in _lines(self.record))

    def module_version(self) -> str | None:
        """The version that the modules' own source assigns to ``__version__`` or ``version``; it is not executed."""
        for module in sorted(self.modules):
            for path in (*(self.folder / module / name for name in _VERSION_FILES), self.folder / f"{module}.py"):
                try:
                    with path.open("rb") as file:
                        match = _VERSION.search(file.read(_HEADER_BYTES))
                except OSError:
                    continue
                if match:
                    return match[1].decode("utf-8", "replace")
        return None


def recorded_files(record: bytes) -> Iterator[RecordedFile]:
    """The rows of a RECORD. What is not UTF-8 keeps surrogate escapes; a line that is no row is passed over."""
    return _rows(_lines(record))


def _lines(record: bytes) -> list[str]:
    return record.decode("utf-8-sig", "surrogateescape").splitlines()


def _rows(lines: Iterable[str], wanted: Container[str] | None = None) -> Iterator[RecordedFile]:
    for row in csv.reader(lines):
        if row and row[0] and (wanted is None or row[0] in wanted):
            yield RecordedFile(row[0], row[1] if len(row) > 1 else "")


@cache
def _content_sha256(record: bytes, editable: bool) -> str:
    # as text, in which a piece is found eight times as fast; few rows have one of these, and the expression is slow
    rows = [row for row in record.replace(b"\r", b"\n").decode("latin-1").split("\n") if row]
    seldom = [row for row in rows if "../" in row or ".dist-info/" in row or "__pycache__/" in row]
    left_out = {row for row in seldom if _OF_ONE_FOLDER.match(row.encode("latin-1"))}
    if editable:
        left_out |= {row for row in rows if _OF_ONE_CHECKOUT.match(row.encode("latin-1"))}
    kept = [row for row in rows if row not in left_out]
    return hashlib.sha256("\n".join(sorted(kept)).encode("latin-1")).hexdigest()


def normalized(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read(folder: Path, place: Place, suffix: str) -> Metadata:
    """Read the metadata in ``place``, whose kind is ``suffix``, a key of ``HEADER_FILES``.

    What a process has read once is read again where size, times or inode of METADATA or RECORD are others.
    """
    states = tuple(_state(place / name) for name in (HEADER_FILES[suffix], "RECORD")) if place.is_dir() else ()
    return _read_in_state(folder, place, suffix, states) if any(states) else _read(folder, place, suffix)


@cache
def _read_in_state(folder: Path, place: Place, suffix: str, states: tuple[tuple[int, ...], ...]) -> Metadata:
    return _read(folder, place, suffix)


def _state(file: Place) -> tuple[int, ...]:
    """What changes where a file's content does; nothing for one that is not there, or in an archive."""
    try:
        status = os.stat(str(file))
    except OSError:
        return ()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _read(folder: Path, place: Place, suffix: str) -> Metadata:
    stem = (folder if suffix == ".egg" else place).name.removesuffix(suffix)
    match = re.fullmatch(r"(.*?)-([^-]+)(?:-py[\d.]+.*)?", stem) if suffix != ".dist-info" else None
    match = match or re.fullmatch(r"(.+)-([^-]+)", stem)
    by_folder = (match[1], match[2]) if match else (stem, "")
    single = suffix == ".egg-info" and place.is_file()
    source = place if single else place / HEADER_FILES[suffix]
    headers = _headers(source)
    record = _record(place, suffix)
    remarks = list(_remarks(headers, by_folder, source.name, suffix)) if isinstance(headers, dict) else [headers]
    if record == b"":
        remarks.append("RECORD is empty: which files were installed is not known")
    known = headers if isinstance(headers, dict) else {}
    leftover = ""
    if not re.match(r"[^\W]", stem):
        leftover = "no installed distribution is named like this: pip renames what it is about to remove"
    elif not known and not isinstance(record, bytes):
        leftover = f"neither {HEADER_FILES[suffix]} nor RECORD is in it: an installation or removal was interrupted"
    return Metadata(
        folder,
        place,
        normalized(known.get("name") or by_folder[0]),
        known.get("version") or by_folder[1] or unavailable(f"{source.name} gives none"),
        record,
        leftover,
        tuple(remarks),
    )


def _headers(source: Place) -> dict[str, str] | str:
    """The lines Name and Version, as far as they are there; or why the file cannot be read."""
    try:
        with source.open("rb") as file:
            # a byte order mark is no part of the first key
            text = file.read(_HEADER_BYTES).decode("utf-8-sig", "surrogateescape")
    except (OSError, KeyError) as error:
        return f"{source.name} cannot be read ({getattr(error, 'strerror', None) or 'not there'})"
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.lower() in ("name", "version") and value.strip():
            found.setdefault(key.lower(), value.strip())
        if not line.strip():
            break
    return found


def _remarks(headers: dict[str, str], by_folder: tuple[str, str], source: str, suffix: str) -> Iterator[str]:
    """Where METADATA and the folder's name disagree, or only one of them speaks."""
    missing = [key for key in ("name", "version") if key not in headers]
    if missing:
        yield f"{source} gives no {' and no '.join(missing)}: taken from the folder's name"
    elif suffix == ".dist-info" and normalized(headers["name"]) != normalized(by_folder[0]):
        yield f"{source} names {headers['name']}, the folder's name {by_folder[0]}"
    elif suffix == ".dist-info" and _plain(headers["version"]) != _plain(by_folder[1]):
        yield f"{source} gives version {headers['version']}, the folder's name {by_folder[1]}"


def _plain(version: str) -> str:
    """A version in the spelling in which two of them are compared: separators and leading zeros do not count."""
    return re.sub(r"(?<!\d)0+(?=\d)", "", re.sub(r"[-_.+]+", ".", version.lower()))


def _record(place: Place, suffix: str) -> bytes | dict[str, str]:
    try:
        return (place / "RECORD").read_bytes()
    except (FileNotFoundError, NotADirectoryError, KeyError):
        if suffix != ".dist-info":
            return unavailable("an egg has no RECORD: installed by setuptools or by the system's package manager")
        return unavailable("it has no RECORD: not installed by an installer that keeps one, or inside an archive")
    except OSError as error:
        return unavailable(f"its RECORD cannot be read: {error.strerror}")


def describe(metadata: Metadata) -> dict[str, Any]:
    """Name, version and where the metadata lie, for what is not installed."""
    return {
        "name": metadata.name,
        "version": metadata.version,
        "folder": str(metadata.folder),
        "metadata": metadata.place.name,
    }
