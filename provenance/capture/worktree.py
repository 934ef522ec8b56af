"""What a work tree holds that its commit does not, kept: one patch, and a copy of each file that git does not know.

The patch is the difference to the commit, staged and unstaged together, binary files included, written the same
whatever the user's configuration says; ``git apply`` takes it. Both are redacted line by line before they are written:
a patch that held a secret says that it does, with the digest of what it was. What is larger than its share is left
out and named with its size and digest. Symbolic links are never followed.

A digest of a short secret can be guessed by trying: whoever publishes one should change the secret too.
"""

from __future__ import annotations

import codecs
import hashlib
import os
import shutil
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from provenance.capture.git import Repository
from provenance.capture.unavailable import none, unavailable
from provenance.errors import DigestError
from provenance.formats.atomic_io import make_folder, storage_error, write_atomically
from provenance.formats.digest import bytes_digest, file_digest
from provenance.redaction.redact import redact_text

PATCH = "source.patch"
UNTRACKED = "untracked"

# A submodule's own changes are in the status; a patch cannot hold them.
_DIFF = (
    "diff --binary --full-index --no-color --no-ext-diff --no-textconv --no-renames "
    "--no-indent-heuristic --unified=3 --inter-hunk-context=0 --diff-algorithm=myers --src-prefix=a/ --dst-prefix=b/ "
    "--submodule=short --ignore-submodules=dirty -O/dev/null"
)
# files that hold nothing but credentials, in formats that redaction does not read
_KEPT_OUT = (".p12", ".pfx", ".jks", ".keystore", ".kdbx", ".ppk", ".pgpass", ".htpasswd", ".netrc", "_netrc")
_FILE_SHARE = 5  # no untracked file may take more than a fifth of the room
_LISTED = 1000  # files left out that are named one by one
_HASHED_BYTES = 1 << 30  # how much of what is left out is read for its digest: about a second


def capture_patch(repository: Repository, commit: str, into: Path | None, limit_bytes: int) -> dict[str, Any]:
    """Write ``into/source.patch``: the work tree against ``commit`` (a commit or tree).

    Returns ``{"none": reason}`` where they are equal; file, bytes, sha256, whether it was redacted, and what it was
    before; or ``left_out`` with bytes, sha256 and the reason. A patch that lay there before is replaced. Raises
    SourceError, StorageError.
    """
    if into is not None:
        _remove(into / PATCH)
    kept = _Kept(limit_bytes)
    repository.stream(kept, *_DIFF.split(), commit, "--")
    if not kept.size:
        return none("the tracked files are those of the commit")
    original = {"bytes": kept.size, "sha256": kept.sha256}
    if kept.data is None:
        return {"left_out": {**original, "reason": f"larger than {limit_bytes} bytes"}}
    if into is None:
        return {"left_out": {**original, "reason": "no folder was given to write it to"}}
    patch = bytes(kept.data)
    redacted = redact_patch(patch)
    make_folder(into)
    write_atomically(into / PATCH, redacted)
    return {"file": PATCH, **_written(redacted, patch)}


def redact_patch(patch: bytes) -> bytes:
    """A patch whose text is redacted and whose binary parts, which are compressed, are as they were."""
    pieces: list[bytes] = []
    for index, section in enumerate(patch.split(b"\ndiff --git ")):
        head, binary, body = section.partition(b"\nGIT binary patch\n")
        pieces.append((b"\ndiff --git " if index else b"") + _redact_bytes(head) + binary + body)
    return b"".join(pieces)


def capture_untracked(top: Path, names: Iterable[str], into: Path | None, limit_bytes: int) -> dict[str, Any]:
    """Copy the files ``names`` below ``top`` to ``into/untracked/``, small ones first, as far as the room goes.

    Returns ``copied`` (path, bytes, sha256, redacted, and what they were) and ``left_out`` (path, bytes, sha256,
    reason), both sorted by path. What lay in ``into/untracked`` before is replaced. Raises StorageError.
    """
    target = None if into is None else into / UNTRACKED
    if target is not None:
        _remove(target)
    found = _Untracked(top, target, limit_bytes)
    for size, name in sorted((_size(top / name), name) for name in names):
        found.take(name, size)
    return found.report()


class _Kept:
    """Bytes as they come: counted, hashed, and kept up to a limit; ``data`` is None beyond it."""

    def __init__(self, limit_bytes: int) -> None:
        self.size = 0
        self.data: bytearray | None = bytearray()
        self._limit, self._digest = limit_bytes, hashlib.sha256()

    def write(self, data: bytes) -> None:
        """Take some more."""
        self.size += len(data)
        self._digest.update(data)
        if self.data is not None:
            self.data += data
            if self.size > self._limit:
                self.data = None

    @property
    def sha256(self) -> str:
        """Of all that came."""
        return self._digest.hexdigest()


@dataclass
class _Untracked:
    """The copies made so far, what was left out, and the room that is left."""

    top: Path
    target: Path | None
    room: int
    hashable: int = _HASHED_BYTES
    copied: list[dict[str, Any]] = field(default_factory=list)
    left_out: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.limit, self.share = self.room, self.room // _FILE_SHARE

    def take(self, name: str, size: int) -> None:
        """Copy one file, or say why not."""
        reason = self._objection(name, size)
        if reason:
            self.left_out.append(self._left_out(name, size, reason))
            return
        try:
            data, mode = _read(self.top, name, size)
        except OSError as error:
            reason = f"cannot be read: {error.strerror or error}"
            self.left_out.append({"path": name, "bytes": size, "sha256": unavailable(reason), "reason": reason})
            return
        redacted = _redact_bytes(data)
        assert self.target is not None
        _write(self.target / name, redacted, mode)
        self.room -= size
        self.copied.append({"path": name, **_written(redacted, data)})

    def report(self) -> dict[str, Any]:
        """Both lists by path; beyond a thousand what was left out is summed up."""
        rest = sorted(self.left_out, key=lambda entry: str(entry["path"]))
        report: dict[str, Any] = {
            "copied": sorted(self.copied, key=lambda entry: str(entry["path"])),
            "left_out": rest[:_LISTED],
        }
        if rest[_LISTED:]:
            more = rest[_LISTED:]
            text = "\n".join(f"{entry['bytes']} {entry['sha256']} {entry['path']}" for entry in more)
            digest = bytes_digest(text.encode("utf-8", "surrogateescape"))
            report["left_out_too"] = {
                "files": len(more),
                "bytes": sum(entry["bytes"] for entry in more),
                "listing_sha256": digest,
                "reason": f"more than {_LISTED} files were left out",
            }
        return report

    def _objection(self, name: str, size: int) -> str:
        path = self.top / name
        if name.endswith("/"):
            return "a git repository of its own"
        try:
            kind = path.lstat().st_mode
        except OSError as error:
            return f"cannot be read: {error.strerror}"
        if stat.S_ISLNK(kind):
            return f"a symbolic link to {os.readlink(path)!r}, not followed"
        if not stat.S_ISREG(kind):
            return "not a regular file"
        if path.name.lower().endswith(_KEPT_OUT):
            return "its name says that it holds credentials"
        if self.target is None:
            return "no folder was given to copy it to"
        if size > self.share:
            return f"larger than {self.share} bytes"
        return "" if size <= self.room else f"the {self.limit} bytes for untracked files are used up"

    def _left_out(self, name: str, size: int, reason: str) -> dict[str, Any]:
        path = self.top / name
        digest: Any = unavailable(f"not read: {reason}")
        if path.is_file() and not path.is_symlink():
            if size > self.hashable:
                digest = unavailable(f"not read: more than {_HASHED_BYTES} bytes were left out")
            else:
                self.hashable -= size
                digest = _digest(path)
        return {"path": name, "bytes": size, "sha256": digest, "reason": reason}


def _digest(path: Path) -> Any:
    try:
        return file_digest(path, follow_symlinks=False).sha256
    except DigestError as error:
        return unavailable(error.message)


def _size(path: Path) -> int:
    """Of a regular file; 0 for what has no content of its own, or is gone."""
    try:
        found = path.lstat()
    except OSError:
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def _read(top: Path, name: str, size: int) -> tuple[bytes, int]:
    """A regular file's bytes and mode. Every folder above it is opened without following links too."""
    folder = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    *above, last = name.split("/")
    try:
        for part in above:
            below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            os.close(folder)
            folder = below
        # O_NONBLOCK: opening a FIFO that has come in the meantime must not wait
        file = os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    finally:
        os.close(folder)
    with open(file, "rb") as stream:
        data = stream.read(size + 1)
        if len(data) != size:
            raise OSError(0, "it changed while it was read")
        return data, os.fstat(stream.fileno()).st_mode


def _redact_bytes(data: bytes) -> bytes:
    """Text redacted; what is no text as it was."""
    for mark, encoding in ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")):
        if data.startswith(mark):
            return _redact_as(data, encoding)
    return data if b"\0" in data else _redact_as(data, "utf-8")


def _redact_as(data: bytes, encoding: str) -> bytes:
    errors = "surrogateescape" if encoding == "utf-8" else "surrogatepass"
    try:
        return redact_text(data.decode(encoding, errors)).encode(encoding, errors)
    except UnicodeError:
        return data


def _written(redacted: bytes, original: bytes) -> dict[str, Any]:
    found: dict[str, Any] = {"bytes": len(redacted), "sha256": bytes_digest(redacted), "redacted": redacted != original}
    if found["redacted"]:  # then it is not the file that ran, and a patch may not apply
        found["unredacted"] = {"bytes": len(original), "sha256": bytes_digest(original)}
    return found


def _write(path: Path, data: bytes, mode: int) -> None:
    make_folder(path.parent)
    try:
        path.write_bytes(data)
        if mode & stat.S_IXUSR:
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
    except OSError as error:
        raise storage_error(path, error) from error


def _remove(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(path, error) from error
