"""What git's conversions make of a file hides no change, and a file that git converted is no change."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from captured_source import capture, git

from provenance.comparison.recorded_tree import SourceState, check_out

pytestmark = pytest.mark.usefixtures("own_git_settings")


def converting(repository: Path, attributes: str, **settings: str) -> None:
    """Commit attributes and set filters; the work tree is as git checks it out."""
    (repository / ".gitattributes").write_text(attributes)
    for name, value in settings.items():
        git(repository, "config", name.replace("__", "."), value)
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "conversions")
    for name in git(repository, "ls-files").splitlines():
        if not name.startswith(('"', ".git")):
            (repository / name).unlink()
    git(repository, "checkout", "-q", ".")


def write_and_refresh(repository: Path, name: str, data: bytes) -> None:
    """Write a file, and have the index believe that it is the committed one, as `git status` does in passing."""
    (repository / name).write_bytes(data)
    git(repository, "add", "-A")


HIDDEN: dict[str, tuple[str, dict[str, str], bytes]] = {
    "a clean filter": ("*.md filter=tidy\n", {"filter__tidy__clean": "echo notes"}, b"notes\nlr = 0.5\n"),
    "autocrlf": ("", {"core__autocrlf": "input"}, b"notes\r\n"),
    "text": ("*.md text\n", {}, b"notes\r\n"),
    "an encoding": ("*.md text working-tree-encoding=UTF-16\n", {}, b"\xfe\xff" + "notes\n".encode("utf-16-be")),
}


@pytest.mark.parametrize("case", HIDDEN)
def test_a_change_that_git_hides_is_recorded(repository: Path, tmp_path: Path, case: str) -> None:
    attributes, settings, data = HIDDEN[case]
    if case == "an encoding":
        (repository / "notes.md").write_bytes(b"\xff\xfe" + "notes\n".encode("utf-16-le"))
    converting(repository, attributes, **settings)
    assert capture(repository)["dirty"] is False, "the control"
    before = (repository / "notes.md").read_bytes()
    write_and_refresh(repository, "notes.md", data)
    assert before != data and git(repository, "status", "--porcelain") == "", "the control: git itself sees nothing"
    found = capture(repository, tmp_path / "run")
    assert found["dirty"] is True
    (entry,) = found["changed"]["files"]
    assert entry["path"] == "notes.md" and entry["how"] == "modified"
    check_out(SourceState(found, tmp_path / "run"), repository, tmp_path / "again")
    assert (tmp_path / "again/notes.md").read_bytes() == data


@pytest.mark.parametrize(
    "stored", ["# $Id$\naccuracy = 0.5\n", 'accuracy = 0.9; a = "$Id:"; accuracy = 0.5; a = "$"\n']
)
def test_ident_hides_no_change(repository: Path, tmp_path: Path, stored: str) -> None:
    (repository / "train.py").write_text(stored)
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "without attributes")
    assert capture(repository)["dirty"] is False, "the control"
    converting(repository, "*.py ident\n")
    present = (repository / "train.py").read_text()
    assert present != stored and present.count("\n") == stored.count("\n"), "git replaced the text of the keyword"
    found = capture(repository, tmp_path / "run")
    assert found["changed"]["files"] == [{"path": "train.py", "how": "modified", "conversion": "ident"}]
    assert f"+{present.splitlines()[0]}\n" in (tmp_path / "run" / "source.patch").read_text(), "and it is shown"
    assert check_out(SourceState(found, tmp_path / "run"), repository, tmp_path / "again") == ()
    assert (tmp_path / "again/train.py").read_text() == present


CONVERTED: dict[str, tuple[str, dict[str, str]]] = {
    "autocrlf": ("", {"core__autocrlf": "true"}),
    "eol": ("*.md text eol=crlf\n", {}),
    "an encoding": ("*.md text working-tree-encoding=UTF-16\n", {}),
}


@pytest.mark.parametrize("case", CONVERTED)
def test_a_file_that_git_converted_is_clean_and_comes_back(repository: Path, tmp_path: Path, case: str) -> None:
    (repository / "notes.md").write_text("notes $Id$\n")
    attributes, settings = CONVERTED[case]
    if case == "an encoding":
        (repository / "notes.md").write_text("notes $Id$\n", encoding="utf-16")
    converting(repository, attributes, **settings)
    present = (repository / "notes.md").read_bytes()
    assert present != b"notes $Id$\n", "the control"
    (repository / "code/b.py").write_bytes(b"b = 2\n")
    found = capture(repository, tmp_path / "run")
    assert [entry["path"] for entry in found["changed"]["files"]] == ["code/b.py"]
    assert "notes.md" in found["converted"]["files"]
    bare = tmp_path / "elsewhere"
    git(tmp_path, "clone", "-q", "--bare", str(repository), str(bare))
    (shown,) = check_out(SourceState(found, tmp_path / "run"), bare, tmp_path / "again")
    assert shown.startswith("git converted what its commit shows (") and "notes.md" in shown
    assert ("core.autocrlf=true" in shown) == (case == "autocrlf")
    assert (tmp_path / "again/notes.md").read_bytes() == present
    assert (tmp_path / "again/code/b.py").read_bytes() == b"b = 2\n"


def test_a_filter_that_is_missing_loses_nothing(repository: Path, tmp_path: Path) -> None:
    converting(repository, "*.md filter=lost\n")
    git(repository, "config", "filter.lost.clean", "no-such-program %f")
    git(repository, "config", "filter.lost.smudge", "no-such-program %f")
    git(repository, "config", "filter.lost.required", "true")
    os.utime(repository / "notes.md", (1, 1))
    (repository / "code/b.py").write_text("b = 2\n")
    (repository / "new.py").write_text("new = 1\n")
    found = capture(repository, tmp_path / "run")
    assert found["changed"]["files"] == [{"path": "code/b.py", "how": "modified"}] and found["dirty"] is True
    (repository / "notes.md").write_text("other\n")
    found = capture(repository, tmp_path / "run")
    assert {"path": "notes.md", "how": "modified", "conversion": "filter=lost"} in found["changed"]["files"]
    patch = (tmp_path / "run/source.patch").read_bytes()
    assert b"+b = 2\n" in patch and b"+other\n" in patch and (tmp_path / "run/untracked/new.py").exists()


def test_what_a_filter_made_of_a_file_is_a_change(repository: Path, tmp_path: Path) -> None:
    rot13 = "tr a-zA-Z n-za-mN-ZA-M"
    converting(repository, "*.md filter=rot\n", filter__rot__clean=rot13, filter__rot__smudge=rot13)
    found = capture(repository, tmp_path / "run")
    assert found["dirty"] is True and found["converted"]["files"] == []
    assert found["changed"]["files"] == [{"path": "notes.md", "how": "modified", "conversion": "filter=rot"}]
    check_out(SourceState(found, tmp_path / "run"), repository, tmp_path / "again")
    assert (tmp_path / "again/notes.md").read_bytes() == (repository / "notes.md").read_bytes()


def test_content_of_git_lfs_is_known_by_its_pointer(repository: Path) -> None:
    content = bytes(range(256)) * 20
    pointer = (
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{hashlib.sha256(content).hexdigest()}\nsize 5120\n"
    )
    (repository / "w.bin").write_text(pointer)
    (repository / ".gitattributes").write_text("w.bin filter=lfs -text\n")
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "weights")
    git(repository, "config", "filter.lfs.smudge", "echo downloaded >&2; false")
    git(repository, "config", "filter.lfs.required", "true")
    assert capture(repository)["dirty"] is False, "the pointer itself"
    (repository / "w.bin").write_bytes(content)
    found = capture(repository)
    assert found["dirty"] is False and found["converted"]["files"] == ["w.bin"]
    (repository / "w.bin").write_bytes(content[::-1])
    assert capture(repository)["changed"]["files"] == [{"path": "w.bin", "how": "modified", "conversion": "filter=lfs"}]


def replaced_by_a_link(top: Path) -> None:
    (top / "code").rename(top.parent / "outside")
    (top / "code").symlink_to(top.parent / "outside")


STRANGE: dict[str, tuple[Callable[[Path], object], dict[str, str]]] = {
    "a folder that became a link": (
        replaced_by_a_link,
        {"code/a.py": "deleted", "code/b.py": "deleted", "code/naïve name.txt": "deleted"},
    ),
    "a pipe": (lambda top: ((top / "notes.md").unlink(), os.mkfifo(top / "notes.md")), {"notes.md": "deleted"}),
    "a folder": (lambda top: ((top / "notes.md").unlink(), (top / "notes.md").mkdir()), {"notes.md": "deleted"}),
    "a link": (
        lambda top: ((top / "notes.md").unlink(), (top / "notes.md").symlink_to("dos.txt")),
        {"notes.md": "type changed"},
    ),
    "no longer tracked": (lambda top: git(top, "rm", "-q", "--cached", "notes.md"), {"notes.md": "staged only"}),
}


@pytest.mark.parametrize("case", STRANGE)
def test_what_stands_in_a_files_place_is_told(repository: Path, tmp_path: Path, case: str) -> None:
    change, expected = STRANGE[case]
    change(repository)
    found = capture(repository, tmp_path / "run")
    assert found["dirty"] is True
    assert {entry["path"]: entry["how"] for entry in found["changed"]["files"]} == expected


@pytest.mark.skipif(os.getuid() == 0, reason="root reads everything")
def test_a_file_that_cannot_be_read_is_in_doubt(repository: Path) -> None:
    (repository / "notes.md").chmod(0)
    found = capture(repository)
    assert "notes.md: cannot be read" in found["dirty"]["unavailable"]


def test_a_repository_of_sha256(tmp_path: Path) -> None:
    top = tmp_path / "top"
    git(tmp_path, "init", "-q", "--object-format=sha256", str(top))
    (top / "a.py").write_text("a = 1\n")
    git(top, "add", "-A")
    git(top, "commit", "-q", "-m", "first")
    assert capture(top)["dirty"] is False
    (top / "a.py").write_text("a = 2\n")
    found = capture(top, tmp_path / "run")
    assert found["dirty"] is True
    check_out(SourceState(found, tmp_path / "run"), top, tmp_path / "again")
    assert (tmp_path / "again/a.py").read_text() == "a = 2\n"


def test_a_name_that_is_not_utf8_is_in_the_patch(repository: Path, tmp_path: Path) -> None:
    name = os.fsdecode(b"by\xfftes.py")
    (repository / name).write_text("b = 1\n")
    found = capture(repository, tmp_path / "run")
    assert found["untracked"]["copied"] == [] and found["dirty"] is True
    (entry,) = found["changed"]["files"]
    assert entry["path"] == "by\\xfftes.py" and "not UTF-8" in entry["how"]
    check_out(SourceState(found, tmp_path / "run"), repository, tmp_path / "again")
    assert (tmp_path / "again" / name).read_text() == "b = 1\n"
    assert all(path.name.isascii() for path in (tmp_path / "run").rglob("*")), "a run folder takes no such name"


def test_all_that_was_recorded_comes_back(repository: Path, tmp_path: Path) -> None:
    remove = repository / "code/b.py"
    remove.unlink()
    (repository / "new").mkdir()
    (repository / "new/run.sh").write_text("echo\n")
    (repository / "new/run.sh").chmod(0o755)
    (repository / "image.bin").write_bytes(os.urandom(1000))
    found = capture(repository, tmp_path / "run")
    assert check_out(SourceState(found, tmp_path / "run"), repository, tmp_path / "again") == ()
    shutil.rmtree(repository / ".git")
    for path in repository.rglob("*"):
        again = tmp_path / "again" / path.relative_to(repository)
        if path.is_file():
            assert again.read_bytes() == path.read_bytes() and os.access(again, os.X_OK) == os.access(path, os.X_OK)
    assert not (tmp_path / "again/code/b.py").exists()
