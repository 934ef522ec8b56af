"""A run folder: who holds it, which files are in it, and their digests, taken while nothing moves.

Every regular file counts, at any depth, except those that cannot be in the list: the manifest, Sigstore's signatures on
it, which are made later (here each has to be of this manifest; ``provenance.keyless`` verifies them), and the lock.
Symbolic links, FIFOs, sockets and devices are refused, since what they name lies outside or has no bytes to sign, and
so are names that are not UTF-8, which JSON cannot hold, and files that run with their owner's rights. Refused is also
what git takes for a repository: its configuration names programs that any git asked in that folder would run. Signed
are names and bytes: the folder's own name, empty folders, other modes, times, owners and extended attributes are not.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from provenance.attestation.dsse import PAYLOAD_TYPE, read_envelope
from provenance.attestation.manifest import Artifact
from provenance.errors import BusyError, CanonicalError, DigestError, EnvelopeError, TrustError
from provenance.formats import portable, run_markers
from provenance.formats.atomic_io import storage_error, sync_folder
from provenance.formats.bounded_read import ARTIFACT_BYTES, kind_of, open_regular, read_bounded
from provenance.formats.canonical_json import parse
from provenance.formats.digest import FileDigest, file_digest
from provenance.formats.strict_json import Field

MANIFEST, BUNDLES, LOCK = run_markers.MANIFEST, run_markers.BUNDLES, run_markers.LOCK
MOST_BUNDLES = 32

_BUNDLE_MEMBERS = ("mediaType", "verificationMaterial", "dsseEnvelope")
_ANOTHER = "get the run again as it was signed, or move this file out of its folder"

_SPECIAL_BITS = stat.S_ISUID | stat.S_ISGID
# by its name in any case, by its short name, and with what some file systems leave out of a name
_GIT = re.compile(r"(\.git|git~\d)[ .]*", re.IGNORECASE)
_IGNORED_IN_NAMES = re.compile("[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")

Identity = tuple[int, int, int]


@dataclass(frozen=True)
class Contents:
    """What is in a folder: regular files with (size, mtime in ns, inode), and what else, with what it is."""

    files: dict[str, Identity]
    others: dict[str, str]


def contents(folder: Path) -> Contents:
    """Everything in ``folder`` but the manifest, signatures on it, the lock and folders. Raises StorageError."""
    found = Contents({}, {})
    try:
        _walk(folder, found)
    except OSError as error:
        raise storage_error(Path(error.filename or folder), error) from error
    return found


@dataclass(frozen=True)
class Inventory:
    """The files of a folder with size and digest, sorted by path; and by path why the others cannot be recorded."""

    artifacts: tuple[Artifact, ...]
    refused: Mapping[str, str]


def inventory(folder: Path) -> Inventory:
    """Hash every file of ``folder``, and name what is no regular file, too large, or changes meanwhile.

    Every file is on the disk before it is hashed, and every folder before this returns, so that no power cut leaves a
    manifest without the files that it lists. Nothing is waited for: neither the writer of a FIFO nor the end of a file
    that grows. Raises StorageError if the folder cannot be listed.
    """
    before = contents(folder)
    refused = {name: f"{kind}; a run folder holds regular files only" for name, kind in before.others.items()}
    if os.path.lexists(folder / BUNDLES):
        refused[BUNDLES] = "signatures on a manifest that is not written yet"
    digests: dict[str, FileDigest] = {}
    for name in sorted(before.files):
        try:
            digests[name] = file_digest(
                folder / name, follow_symlinks=False, beneath=folder, limit=ARTIFACT_BYTES, durable=True
            )
        except DigestError as error:
            refused[name] = error.message.removeprefix(f"{folder / name}: ")
    _sync_folders(folder, digests)
    after = contents(folder)
    moved = set(after.files.items()) ^ set(before.files.items()) | set(after.others.items()) ^ set(
        before.others.items()
    )
    for name, _ in moved:
        refused.setdefault(name, "changed, came or went while the folder was read")
    kept = (Artifact(name, found.size, found.sha256) for name, found in digests.items() if name not in refused)
    return Inventory(tuple(kept), dict(sorted(refused.items())))


def read_bundles(path: Path) -> tuple[bytes, ...]:
    """The lines of a file of Sigstore's signatures, not verified. Raises TrustError for none, too many, or no file."""
    try:
        lines = tuple(read_bounded(path).removesuffix(b"\n").split(b"\n"))
    except OSError as error:
        raise TrustError(f"{path}: cannot be read ({error.strerror})", _ANOTHER) from None
    if len(lines) > MOST_BUNDLES:
        raise TrustError(f"{path}: {len(lines)} lines, expected at most {MOST_BUNDLES} signatures", _ANOTHER)
    return lines


def expect_bundles(path: Path, payload: bytes) -> int:
    """How many signatures a file of bundles has, each over this very payload by its form: none is verified here.

    What is in this file is in no manifest, so that nothing else may be there. Raises TrustError naming the line.
    """
    lines = read_bundles(path)
    for number, line in enumerate(lines, 1):
        try:
            members = Field(parse(line), "$", EnvelopeError).members(_BUNDLE_MEMBERS)
            kind, signed, _ = read_envelope(members["dsseEnvelope"].mapping())
        except (CanonicalError, EnvelopeError) as error:
            raise TrustError(
                f"{path}, line {number}: no signature on this manifest: {error.message}", _ANOTHER
            ) from None
        if (kind, signed) != (PAYLOAD_TYPE, payload):
            raise TrustError(f"{path}, line {number}: a signature on other content than this manifest", _ANOTHER)
    return len(lines)


def _sync_folders(folder: Path, names: Iterable[str]) -> None:
    """Flush the folders of these files, innermost first, and the entry of ``folder`` itself."""
    inner = {parent for name in names for parent in PurePosixPath(name).parents}
    try:
        for below in sorted(inner | {PurePosixPath()}, key=lambda path: len(path.parts), reverse=True):
            sync_folder(folder / below)
        sync_folder(folder.absolute().parent)
    except OSError as error:
        raise storage_error(folder, error) from error


def hold(folder: Path) -> int:
    """Take the folder's lock and return its file descriptor, which children may inherit.

    The lock belongs to the open file, so it lasts until the last process that inherited the descriptor is gone: a
    child that outlives its parent keeps the folder busy. Raises BusyError naming the processes that hold it.
    """
    path = folder / LOCK
    try:
        descriptor = open_regular(path, appending=True)
    except OSError as error:
        raise storage_error(path, error) from error
    try:
        portable.lock(descriptor)
        if os.fstat(descriptor).st_size > run_markers.LOCK_BYTES:
            raise OSError(errno.EINVAL, "no lock file: it holds somebody's data")
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, b"%d\n" % os.getpid())
        os.set_inheritable(descriptor, True)
    except BlockingIOError:
        who = _holders(descriptor)
        os.close(descriptor)
        raise BusyError(f"{folder}: held by {who}", "wait until it ends, or stop it") from None
    except OSError as error:
        os.close(descriptor)
        raise storage_error(path, error) from error
    return descriptor


def inside(name: str) -> bool:
    """Whether an artifact's name is a plain path inside its folder: no way out, one spelling, not a reserved name, and
    no part of a repository."""
    parts = name.split("/")
    plain = not {"", ".", ".."}.intersection(parts) and name not in (MANIFEST, BUNDLES, LOCK)
    return plain and not any(map(is_gits, parts)) and not _is_head(parts[-1])


def is_gits(name: str) -> bool:
    """Whether git, on some file system, takes a file or folder of this name for a repository."""
    return _GIT.fullmatch(_IGNORED_IN_NAMES.sub("", name)) is not None


def _is_head(name: str) -> bool:
    """Whether git, on some file system, takes a folder with a file of this name, and two folders, for a repository."""
    return _IGNORED_IN_NAMES.sub("", name).rstrip(" .").casefold() == "head"


def _holders(descriptor: int) -> str:
    """The processes that have the lock file open; where none can be seen, the one that wrote its identifier in it."""
    lock = os.fstat(descriptor)
    found = []
    for table in Path("/proc").glob("[0-9]*/fd"):
        # processes of other users, and those that end meanwhile, cannot be looked into
        with contextlib.suppress(OSError):
            if any(os.path.samestat(link.stat(), lock) for link in table.iterdir()):
                found.append(table.parent.name)
    found = [pid for pid in found if int(pid) != os.getpid()]
    if not found:
        found = [
            portable.read_at(descriptor, run_markers.LOCK_BYTES, 0).decode("ascii", "replace").strip() or "unknown"
        ]
    return "process " + ", ".join(sorted(found, key=lambda pid: (len(pid), pid)))


def _walk(folder: Path, found: Contents) -> None:
    # no recursion: folders can be nested more deeply than functions
    prefixes = [""]
    while prefixes:
        prefix = prefixes.pop()
        with os.scandir(folder / prefix) as listing:
            for entry in listing:
                name = prefix + entry.name
                kind = _kind(entry)
                if kind:
                    # the name is for people only: a surrogate in it could not even be printed
                    found.others[name.encode("utf-8", "backslashreplace").decode()] = kind
                elif entry.is_dir(follow_symlinks=False):
                    prefixes.append(name + "/")
                elif not _reserved(name, entry):
                    status = entry.stat(follow_symlinks=False)
                    found.files[name] = (status.st_size, status.st_mtime_ns, status.st_ino)


def _kind(entry: os.DirEntry[str]) -> str:
    """What an entry is that may not be in a run folder; empty for one that may.

    A file that is executed with its owner's rights is none: whoever unpacks a run as root would give them away.
    """
    if is_gits(entry.name) or (_is_head(entry.name) and not entry.is_dir(follow_symlinks=False)):
        return "a name that git takes for a repository"
    if not (entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False)):
        return kind_of(entry.stat(follow_symlinks=False).st_mode)
    if entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_mode & _SPECIAL_BITS:
        return "a file with a set-user-ID or set-group-ID bit"
    try:
        entry.name.encode("utf-8")
    except UnicodeEncodeError:
        return "a name that is not UTF-8"
    return ""


def _reserved(name: str, entry: os.DirEntry[str]) -> bool:
    if name == LOCK:
        return entry.stat(follow_symlinks=False).st_size <= run_markers.LOCK_BYTES
    return name in (MANIFEST, BUNDLES)
