"""What files held before a program started, by SHA-256: that a file was touched or renamed does not make it a result.

Read are files up to a size and a number, the smallest first, as far as the room goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ndrepro.execution.programs.working_folder import Identity
from provenance.errors import DigestError
from provenance.formats.bounded_read import read_bounded
from provenance.formats.digest import FileDigest, bytes_digest, file_digest

_FILE_BYTES, _ALL_BYTES = 1 << 20, 64 << 20
# before every recorded program: a tenth of a second
_FILES = 2000


@dataclass(frozen=True)
class EarlierContents:
    """Size and SHA-256 of files, by path relative to ``folder`` or absolute."""

    folder: Path
    files: Mapping[str, FileDigest]

    @classmethod
    def read(
        cls, folder: Path, files: Mapping[str, Identity], *, largest: int = _FILE_BYTES, most: int = _FILES
    ) -> EarlierContents:
        """Read ``most`` files of at most ``largest`` bytes as they are now. Nothing raises."""
        found: dict[str, FileDigest] = {}
        room = max(largest, _ALL_BYTES)
        for path in sorted(files, key=lambda path: (files[path][0], path))[:most]:
            room -= files[path][0]
            if files[path][0] > largest or room < 0:
                break
            try:
                found[path] = file_digest(folder / path)
            except DigestError:
                continue
        return cls(folder, found)

    def had(self, path: str, sha256: str) -> bool:
        """Whether a path had this content."""
        return path in self.files and self.files[path].sha256 == sha256

    def kept_in(self, path: str, data: bytes) -> bytes:
        """All that a path held, where ``data``, which it holds now, begin with it; else nothing."""
        earlier = self.files.get(path)
        if earlier is None or bytes_digest(data[: earlier.size]) != earlier.sha256:
            return b""
        return data[: earlier.size]

    def origin(self, path: str, sha256: str) -> str:
        """The file that had the content that ``path`` has now, wholly or at its beginning; "" for none."""
        for name, earlier in sorted(self.files.items()):
            if earlier.size and earlier.sha256 == sha256:
                return name
        if path not in self.files:
            return ""
        try:
            return path if self.kept_in(path, read_bounded(self.folder / path)) else ""
        except OSError:
            return ""
