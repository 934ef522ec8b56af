"""A copy of each untracked file of a work tree, as far as the room goes.

Files are redacted before they are written (``provenance.redaction.documents``); one that held a secret says that it
does, with the digest of what it was, and one that redaction would spoil is left out. What is larger than its share is
left out and named with its size and digest. Symbolic links are never followed. Of thousands of files, such as a data
set, a few are looked at, Python files and those with few others beside them first; the rest is counted, and neither
measured nor read.

A digest of a short secret can be guessed by trying: whoever publishes one should change the secret too.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from provenance.capture.unavailable import unavailable
from provenance.errors import DigestError
from provenance.formats.atomic_io import make_folder, storage_error
from provenance.formats.digest import bytes_digest, file_digest
from provenance.formats.folder_tree import remove_tree
from provenance.redaction.documents import redact_file

UNTRACKED = "untracked"

# files that hold nothing but credentials, in formats that redaction does not read
_KEPT_OUT = (".p12", ".pfx", ".jks", ".keystore", ".kdbx", ".ppk", ".pgpass", ".htpasswd", ".netrc", "_netrc")
_FILE_SHARE = 5  # no untracked file may take more than a fifth of the room
_LISTED = 1000  # files left out that are named one by one
_LOOKED_AT = 2000  # files that are measured, and read as far as the room goes
_HASHED_BYTES = 1 << 30  # how much of what is left out is read for its digest: about a second


def capture_untracked(
    top: Path,
    names: Sequence[str],
    into: Path | None,
    limit_bytes: int,
    nested: Callable[[Path, int], dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Copy the files ``names`` below ``top`` to ``into/untracked/``, small ones first, as far as the room goes.

    Returns ``copied`` (path, bytes, sha256, redacted, and what they were) and ``left_out`` (path, bytes, sha256,
    reason; of a repository inside what ``nested`` says of it and how many came before it), both sorted by path;
    ``left_out_too`` sums up further ones. What lay in ``into/untracked`` before is replaced. Raises StorageError.
    """
    target = None if into is None else into / UNTRACKED
    if target is not None:
        remove(target)
    found = _Untracked(top, target, limit_bytes)
    repositories = [name for name in names if name.endswith("/")]
    for number, name in enumerate(repositories):
        reason = "a git repository of its own"
        state = {} if nested is None else nested(top / name, number)
        found.left_out.append({"path": name, "bytes": 0, "sha256": unavailable(reason), "reason": reason, **state})
    files = sorted(set(names).difference(repositories))
    siblings = Counter(map(os.path.dirname, files))
    if len(files) > _LOOKED_AT:
        files.sort(key=lambda name: (not name.endswith(".py"), siblings[os.path.dirname(name)]))
    for size, name in sorted((_size(top / name), name) for name in files[:_LOOKED_AT]):
        found.take(name, size)
    return found.report(sorted(files[_LOOKED_AT:]))


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
            data, mode = read_regular(self.top, name, size)
        except OSError as error:
            reason = f"cannot be read: {error.strerror or error}"
            self.left_out.append({"path": name, "bytes": size, "sha256": unavailable(reason), "reason": reason})
            return
        redacted = redact_file(name, data)
        if redacted.problem:
            self.left_out.append(self._left_out(name, size, redacted.problem))
            return
        assert self.target is not None
        _write(self.target / name, redacted.data, mode)
        self.room -= size
        self.copied.append({"path": name, **written(redacted.data, data)})

    def report(self, uncounted: Sequence[str]) -> dict[str, Any]:
        """Both lists by path; beyond a thousand what was left out is summed up, with the files not looked at."""
        rest = sorted(self.left_out, key=lambda entry: str(entry["path"]))
        report: dict[str, Any] = {
            "copied": sorted(self.copied, key=lambda entry: str(entry["path"])),
            "left_out": rest[:_LISTED],
        }
        if rest[_LISTED:] or uncounted:
            more = [f"{entry['bytes']} {entry['sha256']} {entry['path']}" for entry in rest[_LISTED:]]
            text = "\n".join([*more, *uncounted])
            measured = sum(entry["bytes"] for entry in rest[_LISTED:])
            report["left_out_too"] = {
                "files": len(more) + len(uncounted),
                "bytes": unavailable(f"more than {_LOOKED_AT} files: not measured") if uncounted else measured,
                "listing_sha256": bytes_digest(text.encode("utf-8", "surrogateescape")),
                "reason": f"more than {_LISTED} files were left out",
            }
            if uncounted:
                report["left_out_too"]["reason"] = f"more than {_LOOKED_AT} untracked files: the others are not read"
        return report

    def _objection(self, name: str, size: int) -> str:
        path = self.top / name
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


def read_regular(top: Path, name: str, size: int) -> tuple[bytes, int]:
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


def written(redacted: bytes, original: bytes) -> dict[str, Any]:
    """What is recorded of a file that is kept: bytes, sha256, redacted; of one that was, ``unredacted`` as well."""
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


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there. Raises StorageError."""
    try:
        if path.is_dir() and not path.is_symlink():
            remove_tree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(path, error) from error
