"""Attack: a clone that lacks objects has git execute what its configuration names, to fetch them while we read."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from strange_programs import Stranger

from ndrepro.protocol.errors import UsageError
from provenance.errors import SourceError
from provenance.git.repository import Repository

WRITES = "open('out.txt', 'w').write('0.6')\n"


def lacking(author: Stranger, place: Path, escaped: Path) -> None:
    """A clone without blobs, whose remote is a command."""
    author.git("config", "uploadpack.allowFilter", "true")
    words = ["git", "clone", "-q", "--filter=blob:none", "--no-checkout", f"file://{author.root}", str(place)]
    subprocess.run(words, check=True)
    for name, value in (
        ("remote.origin.url", f"ext::sh -c echo% fetched% >% {escaped}"),
        ("protocol.ext.allow", "always"),
    ):
        subprocess.run(["git", "-C", str(place), "config", name, value], check=True)


def test_a_repository_that_lacks_objects_fetches_nothing_when_it_is_read(tmp_path: Path) -> None:
    author, escaped = Stranger.make(tmp_path / "a", {"train.py": WRITES}), tmp_path / "escaped"
    run = author.record(outputs=("out.txt",))
    lacking(author, tmp_path / "partial", escaped)
    with pytest.raises(UsageError, match="cannot be checked out"):
        author.reproduce(run, clone=False, repository=tmp_path / "partial")
    assert not escaped.exists()


def test_no_question_to_git_fetches_whatever_its_release_knows(tmp_path: Path) -> None:
    """Releases before 2.39.4 know no GIT_NO_LAZY_FETCH, and executed the command: here it is switched off."""
    author, escaped = Stranger.make(tmp_path / "a", {"train.py": WRITES}), tmp_path / "escaped"
    lacking(author, tmp_path / "partial", escaped)
    with pytest.raises(SourceError):
        Repository(tmp_path / "partial", {"GIT_NO_LAZY_FETCH": "0"}).ask("cat-file", "blob", "HEAD:train.py")
    assert not escaped.exists()
