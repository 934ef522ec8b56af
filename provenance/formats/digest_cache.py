"""Remembers the digests of the files below a folder, so that those that did not change are not read again.

One file a folder, ``digests/HASH.tsv`` in the cache folder (``$NDREPRO_CACHE``, else ``$XDG_CACHE_HOME/ndrepro``,
else ``~/.cache/ndrepro``): name, size, time of modification and of change in ns, inode, sha256. A file is known while
all of these are as remembered; the time of change is the kernel's own, which no program sets back. Where the cache
cannot be written, nothing is remembered. It may be removed at any time.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from provenance.formats.digest import file_digest

_HEADER = "name\tsize\tmtime_ns\tctime_ns\tinode\tsha256"


def identity(status: os.stat_result) -> str:
    """A file's size, times in ns and inode as columns of text, which are others once its content is."""
    return f"{status.st_size}\t{status.st_mtime_ns}\t{status.st_ctime_ns}\t{status.st_ino}"


class DigestCache:
    """The remembered digests of the files below ``top``; names are paths relative to it."""

    def __init__(self, top: Path) -> None:
        self.top = top
        place = hashlib.sha256(os.fsencode(top.resolve())).hexdigest()[:32]
        self._place = digests_folder() / f"{place}.tsv"
        self._entries = _load(self._place)
        self._changed = False

    def known(self, name: str, status: os.stat_result) -> str | None:
        """The file's digest, if it is remembered and the file is as it was then."""
        then, _, sha256 = self._entries.get(name, "").rpartition("\t")
        return sha256 if then == identity(status) else None

    def add(self, name: str, status: os.stat_result, sha256: str) -> None:
        """Remember a digest that was just computed."""
        self._entries[name] = f"{identity(status)}\t{sha256}"
        self._changed = True

    def sha256(self, name: str) -> str:
        """The file's digest, remembered or read. Raises OSError or DigestError for a file that cannot be read."""
        path = os.path.join(self.top, name)
        status = os.stat(path)
        digest = self.known(name, status)
        if digest is None:
            digest = file_digest(path).sha256
            self.add(name, status, digest)
        return digest

    def save(self) -> str:
        """Write what was added; returns why that cannot be done, "" where it was."""
        if not self._changed:
            return ""
        rows = [
            f"{name}\t{entry}"
            for name, entry in self._entries.items()
            if not {"\t", "\n"} & set(name)  # which this format cannot hold
        ]
        temporary = self._place.with_name(f".{self._place.name}.{os.getpid()}.tmp")
        try:
            self._place.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text("\n".join([_HEADER, *rows, ""]), encoding="utf-8", errors="surrogateescape")
            temporary.replace(self._place)
        except OSError as error:
            return f"{self._place}: {error.strerror}"
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        self._changed = False
        return ""


def cache_folder() -> Path:
    """Where digests are remembered, see above."""
    chosen = os.environ.get("NDREPRO_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ndrepro"


def digests_folder() -> Path:
    """The folder of the files of remembered digests."""
    return cache_folder() / "digests"


def private_folder(folder: Path) -> Path:
    """A folder that nobody else may write to, made where it is missing. Raises OSError for another one."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    expect_private(folder)
    return folder


def expect_private(folder: Path) -> None:
    """Raises OSError where others may write to a folder: what is in it would be executed."""
    status = os.stat(folder)
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise PermissionError(13, "others may write to it", str(folder))


def _load(place: Path) -> dict[str, str]:
    """What is remembered: by name the other columns. Nothing of a file that is not whole or not one of ours."""
    try:
        header, *rows = place.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
        if header != _HEADER or rows.pop() != "":
            return {}
        return {name: columns for name, _, columns in (row.partition("\t") for row in rows)}
    except (OSError, ValueError, IndexError):
        return {}
