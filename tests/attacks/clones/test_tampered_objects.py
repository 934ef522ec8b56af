"""Attack: a repository in which an object holds other bytes than its name says, which git does not notice on reading.

The record says "commit X, clean", and X is public and honest; what a reviewer's git would check out of the author's
unpacked repository is other code.
"""

from __future__ import annotations

import hashlib
import zlib
from pathlib import Path

import pytest
from captured_source import git

from provenance.comparison.recorded_tree import SourceState, check_out
from provenance.errors import SourceError

HONEST, CHEAT = b"print(0.51)\n", b"print(0.99)\n"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    top = tmp_path / "repository"
    (top / "code").mkdir(parents=True)
    (top / "code" / "train.py").write_bytes(HONEST)
    git(tmp_path, "init", "-q", str(top))
    git(top, "add", "-A")
    git(top, "-c", "user.name=A", "-c", "user.email=a@example.org", "commit", "-q", "-m", "first")
    return top


def clean(repository: Path) -> SourceState:
    none = {"none": "the tracked files are those of the commit"}
    recorded = {"commit": git(repository, "rev-parse", "HEAD"), "dirty": False, "patch": none, "untracked": {}}
    return SourceState(recorded, repository)


def store(repository: Path, kind: str, data: bytes, name: str = "") -> str:
    """Write a loose object under ``name``, its own where it is left out."""
    stored = f"{kind} {len(data)}\0".encode() + data
    name = name or hashlib.sha1(stored, usedforsecurity=False).hexdigest()
    path = repository / ".git" / "objects" / name[:2] / name[2:]
    path.parent.mkdir(exist_ok=True)
    if path.exists():
        path.chmod(0o644)
    path.write_bytes(zlib.compress(stored))
    return name


def test_the_honest_commit_is_checked_out(repository: Path, tmp_path: Path) -> None:
    check_out(clean(repository), repository, tmp_path / "place")
    assert (tmp_path / "place" / "code" / "train.py").read_bytes() == HONEST


@pytest.mark.parametrize("kind", ["blob", "tree", "commit"])
def test_an_object_with_other_bytes_than_its_name_says(repository: Path, tmp_path: Path, kind: str) -> None:
    state = clean(repository)
    if kind == "blob":
        store(repository, "blob", CHEAT, git(repository, "rev-parse", "HEAD:code/train.py"))
    else:
        blob = store(repository, "blob", CHEAT)
        other = b"100644 train.py\0" + bytes.fromhex(blob)
        if kind == "tree":
            store(repository, "tree", other, git(repository, "rev-parse", "HEAD:code"))
        else:
            top = store(repository, "tree", b"40000 code\0" + bytes.fromhex(store(repository, "tree", other)))
            person = b"A <a@example.org> 0 +0000"
            forged = b"tree %s\nauthor %s\ncommitter %s\n\nfirst\n" % (top.encode(), person, person)
            store(repository, "commit", forged, git(repository, "rev-parse", "HEAD"))
    with pytest.raises(SourceError) as caught:
        check_out(state, repository, tmp_path / "place")
    assert "bytes than its name says" in caught.value.message or "no available repository has" in caught.value.message
    assert not (tmp_path / "place" / "code" / "train.py").exists()
