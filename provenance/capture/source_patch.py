"""One patch that turns the commit's files into those on disk, byte for byte: ``git apply`` takes it.

Both sides are trees in a scratch repository, made of the changed files alone, so neither the user's configuration nor
an attribute, a filter or a damaged object of another file has a say in it. Added lines are redacted before they are
written. What does not fit, cannot be read, or would not apply after its redaction, is left out by name and never takes
the rest with it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from provenance.capture.patch_redaction import holds_secret, redact_patch
from provenance.capture.unavailable import none, unavailable
from provenance.capture.untracked_copies import read_regular, remove, written
from provenance.errors import DigestError, SourceError
from provenance.formats.atomic_io import make_folder, write_atomically
from provenance.formats.digest import bytes_digest, file_digest
from provenance.formats.folder_tree import temporary_folder
from provenance.git.repository import Repository, Sink
from provenance.git.scratch_repository import LINK, SUBMODULE, ScratchRepository, TreeEntry
from provenance.git.tracked_files import STAGED, Change
from provenance.redaction.documents import binary_problem

PATCH = "source.patch"

_DIFF = (
    "diff --binary --full-index --no-color --no-ext-diff --no-textconv --no-renames "
    "--no-indent-heuristic --unified=3 --inter-hunk-context=0 --diff-algorithm=myers --src-prefix=a/ --dst-prefix=b/ "
    "--submodule=short -O/dev/null"
)
_DIFFED_BYTES = 64 << 20  # git holds both versions of a file in memory
_LISTED = 1000


def capture_patch(
    tree: Repository, changes: Sequence[Change], commits: Mapping[str, str], into: Path | None, limit_bytes: int
) -> dict[str, Any]:
    """Write ``into/source.patch``. ``commits``: path -> the commit that a changed submodule is at.

    Returns ``{"none": reason}`` where no bytes differ; file, bytes, sha256, whether it was redacted and what it was
    before; or ``left_out`` with bytes, sha256 and the reason. ``whole_files`` are created by the patch, since the
    commit's version could not be read. ``omitted`` has count, listing_sha256 and the files (path, bytes, sha256,
    reason) that are not in it. A patch that lay there before is replaced. Raises SourceError,
    StorageError.
    """
    if into is not None:
        remove(into / PATCH)
    changes = [change for change in changes if change.how != STAGED]
    if not changes:
        return none("the tracked files are those of the commit")
    objects = (tree.folder / tree.line("rev-parse", "--git-path", "objects")).resolve()
    name_length = next((len(change.before.oid) for change in changes if change.before), 40)
    with temporary_folder("ndrepro-patch-") as folder:
        states = _States(tree.folder, ScratchRepository(folder, [objects], name_length), limit_bytes)
        for change in changes:
            states.add(change, commits)
        patch, whole = states.patch(by_file=into is not None)
        redacted = states.redacted() if holds_secret(patch) else patch
    omitted: dict[str, Any] = {"omitted": _listed(states.omitted)} if states.omitted else {}
    if states.whole_files:
        omitted["whole_files"] = states.whole_files
    if not whole["bytes"] and not omitted:
        return none("the tracked files are those of the commit")
    if into is None:
        return {"left_out": {**whole, "reason": "no folder was given to write it to"}, **omitted}
    if not redacted:
        return {"left_out": {**whole, "reason": states.omitted[0]["reason"]}, **omitted}
    make_folder(into)
    write_atomically(into / PATCH, redacted)
    return {"file": PATCH, **written(redacted, patch), **omitted}


def write_patch(repository: Repository, before: str, after: str, sink: Sink) -> None:
    """Write the patch from one tree to another, by their names: of the same trees the same bytes, wherever it is.

    Raises SourceError for a file that is not available.
    """
    repository.stream(sink, *_DIFF.split(), before, after, "--")


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
    def identity(self) -> dict[str, Any]:
        """Size and digest of all that came."""
        return {"bytes": self.size, "sha256": self._digest.hexdigest()}


class _States:
    """The changed files as the commit has them and as they are on disk, and those that the patch does not hold."""

    def __init__(self, top: Path, scratch: ScratchRepository, limit_bytes: int) -> None:
        self.omitted: list[dict[str, Any]] = []
        self.whole_files: list[str] = []
        self._top, self._scratch, self._limit = top, scratch, limit_bytes
        self._before: dict[str, TreeEntry] = {}
        self._after: dict[str, TreeEntry] = {}

    def add(self, change: Change, commits: Mapping[str, str]) -> None:
        """Put a changed file into both states, or among what is omitted."""
        try:
            after = self._read(change, commits)
        except OSError as error:
            self._omit(change.path, f"cannot be read: {error.strerror or error}")
            return
        if isinstance(after, str):
            self._omit(change.path, after)
            return
        if change.before is not None:
            self._before[change.path] = change.before
        if after is not None:
            self._after[change.path] = after

    def patch(self, *, by_file: bool) -> tuple[bytes, dict[str, Any]]:
        """The patch, ``by_file`` as far as it fits, and the size and digest of all of it."""
        kept = _Kept(self._limit)
        try:
            self._diff(kept, self._before, self._after)
        except SourceError:  # a blob of the commit is missing or damaged
            pieces = b"".join(self._pieces())
            return pieces, {"bytes": len(pieces), "sha256": bytes_digest(pieces)}
        if kept.data is None:
            return b"".join(self._pieces()) if by_file else b"", kept.identity
        return bytes(kept.data), kept.identity

    def redacted(self) -> bytes:
        """The patches of the files that are not omitted, redacted; those that would not apply any more are omitted."""
        omitted = {entry["path"] for entry in self.omitted}
        whole_files = list(self.whole_files)
        pieces = []
        for path in sorted((self._before.keys() | self._after.keys()) - omitted):
            kept = self._piece(path, self._limit)
            if kept is None or kept.data is None:
                self._omit(path, "its patch cannot be redacted")
                continue
            before = b"" if path in whole_files else self._blob(self._before, path)
            piece, problem = redact_patch(path, bytes(kept.data), before, self._blob(self._after, path))
            if problem:
                self._omit(path, problem)
            pieces.append(piece)
        self.whole_files = whole_files
        return b"".join(pieces)

    def _blob(self, side: Mapping[str, TreeEntry], path: str) -> bytes:
        """A file of one side; nothing for one that is not there, cannot be read, or is no file."""
        entry = side.get(path)
        kept = _Kept(_DIFFED_BYTES)
        if entry is not None and entry.mode != SUBMODULE:
            with contextlib.suppress(SourceError):
                self._scratch.repository.stream(kept, "cat-file", "blob", entry.oid)
        return bytes(kept.data or b"")

    def _read(self, change: Change, commits: Mapping[str, str]) -> TreeEntry | str | None:
        """The file as it is on disk, ``None`` for one that is gone, or why the patch may not hold it."""
        if change.path in commits:
            return TreeEntry(SUBMODULE, commits[change.path])
        if change.mode is None:
            return None
        path = self._top / change.path
        if path.is_symlink():
            return TreeEntry(LINK, self._scratch.add_blob(os.fsencode(os.readlink(path))))
        size = path.lstat().st_size
        if size > _DIFFED_BYTES:
            raise OSError(0, f"larger than {_DIFFED_BYTES} bytes")
        data = read_regular(self._top, change.path, size)[0]
        problem = binary_problem(change.path, data)
        if problem:
            return problem
        return TreeEntry(change.mode, self._scratch.add_blob(data))

    def _pieces(self) -> Iterator[bytes]:
        """The patches of single files, while there is room; each that is not kept is omitted by name."""
        room = self._limit
        for number, path in enumerate(sorted(self._before.keys() | self._after.keys())):
            if number >= _LISTED:
                self._omit(path, f"the patch is larger than {self._limit} bytes and touches over {_LISTED} files")
                continue
            kept = self._piece(path, room)
            if kept is None:
                self._omit(path, "the commit's version cannot be read")
            elif kept.data is None:
                self._omit(path, f"the patch is larger than {self._limit} bytes")
            else:
                room -= kept.size
                yield bytes(kept.data)

    def _piece(self, path: str, room: int) -> _Kept | None:
        """One file's patch; as a new file where the commit's version cannot be read."""
        before, after = ({path: side[path]} if path in side else {} for side in (self._before, self._after))
        if before == after:  # changed back in the meantime
            return _Kept(room)
        for old in (before, {}):
            kept = _Kept(room)
            with contextlib.suppress(SourceError):
                self._diff(kept, old, after)
                if not kept.size:
                    return None
                if old is not before:
                    self.whole_files.append(path)
                return kept
        return None

    def _diff(self, sink: _Kept, before: Mapping[str, TreeEntry], after: Mapping[str, TreeEntry]) -> None:
        write_patch(self._scratch.repository, self._scratch.tree(before), self._scratch.tree(after), sink)

    def _omit(self, path: str, reason: str) -> None:
        place = self._top / path
        try:
            digest = file_digest(place, follow_symlinks=False)
            found: dict[str, Any] = {"bytes": digest.size, "sha256": digest.sha256}
        except DigestError as error:
            found = {"bytes": 0, "sha256": unavailable(error.message)}
        self.omitted.append({"path": path, **found, "reason": reason})


def _listed(omitted: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The files that the patch does not hold: their number, a digest that stands for all of them, the first ones."""
    text = "".join(f"{entry['sha256']} {entry['path']}\n" for entry in omitted)
    digest = bytes_digest(text.encode("utf-8", "surrogateescape"))
    return {"count": len(omitted), "listing_sha256": digest, "files": list(omitted[:_LISTED])}
