"""A git repository in a temporary folder that sees the objects of others: states of a work tree become trees in it.

Nothing is written to the repositories whose objects are borrowed, and no attribute or filter of theirs is in force:
bytes are stored and read as they are. Nor is the user's own configuration: a filter or hook that it defines would run
on files that somebody else wrote, Git LFS for one would ask a server that these files name.

git reads an object by its name without a look at whether its bytes have that name. What somebody else's repository
holds is therefore copied first (``own_copy``), as a fetch does it, which names every object by its bytes.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from provenance.errors import DigestError, SourceError
from provenance.formats.digest import file_digest
from provenance.git.repository import Repository

FILE, EXECUTABLE, LINK, SUBMODULE = "100644", "100755", "120000", "160000"
_ISOLATED = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_COUNT": "0",
    "GIT_CONFIG_PARAMETERS": "",
    "GIT_ATTR_NOSYSTEM": "1",
}
_NO_FILES = {"core.attributesFile": os.devnull, "core.hooksPath": os.devnull}
# a file beside the objects that says what commits hold; no log with the user's name and machine
_SETTINGS = {**_NO_FILES, "core.commitGraph": "false", "core.logAllRefUpdates": "false"}
# what gitattributes(5) can change of a file's bytes, or of how two of them are compared
_NEUTRAL = "* -text -filter -ident -working-tree-encoding !eol !crlf !diff\n"
# `ident` takes out whatever stands between "$Id:" and "$", which may be code
_NO_KEYWORDS = "* -ident\n"
# of a line without an end
_PART_BYTES = 1 << 20


@dataclass(frozen=True)
class TreeEntry:
    """What a commit or an index holds for one path: the mode as git writes it, and the object's name."""

    mode: str
    oid: str


def _digests(path: Path) -> tuple[str, str]:
    """The SHA-256 of a tree's file, and that of its text with the line ends of Unix; empty for what is none."""
    try:
        found = file_digest(path, follow_symlinks=False).sha256
    except DigestError:
        return "", ""
    text = hashlib.sha256()
    with path.open("rb") as file:
        for line in iter(lambda: file.readline(_PART_BYTES), b""):
            text.update(line[:-2] + b"\n" if line.endswith(b"\r\n") else line)
    return found, text.hexdigest()


def blob_hash(name_length: int, size: int) -> hashlib._Hash:
    """A hash that, fed with ``size`` bytes, becomes their blob's name, in a repository whose names are so long."""
    digest = hashlib.sha256() if name_length == 64 else hashlib.sha1(usedforsecurity=False)
    digest.update(b"blob %d\0" % size)
    return digest


class ScratchRepository:
    """An empty repository in ``folder`` with the objects of others available.

    Args:
        folder: an empty folder.
        borrowed: object folders of other repositories.
        name_length: 40 for SHA-1, 64 for SHA-256: the same as that of the repositories borrowed from.
    """

    def __init__(self, folder: Path, borrowed: Sequence[Path], name_length: int) -> None:
        self.repository = new_repository(folder, name_length)
        self._objects = folder / ".git" / "objects"
        self._name_length = name_length
        self._numbers = itertools.count()
        # git reads a path in double quotes as a C string (gitrepository-layout(5))
        quoted = [str(path).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") for path in borrowed]
        information = self._objects / "info"
        information.mkdir(exist_ok=True)
        (information / "alternates").write_bytes(os.fsencode("".join(f'"{path}"\n' for path in quoted)))
        self._attributes = folder / ".git" / "info" / "attributes"
        self._attributes.parent.mkdir(exist_ok=True)
        self._attributes.write_text(_NEUTRAL)

    def own_copy(self, commit: str, folder: Path) -> ScratchRepository:
        """A repository in the empty ``folder`` that has the commit's tree and files, and borrows nothing.

        Raises SourceError where an object is missing, or holds other bytes than its name says.
        """
        own = ScratchRepository(folder, (), self._name_length)
        walk = "--objects", "--no-object-names", "--no-walk"
        self.hand_over(self.repository.ask("rev-list", *walk, commit).split(), own.repository)
        try:
            own.repository.ask("rev-list", "--objects", "--quiet", "--no-walk", commit)
        except SourceError as error:
            raise SourceError(
                f"an object of commit {commit[:12]} holds other bytes than its name says ({error.message})",
                "the repository is damaged, or was tampered with: see `git fsck` there, and clone it from its origin",
            ) from None
        return own

    def hand_over(self, names: Iterable[str], other: Repository, *, anew: bool = False) -> None:
        """Copy objects into another repository, which names each by its bytes. Raises SourceError.

        ``anew``: deflate them again, so that nothing is in how somebody did it.
        """
        listing, pack = self.repository.folder / "listing", self.repository.folder / "pack"
        listing.write_text("".join(f"{name}\n" for name in names))
        with open(pack, "wb") as sink:
            words = "--stdout", "--quiet", "--window=0", *(["--no-reuse-object"] if anew else [])
            self.repository.stream(sink, "pack-objects", *words, stdin=listing)
        other.ask("index-pack", "--stdin", stdin=pack)
        pack.unlink()

    def add_blob(self, data: bytes) -> str:
        """Store bytes as a loose object (gitformat-loose: header and content, deflated) and return its name."""
        digest = blob_hash(self._name_length, len(data))
        digest.update(data)
        oid = digest.hexdigest()
        path = self._objects / oid[:2] / oid[2:]
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(zlib.compress(b"blob %d\0" % len(data) + data, 1))
        return oid

    def tree(self, entries: Mapping[str, TreeEntry]) -> str:
        """The name of a tree with just these paths; their objects need not be available."""
        index = self.new_index()
        add_to_index(index, entries.items())
        return index.line("write-tree", "--missing-ok")

    def check_out(
        self, tree: str, place: Path, converted: Sequence[str], settings: Mapping[str, str]
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Write a tree's files to the new folder ``place``: as they are stored, those in ``converted`` as git checks
        them out under ``settings`` and the attributes of the tree itself. Those that this changed are returned: the
        tree shows something else. Apart from them are those of which only line ends changed. Raises SourceError.
        """
        index = self.new_index()
        index.ask("read-tree", tree)
        index.ask("checkout-index", "--all", "--quiet", f"--prefix={place}/")
        if not converted:
            return (), ()
        stored = [_digests(place / path) for path in converted]
        self.convert(index, place, converted, settings)
        pairs = zip(converted, stored, map(_digests, (place / path for path in converted)), strict=True)
        changed = [(path, before[1] == now[1]) for path, before, now in pairs if before[0] != now[0]]
        return tuple(path for path, ends in changed if not ends), tuple(path for path, ends in changed if ends)

    def convert(self, index: Repository, place: Path, paths: Sequence[str], settings: Mapping[str, str]) -> None:
        """Write paths of an index into the folder ``place`` as git checks them out under ``settings`` and the
        attributes in ``place``, or else in the index; no filter is known, and no keyword expanded. Raises SourceError.
        """
        listing = self.repository.folder / "converted"
        listing.write_bytes(b"".join(os.fsencode(path) + b"\0" for path in paths))
        self._attributes.write_text(_NO_KEYWORDS)
        there = {"GIT_DIR": str(self.repository.folder / ".git"), "GIT_WORK_TREE": str(place)}
        converting = Repository(place, {**index.variables, **there}, {**settings, **_NO_FILES})
        try:
            converting.ask("checkout-index", "--force", "--quiet", "-z", "--stdin", stdin=listing)
        finally:
            self._attributes.write_text(_NEUTRAL)

    def new_index(self) -> Repository:
        """This repository with another, empty index."""
        path = self.repository.folder / ".git" / f"index-{next(self._numbers)}"
        return replace(self.repository, variables={**_ISOLATED, "GIT_INDEX_FILE": str(path)})


def new_repository(folder: Path, name_length: int) -> Repository:
    """Make a repository in ``folder``, without templates, for SHA-1 (``name_length`` 40) or SHA-256 (64).

    When it is asked, no configuration is in force but its own, and none of another repository that ``folder`` may hold.
    """
    sha256 = ("--object-format=sha256",) if name_length == 64 else ()
    made = Repository(folder, _ISOLATED, _SETTINGS)
    made.ask("init", "--quiet", "--template=", *sha256)
    return replace(made, variables={**_ISOLATED, "GIT_DIR": str(folder / ".git"), "GIT_WORK_TREE": str(folder)})


def add_to_index(index: Repository, entries: Iterable[tuple[str, TreeEntry]]) -> None:
    """Put paths into an index that has a file of its own (``GIT_INDEX_FILE``)."""
    lines = [f"{entry.mode} {entry.oid}\t{path}\0" for path, entry in entries]
    listing = Path(index.variables["GIT_INDEX_FILE"] + ".entries")
    listing.write_bytes(os.fsencode("".join(lines)))
    index.ask("update-index", "-z", "--index-info", stdin=listing)
