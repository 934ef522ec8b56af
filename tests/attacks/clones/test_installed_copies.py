"""The reviewer's program is installed or unpacked in a repository of the author's, whose history is not the program's.

Before, that history counted as the reviewer's own: his Python environment in a clone of the author's repository was
enough for "recorded code" to be "checked".
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from captured_source import git
from compared_runs import recorded_source

from ndrepro.execution.reproduce import recorded_code as module
from ndrepro.execution.reproduce import unread_source as unread_source_module
from ndrepro.execution.reproduce.code_execution import RecordedCode
from ndrepro.execution.reproduce.recorded_code import recorded_code
from ndrepro.execution.reproduce.unread_source import unread_source
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.verdicts import ClaimCheck
from provenance.attestation.manifest import Manifest

HONEST, EVIL = "accuracy = 0.6\n", "# what follows is known\raccuracy = 0.9999\n"
SITE = ".venv/lib/python3.11/site-packages"
NOTHING = {"count": 0, "files": []}
CLEAN = {"dirty": False, "changed": NOTHING, "patch": {"none": ""}, "untracked": {"copied": [], "left_out": []}}


def project(top: Path, text: str) -> Path:
    """Two small packages of the project's names in the folder ``top``."""
    for name in ("ndrepro/train.py", "provenance/c.py"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(text, newline="")
    return top


def commit(top: Path, *options: str) -> None:
    git(top, "add", "-A", *options)
    git(top, "-c", "user.name=A", "-c", "user.email=a@example.org", "commit", "-q", "-m", "x")


@pytest.fixture
def author(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The author's repository, in which the reviewer stands; at its top are packages that give false results."""
    top = project(tmp_path / "author", EVIL)
    (top / ".gitignore").write_text(".venv\n")
    git(tmp_path, "init", "-q", str(top))
    commit(top)
    monkeypatch.chdir(top)
    return top


def ignored(author: Path) -> Path:
    return project(author / SITE, HONEST)


def tracked(author: Path) -> Path:
    place = project(author / SITE, HONEST)
    commit(author, "--force")
    return place


def subfolder(author: Path) -> Path:
    place = project(author / "libraries", HONEST)
    commit(author)
    return place


def named_as_work_tree(author: Path) -> Path:
    """Unpacked, in a repository that came with its configuration."""
    place = project(author / "unpacked", HONEST)
    git(author, "config", "core.worktree", str(place))
    return place


def empty_repository(author: Path) -> Path:
    place = project(author / "unpacked", HONEST)
    (place / ".git").mkdir()
    return place


def unpacked_at_the_top(author: Path) -> Path:
    """The author's packages were in the history alone."""
    git(author, "rm", "-qr", "ndrepro", "provenance")
    commit(author)
    return project(author, HONEST)


PLACES = [ignored, tracked, subfolder, named_as_work_tree, empty_repository, unpacked_at_the_top]


def claims_on(found: Manifest, run: Path) -> tuple[ClaimCheck, ...]:
    """The claim on the recorded code, and the one on files that nobody reads."""
    with recorded_code(found, run) as rebuilt:
        return (rebuilt.claim, *unread_source(RecordedCode.of(found, run), rebuilt.code, RunFolder(run)))


@pytest.mark.parametrize("put", PLACES)
def test_a_commit_of_the_repository_around_it(
    author: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, put: Callable[[Path], Path]
) -> None:
    found = recorded_source(author, tmp_path / "run")
    monkeypatch.setattr(module, "CODE", author)
    assert [each.status for each in claims_on(found, tmp_path / "run")] == ["checked"], "the control: who runs it"
    monkeypatch.setattr(module, "CODE", put(author))
    claim, unread = claims_on(found, tmp_path / "run")
    assert claim.status == "not checked" and "not in this program's own history" in claim.evidence
    assert "a carriage return (2): ndrepro/train.py:1, provenance/c.py:1" in unread.evidence


@pytest.mark.parametrize("put", PLACES)
def test_a_false_commit_of_the_reviewer_s_code(
    author: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, put: Callable[[Path], Path]
) -> None:
    """Before: "checked, unchanged, by its digest", since nothing that git looked at was changed."""
    place = put(author)
    false = git(author, "rev-list", "--max-parents=0", "HEAD")
    found = recorded_source(place, tmp_path / "run", commit=false, **CLEAN)
    monkeypatch.setattr(module, "CODE", place)
    (claim,) = claims_on(found, tmp_path / "run")
    assert claim.status == "flagged" and "not by the recorded source" in claim.evidence


@pytest.mark.parametrize("flag", ["--assume-unchanged", "--skip-worktree"])
def test_a_change_that_the_index_hides(
    author: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flag: str
) -> None:
    """Of a checkout of the reviewer's, who changed it: its digest is not that of the commit at which it is."""
    git(author, "update-index", flag, "ndrepro/train.py", "provenance/c.py")
    project(author, HONEST)
    monkeypatch.setattr(module, "CODE", author)
    (claim,) = claims_on(recorded_source(author, tmp_path / "run", **CLEAN), tmp_path / "run")
    assert claim.status == "flagged" and "not by the recorded source" in claim.evidence


def test_a_filter_of_the_repository_around_it(author: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: `git status` started it, with all of the reviewer's rights, before there was a sandbox."""
    place = tracked(author)
    found = recorded_source(place, tmp_path / "run")
    (author / ".git/info").mkdir(exist_ok=True)
    (author / ".git/info/attributes").write_text("*.py filter=runs\n")
    git(author, "config", "filter.runs.clean", f"touch {tmp_path}/ran; cat")
    monkeypatch.setattr(module, "CODE", place)
    for where in (place, author):
        (where / "ndrepro/train.py").touch()
        monkeypatch.setattr(module, "CODE", where)
        claims_on(found, tmp_path / "run")
        assert not (tmp_path / "ran").exists()
    git(author, "status")
    assert (tmp_path / "ran").exists(), "the control"


def test_a_release_and_its_installed_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Honest: the code is the reviewer's by its digest; its commit is looked for where he stands, and nowhere else."""
    official = project(tmp_path / "official", HONEST)
    git(tmp_path, "init", "-q", str(official))
    commit(official)
    found = recorded_source(official, tmp_path / "run")
    installed = project(tmp_path / "reviewer" / SITE, HONEST)
    monkeypatch.setattr(module, "CODE", installed)
    monkeypatch.chdir(tmp_path)
    (claim,) = claims_on(found, tmp_path / "run")
    assert (claim.status, claim.evidence) == (
        "not checked",
        "the executed code has the recorded digest; that its commit gives it is not checked: "
        "no git repository is available",
    )
    monkeypatch.chdir(official)
    (claim,) = claims_on(found, tmp_path / "run")
    assert claim.status == "checked" and claim.evidence.endswith("give the code with the recorded digest")
    odd = "# \u2026\n"
    for top in (official, installed):
        (top / "provenance/c.py").write_text(odd)
    commit(official)
    another = recorded_source(official, tmp_path / "another")
    monkeypatch.setattr(unread_source_module, "CODE", installed)
    (installed / "ndrepro/train.py").write_text("accuracy = 0.7\n")
    (claim,) = claims_on(another, tmp_path / "another")  # of odd files those are read that are not the reviewer's own
    assert claim.status == "not checked" and "not in this program's own history" in claim.evidence
    (installed / "provenance/c.py").write_text(HONEST)
    assert "signs beyond ASCII (1): provenance/c.py:1" in claims_on(another, tmp_path / "another")[1].evidence


@pytest.mark.parametrize("in_repository", [False, True])
def test_a_run_of_an_installed_copy(
    author: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_repository: bool
) -> None:
    """Honest: it has no commit. Before, that was flagged, also where the reviewer has the very same code."""
    place = ignored(author) if in_repository else project(tmp_path / SITE, HONEST)
    found = recorded_source(place, tmp_path / "run")
    monkeypatch.setattr(module, "CODE", place)
    (claim,) = claims_on(found, tmp_path / "run")
    assert claim.status == "not checked" and claim.evidence.endswith("not checked: the run recorded no commit")
    (place / "ndrepro/train.py").write_text("accuracy = 0.7\n")
    (claim,) = claims_on(found, tmp_path / "run")
    assert claim.status == "flagged", "the control: another release"


@pytest.mark.parametrize("kind", ["clone", "worktree", "submodule"])
def test_a_checkout_of_the_reviewer_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    official, place = project(tmp_path / "official", HONEST), tmp_path / "reviewer" / "checkout"
    git(tmp_path, "init", "-q", str(official))
    commit(official)
    earlier = recorded_source(official, tmp_path / "run")
    project(official, f"{HONEST}mended = 1\n")
    commit(official)
    place.parent.mkdir()
    if kind == "clone":
        git(tmp_path, "clone", "-q", str(official), str(place))
    elif kind == "worktree":
        git(official, "worktree", "add", "-q", "--detach", str(place))
    else:
        git(tmp_path, "init", "-q", str(place.parent))
        git(place.parent, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(official), place.name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "CODE", place)
    (claim,) = claims_on(recorded_source(place, tmp_path / "now"), tmp_path / "now")
    assert claim.status == "checked" and claim.evidence.endswith("unchanged, by its digest")
    assert [each.status for each in claims_on(earlier, tmp_path / "run")] == ["checked"]
