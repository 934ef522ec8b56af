"""A dirty run never looks clean, and what its commit lacks can be put back."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from captured_source import capture, git, reason, sha256, tree_of

from provenance.capture import source
from provenance.capture.patch_redaction import holds_secret, redact_patch
from provenance.errors import StorageError

pytestmark = pytest.mark.usefixtures("own_git_settings")

ROOT = Path(__file__).parents[3]
HOSTILE_CONFIGURATION = """
[color] ui = always
[diff]
 noprefix = true
 mnemonicPrefix = true
 external = {script}
 context = 0
 interHunkContext = 9
 renames = copies
 algorithm = histogram
 submodule = log
 ignoreSubmodules = all
 suppressBlankEmpty = true
 relative = true
 orderFile = {order}
 indentHeuristic = true
[diff "shouting"] textconv = tr a-z A-Z <
 command = {script}
[core]
 quotePath = false
 fsmonitor = {script}
 checkStat = minimal
 trustctime = false
 pager = {script}
[status]
 showUntrackedFiles = no
 relativePaths = true
 renames = copies
"""


def test_a_clean_tree(repository: Path) -> None:
    git(repository, "tag", "v1")
    found = capture(repository / "code")
    assert found["commit"] == git(repository, "rev-parse", "HEAD")
    assert found["tree"] == git(repository, "rev-parse", "HEAD^{tree}")
    assert found["branch"] == "main" and found["describe"].startswith("v1-0-g")
    assert found["root"] == str(repository)
    assert found["dirty"] is False and list(found["patch"]) == ["none"]
    assert found["changed"]["count"] == 0 and found["untracked"] == {"copied": [], "left_out": []}
    assert found["shallow"] is False and found["remotes"] == {} and found["unwatched"] == []


DIRT: dict[str, Callable[[Path], object]] = {
    "modified": lambda top: (top / "notes.md").write_text("other\n"),
    "same size, same time": lambda top: same_size_and_time(top / "notes.md"),
    "staged": lambda top: ((top / "notes.md").write_text("other\n"), git(top, "add", "-A")),
    "staged and taken back": lambda top: (
        (top / "notes.md").write_text("other\n"),
        git(top, "add", "-A"),
        (top / "notes.md").write_text("notes\n"),
    ),
    "deleted": lambda top: (top / "notes.md").unlink(),
    "executable": lambda top: (top / "notes.md").chmod(0o755),
    "another link": lambda top: ((top / "link").unlink(), (top / "link").symlink_to("dos.txt")),
    "renamed": lambda top: git(top, "mv", "notes.md", "moved.md"),
    "added": lambda top: ((top / "new.py").touch(), git(top, "add", "-A")),
    "meant to be added": lambda top: ((top / "new.py").write_text("x"), git(top, "add", "-N", "new.py")),
    "untracked": lambda top: (top / "new.py").touch(),
    "untracked in a new folder": lambda top: ((top / "new").mkdir(), (top / "new/x.py").touch()),
    "untracked repository": lambda top: git(top, "init", "-q", "inner"),
}


def same_size_and_time(path: Path) -> None:
    before = path.stat()
    path.write_text("nodes\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("dirt", DIRT)
def test_dirt_is_seen(repository: Path, dirt: str, own_git_settings: Path) -> None:
    assert capture(repository)["dirty"] is False, "the control"
    DIRT[dirt](repository)
    assert capture(repository)["dirty"] is True
    with own_git_settings.open("a") as settings:
        settings.write("[status]\n showUntrackedFiles = no\n[core]\n checkStat = minimal\n trustctime = false\n")
    assert capture(repository)["dirty"] is True


@pytest.mark.parametrize("flag", ["--assume-unchanged", "--skip-worktree"])
def test_files_that_git_was_told_not_to_watch_are_watched(repository: Path, flag: str) -> None:
    git(repository, "update-index", flag, "notes.md")
    found = capture(repository)
    assert found["dirty"] is False
    assert found["unwatched"] == [{"path": "notes.md", "how": flag.removeprefix("--")}]
    (repository / "notes.md").write_text("other\n")
    assert git(repository, "status", "--porcelain") == "", "the control: git itself sees nothing"
    found = capture(repository)
    assert found["dirty"] is True and found["changed"]["files"] == [{"path": "notes.md", "how": "modified"}]
    assert git(repository, "status", "--porcelain") == "", "the index itself is as it was"


def test_a_sparse_checkout_is_not_dirty(repository: Path) -> None:
    git(repository, "sparse-checkout", "set", "code")
    assert not (repository / "notes.md").exists() or git(repository, "ls-files", "-v", "code/a.py").startswith("H")
    found = capture(repository)
    assert found["dirty"] is False


def test_a_replaced_commit_does_not_hide_a_change(repository: Path) -> None:
    commit, tree = git(repository, "rev-parse", "HEAD"), git(repository, "rev-parse", "HEAD^{tree}")
    (repository / "notes.md").write_text("other\n")
    git(repository, "add", "-A")
    git(repository, "replace", commit, git(repository, "commit-tree", git(repository, "write-tree"), "-m", "x"))
    assert git(repository, "status", "--porcelain") == "", "the control: git itself sees nothing"
    found = capture(repository)
    assert (found["commit"], found["tree"], found["dirty"]) == (commit, tree, True)


def make_dirty(top: Path) -> None:
    (top / "code/a.py").write_text("one\nTWO\nthree\n\nfour\nfive\nsix\n")
    git(top, "add", "-A")
    (top / "code/a.py").write_text("one\nTWO\nthree\n\nfour\nfive\nSIX")
    (top / "code/naïve name.txt").write_text("čeština")
    (top / "dos.txt").write_bytes(b"a\r\nc\r\n")
    (top / "image.bin").write_bytes(bytes(range(255, -1, -1)) * 4)
    git(top, "mv", "notes.md", "code/notes moved.md")
    (top / "link").unlink()
    (top / "link").symlink_to("code/notes moved.md")
    (top / "code/b.py").unlink()
    (top / ".gitignore").chmod(0o755)
    for name in ("new/ünî code.py", "new/deep/er.txt", "script.sh", os.fsdecode(b"by\xfftes.txt"), "empty"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_bytes(b"" if name == "empty" else name.encode("utf-8", "surrogateescape"))
    (top / "new/blob.bin").write_bytes(b"\0\1\2" * 100)
    (top / "script.sh").chmod(0o755)
    (top / "ignored").mkdir()
    (top / "ignored/x").write_text("stays here")


def test_patch_and_untracked_files_bring_a_fresh_clone_to_the_same_tree(repository: Path, tmp_path: Path) -> None:
    make_dirty(repository)
    run = tmp_path / "run"
    found = capture(repository, run)
    assert found["patch"]["redacted"] is False
    assert found["patch"]["sha256"] == sha256((run / "source.patch").read_bytes())
    fresh = tmp_path / "fresh"
    git(tmp_path, "clone", "-q", str(repository), str(fresh))
    git(fresh, "checkout", "-q", found["commit"])
    wanted = {name: entry for name, entry in tree_of(repository).items() if not name.startswith("ignored/")}
    assert tree_of(fresh) != wanted, "the control: without the patch it differs"
    git(fresh, "apply", str(run / "source.patch"))
    assert tree_of(fresh) != wanted, "the control: without the untracked files it differs"
    shutil.copytree(run / "untracked", fresh, dirs_exist_ok=True)
    assert tree_of(fresh) == wanted
    copied = {entry["path"]: entry for entry in found["untracked"]["copied"]}
    assert set(copied) == {"new/ünî code.py", "new/deep/er.txt", "script.sh", "empty", "new/blob.bin"}
    assert copied["new/blob.bin"]["sha256"] == sha256(b"\0\1\2" * 100)


def test_no_setting_and_no_attribute_changes_the_patch(
    repository: Path, tmp_path: Path, own_git_settings: Path
) -> None:
    (repository / ".gitattributes").write_text("*.txt diff=shouting\n")
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "attributes")
    make_dirty(repository)
    plain = capture(repository, tmp_path / "plain")
    script, ran = tmp_path / "script", tmp_path / "ran"
    script.write_text(f"#!/bin/sh\ntouch '{ran}'\nexit 0\n")
    script.chmod(0o755)
    (tmp_path / "order").write_text("image.bin\nlink\n")
    with own_git_settings.open("a") as settings:
        settings.write(HOSTILE_CONFIGURATION.format(script=script, order=tmp_path / "order"))
    hostile = capture(repository, tmp_path / "hostile")
    assert {**hostile, "patch": plain["patch"]} == plain
    assert (tmp_path / "hostile/source.patch").read_bytes() == (tmp_path / "plain/source.patch").read_bytes()
    assert not ran.exists()
    git(repository, "--no-pager", "diff", "HEAD")
    assert ran.exists(), "the control: git itself obeys the configuration"


def test_no_variable_leads_elsewhere(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other"
    git(tmp_path, "init", "-q", str(other))
    make_dirty(repository)
    before = capture(repository)
    for name, value in {
        "GIT_DIR": str(other / ".git"),
        "GIT_WORK_TREE": str(other),
        "GIT_INDEX_FILE": str(tmp_path / "no-index"),
        "GIT_COMMON_DIR": str(other / ".git"),
        "GIT_OBJECT_DIRECTORY": str(other / ".git/objects"),
        "GIT_EXTERNAL_DIFF": "false",
        "GIT_DIFF_OPTS": "-u0",
        "GIT_PREFIX": "code/",
    }.items():
        monkeypatch.setenv(name, value)
    assert capture(repository) == before


def test_a_path_with_shell_and_git_meaning_is_a_path(repository: Path, tmp_path: Path) -> None:
    odd = tmp_path / "-C $(touch x); --help"
    repository.rename(odd)
    assert capture(odd)["dirty"] is False


def test_looking_writes_nothing_to_the_repository(repository: Path) -> None:
    os.utime(repository / "notes.md", (1, 1))  # git would note in its index that only the time changed
    before = {path: path.stat().st_mtime_ns for path in (repository / ".git").rglob("*")}
    assert capture(repository)["dirty"] is False
    assert {path: path.stat().st_mtime_ns for path in (repository / ".git").rglob("*")} == before
    git(repository, "status")
    assert {path: path.stat().st_mtime_ns for path in (repository / ".git").rglob("*")} != before, "the control"


def test_secrets_are_in_no_file_and_no_field(repository: Path, tmp_path: Path) -> None:
    (repository / "code/a.py").write_text("one\nAPI_KEY = 'hunter2hunter2'\nthree\n")
    (repository / "settings.env").write_bytes(b"DB_PASSWORD=hunter2hunter2\nNAME=v\xe1clav\n")
    (repository / "wide.env").write_text("DB_PASSWORD=hunter2hunter2\n", encoding="utf-16")
    git(repository, "remote", "add", "origin", "https://me:hunter2hunter2@example.org/x.git")
    patch = subprocess.run(
        ["git", "-C", repository, "diff", "--binary", "--full-index", "HEAD"], check=True, capture_output=True
    ).stdout
    found = capture(repository, tmp_path / "run")
    assert found["remotes"] == {"origin": "https://[redacted:url-userinfo]@example.org/x.git"}
    assert found["patch"]["redacted"] is True
    assert found["patch"]["unredacted"] == {"bytes": len(patch), "sha256": sha256(patch)}
    assert all(entry["redacted"] for entry in found["untracked"]["copied"])
    assert (
        tmp_path / "run/untracked/settings.env"
    ).read_bytes() == b"DB_PASSWORD=[redacted:password]\nNAME=v\xe1clav\n"
    written = b"".join(path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file())
    assert b"hunter2" in patch and b"hunter2" not in written
    assert "hunter2".encode("utf-16-le") not in written
    assert "hunter2" not in json.dumps(found)
    git(repository, "checkout", "-q", "code/a.py")
    git(repository, "apply", str(tmp_path / "run/source.patch"))
    assert "API_KEY = '[redacted:api-key]'" in (repository / "code/a.py").read_text()


def test_redaction_leaves_binary_parts_of_a_patch_alone() -> None:
    head = b"diff --git a/x b/x\nindex 1..2\n"
    binary = head + b"GIT binary patch\nliteral 9\nzcmZ{password=abcdefgh\n\n"
    text = head + b"--- a/x\n+++ b/x\n@@ -1 +1 @@\n-one\n+password=b\n"
    assert not holds_secret(binary) and holds_secret(text) and holds_secret(binary + text)
    assert redact_patch("x", binary, b"", b"") == (binary, "")
    assert redact_patch("x", text, b"one\n", b"password=b\n") == (text.replace(b"=b", b"=[redacted:password]"), "")


def test_a_patch_over_its_share_is_left_out_and_named(repository: Path, tmp_path: Path) -> None:
    (repository / "notes.md").write_text("x" * 3000)
    patch = subprocess.run(
        ["git", "-C", repository, "diff", "--binary", "--full-index", "HEAD"], check=True, capture_output=True
    ).stdout
    found = capture(repository, tmp_path / "run", limit_bytes=3000)
    left = found["patch"]["left_out"]
    assert (left["bytes"], left["sha256"]) == (len(patch), sha256(patch)) and "larger than 3000" in left["reason"]
    assert not (tmp_path / "run/source.patch").exists() and found["dirty"] is True
    assert capture(repository, tmp_path / "run", limit_bytes=4000)["patch"]["file"] == "source.patch"


def test_a_large_change_does_not_take_the_others_with_it(repository: Path, tmp_path: Path) -> None:
    (repository / "notes.md").write_text("x" * 3000)
    (repository / "dos.txt").unlink()
    found = capture(repository, tmp_path / "run", limit_bytes=1000)
    (omitted,) = found["patch"]["omitted"]["files"]
    assert (omitted["path"], omitted["bytes"], omitted["sha256"]) == ("notes.md", 3000, sha256(b"x" * 3000))
    assert found["patch"]["omitted"]["count"] == 1 and "larger than 1000" in omitted["reason"]
    git(repository, "checkout", "-q", ".")
    git(repository, "apply", str(tmp_path / "run/source.patch"))
    assert not (repository / "dos.txt").exists()


def test_untracked_files_over_their_share_are_left_out_and_named(repository: Path, tmp_path: Path) -> None:
    for name, size in {"big": 300, **{f"small{n}": 190 for n in range(6)}, "tiny": 10}.items():
        (repository / name).write_bytes(b"x" * size)
    untracked = capture(repository, tmp_path / "run", limit_bytes=1000)["untracked"]
    assert [entry["path"] for entry in untracked["copied"]] == [*(f"small{n}" for n in range(5)), "tiny"]
    big, last = untracked["left_out"]
    assert big == {"path": "big", "bytes": 300, "sha256": sha256(b"x" * 300), "reason": "larger than 200 bytes"}
    assert last["path"] == "small5" and "1000 bytes for untracked files are used up" in last["reason"]
    assert not (tmp_path / "run/untracked/big").exists()


def test_what_is_no_plain_file_is_named_and_not_followed(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("outside the tree")
    (repository / "out").symlink_to(tmp_path / "outside")
    (repository / "folder").symlink_to(tmp_path)
    (repository / "gone").symlink_to("nowhere")
    (repository / "keys.p12").write_bytes(b"\0secret")
    git(repository, "init", "-q", "inner")
    (repository / "inner/x.py").touch()
    untracked = capture(repository, tmp_path / "run")["untracked"]
    assert untracked["copied"] == []
    reasons = {entry["path"]: entry["reason"] for entry in untracked["left_out"]}
    assert reasons == {
        "out": f"a symbolic link to {str(tmp_path / 'outside')!r}, not followed",
        "folder": f"a symbolic link to {str(tmp_path)!r}, not followed",
        "gone": "a symbolic link to 'nowhere', not followed",
        "inner/": "a git repository of its own",
        "keys.p12": "its name says that it holds credentials",
    }
    assert not any(path.is_symlink() for path in (tmp_path / "run").rglob("*"))


def test_thousands_of_files_left_out_are_summed_up(repository: Path) -> None:
    (repository / "data").mkdir()
    for number in range(1003):
        (repository / f"data/{number:04}").write_bytes(b"ab")
    untracked = capture(repository)["untracked"]
    assert len(untracked["left_out"]) == 1000
    assert untracked["left_out"][0]["reason"] == "no folder was given to copy it to"
    assert (untracked["left_out_too"]["files"], untracked["left_out_too"]["bytes"]) == (3, 6)


def test_the_run_folder_in_the_tree_is_no_dirt(repository: Path) -> None:
    run = repository / "runs/first"
    run.mkdir(parents=True)
    (run / "request.json").write_text("{}")
    found = capture(repository, run)
    assert found["dirty"] is False and found["excluded"] == [{"path": "runs/first", "reason": "the run itself"}]
    assert capture(repository, run)["dirty"] is False
    (repository / "runs/ledger.jsonl").touch()
    assert capture(repository, run)["dirty"] is True
    assert capture(repository, run, exclude=[repository / "runs"])["dirty"] is False
    (repository / "runs.py").touch()
    assert capture(repository, run, exclude=[repository / "runs"])["dirty"] is True


def test_what_lay_in_the_run_folder_is_replaced(repository: Path, tmp_path: Path) -> None:
    (repository / "first.py").touch()
    capture(repository, tmp_path / "run")
    (repository / "first.py").rename(repository / "second.py")
    capture(repository, tmp_path / "run")
    assert [path.name for path in (tmp_path / "run/untracked").iterdir()] == ["second.py"]


def test_a_stale_patch_does_not_stay(repository: Path, tmp_path: Path) -> None:
    (repository / "notes.md").write_text("other\n")
    capture(repository, tmp_path / "run")
    git(repository, "checkout", "-q", "notes.md")
    assert list(capture(repository, tmp_path / "run")["patch"]) == ["none"]
    assert not (tmp_path / "run/source.patch").exists()


def test_a_run_folder_that_cannot_be_written_is_an_error(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert capture(repository)["dirty"] is False
    (repository / "notes.md").write_text("other\n")
    with pytest.raises(StorageError, match="file"):
        source.capture(repository, tmp_path / "file/run")


def test_submodules(repository: Path, tmp_path: Path) -> None:
    library = tmp_path / "library"
    shutil.copytree(repository, library)
    git(repository, "submodule", "add", "-q", str(library), "lib")
    git(repository, "commit", "-q", "-m", "with a library")
    first = git(library, "rev-parse", "HEAD")
    found = capture(repository)
    assert found["dirty"] is False and found["submodules"] == {"dirty": False, "changed": []}
    (repository / "lib/new.py").write_text("new = 1\n")
    found = capture(repository, tmp_path / "run")
    (module,) = found["submodules"]["changed"]
    assert (found["dirty"], module["path"], module["how"], module["commit"]) == (True, "lib", "untracked files", first)
    assert (tmp_path / "run/submodules/lib/untracked/new.py").read_text() == "new = 1\n"
    (repository / "lib/notes.md").write_text("x")
    git(repository / "lib", "commit", "-q", "--allow-empty", "-m", "x")
    moved = git(repository / "lib", "rev-parse", "HEAD")
    found = capture(repository, tmp_path / "run")
    (module,) = found["submodules"]["changed"]
    assert (module["how"], module["commit"]) == ("another commit, changed files, untracked files", moved)
    patch = (tmp_path / "run/source.patch").read_text()
    assert f"-Subproject commit {first}\n+Subproject commit {moved}\n" in patch
    assert "+x\n" in (tmp_path / "run/submodules/lib/source.patch").read_text()
    assert capture(repository / "lib")["dirty"] is True
    shutil.rmtree(repository / "lib")
    shutil.copytree(library, repository / "lib", ignore=shutil.ignore_patterns(".git"))
    found = capture(repository, tmp_path / "run")
    assert found["submodules"]["changed"][0]["how"] == "files without their repository" and found["dirty"] is True
    assert not (tmp_path / "run/submodules").exists(), "what an earlier attempt captured is gone"


def test_a_submodule_that_is_not_checked_out_is_no_change(repository: Path, tmp_path: Path) -> None:
    library = tmp_path / "library"
    shutil.copytree(repository, library)
    git(repository, "submodule", "add", "-q", str(library), "lib")
    git(repository, "commit", "-q", "-m", "with a library")
    git(tmp_path, "clone", "-q", str(repository), "clone")
    assert list((tmp_path / "clone/lib").iterdir()) == []
    assert capture(tmp_path / "clone")["dirty"] is False


def test_a_repository_inside_is_named_with_its_commit(repository: Path) -> None:
    shutil.copytree(repository, repository.parent / "copy", symlinks=True)
    (repository.parent / "copy").rename(repository / "inner")
    found = capture(repository)
    (entry,) = found["untracked"]["left_out"]
    assert (entry["path"], entry["commit"]) == ("inner/", git(repository, "rev-parse", "HEAD"))
    assert "its files were not compared" in entry["dirty"]["unavailable"]
    assert found["dirty"] is True


def test_not_a_repository(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing/folder"):
        found = capture(folder, tmp_path / "run", packages=[ROOT / "provenance"])
        assert all(reason(found, field) for field in ("commit", "dirty", "patch", "untracked"))
        assert found["dirty"], "in doubt it counts as dirty"
        assert found["code"]["files"] > 10, "the digest of the code needs no git"
    assert "not a git repository" in reason(capture(tmp_path), "commit")


def test_git_is_not_installed(repository: Path) -> None:
    code = (
        "import sys, json, pathlib; from provenance.capture import source; path = pathlib.Path(sys.argv[1]);"
        "print(json.dumps([source.capture(path, None) for _ in range(2)]))"
    )
    for variables in ({}, {"GIT_TRACE": "0"}):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code, str(repository)],
            cwd=ROOT,
            env={"PATH": "/nowhere", "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", **variables},
            capture_output=True,
            check=True,
        )
        for found in json.loads(done.stdout):
            assert reason(found, "commit") == reason(found, "dirty") == "git is not installed"


def test_no_commit_yet(tmp_path: Path) -> None:
    top = tmp_path / "new"
    git(tmp_path, "init", "-q", str(top))
    found = capture(top, tmp_path / "run")
    assert "no commit yet on branch main" in reason(found, "commit")
    assert found["branch"] == "main" and found["dirty"] is False
    (top / "a.py").write_text("a\n")
    assert capture(top, tmp_path / "run")["dirty"] is True
    git(top, "add", "-A")
    found = capture(top, tmp_path / "run")
    assert found["dirty"] is True and b"+a\n" in (tmp_path / "run/source.patch").read_bytes()


def test_bare(repository: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", "--bare", str(repository), "bare.git")
    found = capture(tmp_path / "bare.git")
    assert found["commit"] == git(repository, "rev-parse", "HEAD")
    assert "bare repository has no work tree" in reason(found, "dirty")
    assert "inside of a git folder" in reason(capture(repository / ".git"), "dirty")


def test_shallow_and_detached(repository: Path, tmp_path: Path) -> None:
    git(repository, "commit", "-q", "--allow-empty", "-m", "second")
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{repository}", "shallow")
    found = capture(tmp_path / "shallow")
    assert found["shallow"] is True and found["dirty"] is False and found["branch"] == "main"
    git(tmp_path / "shallow", "checkout", "-q", "--detach")
    assert capture(tmp_path / "shallow")["branch"] == "detached"


def test_a_linked_work_tree(repository: Path, tmp_path: Path) -> None:
    git(repository, "worktree", "add", "-q", str(tmp_path / "linked"), "-b", "other")
    assert capture(tmp_path / "linked")["dirty"] is False
    git(tmp_path / "linked", "update-index", "--assume-unchanged", "notes.md")
    (tmp_path / "linked/notes.md").write_text("other\n")
    found = capture(tmp_path / "linked")
    assert (found["branch"], found["dirty"], found["root"]) == ("other", True, str(tmp_path / "linked"))


def test_an_unreadable_index_hides_nothing(repository: Path, tmp_path: Path) -> None:
    (repository / ".git/index").write_bytes(b"no index")
    found = capture(repository, tmp_path / "run")
    assert found["commit"] == git(repository, "rev-parse", "HEAD")
    assert "index" in reason(found, "unwatched") and found["dirty"] is False
    (repository / "notes.md").write_text("other\n")
    (repository / "new.py").write_text("new = 1\n")
    found = capture(repository, tmp_path / "run")
    assert found["dirty"] is True and found["changed"]["files"] == [{"path": "notes.md", "how": "modified"}]
    assert b"+other\n" in (tmp_path / "run/source.patch").read_bytes()
    assert (tmp_path / "run/untracked/new.py").read_text() == "new = 1\n"


def remove_object(repository: Path, name: str) -> None:
    oid = git(repository, "rev-parse", name)
    (repository / ".git/objects" / oid[:2] / oid[2:]).unlink()


@pytest.mark.parametrize("missing", ["HEAD", "HEAD:", "HEAD:code"])
def test_where_the_commit_cannot_be_read_the_rest_is_captured(repository: Path, tmp_path: Path, missing: str) -> None:
    commit = git(repository, "rev-parse", "HEAD")
    remove_object(repository, missing)
    found = capture(repository, tmp_path / "run")
    assert found["commit"] == commit and reason(found, "dirty"), "nobody knows what the commit holds"
    (repository / "notes.md").write_text("other\n")
    (repository / "new.py").write_text("new = 1\n")
    found = capture(repository, tmp_path / "run")
    assert found["changed"]["files"] == [{"path": "notes.md", "how": "modified"}] and reason(found, "dirty")
    assert "the index, because of the commit" in found["changed"]["against"]
    assert b"-notes\n+other\n" in (tmp_path / "run/source.patch").read_bytes()
    assert (tmp_path / "run/untracked/new.py").read_text() == "new = 1\n"


def test_a_missing_blob_loses_no_other_file(repository: Path, tmp_path: Path) -> None:
    remove_object(repository, "HEAD:code/a.py")
    (repository / "code/a.py").write_text("all of it\n")
    (repository / "notes.md").write_text("other\n")
    found = capture(repository, tmp_path / "run")
    assert found["dirty"] is True and found["patch"]["whole_files"] == ["code/a.py"]
    patch = (tmp_path / "run/source.patch").read_bytes()
    assert b"+all of it\n" in patch and b"-notes\n+other\n" in patch


def test_a_broken_repository(repository: Path) -> None:
    commit = git(repository, "rev-parse", "HEAD")
    shutil.rmtree(repository / ".git/objects")
    (repository / ".git/objects").mkdir()
    found = capture(repository)
    assert found["commit"] == commit and "unavailable" in found["tree"] and reason(found, "dirty")
    (repository / ".git/refs/heads/main").write_text("rubbish")
    assert "HEAD is damaged" in reason(capture(repository), "commit")
    (repository / ".git/HEAD").write_text("rubbish")
    assert reason(capture(repository), "commit")


def test_a_repository_of_another_user(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert capture(repository)["dirty"] is False, "the control"
    if os.getuid() == 0:
        for path in [repository, *repository.rglob("*")]:
            os.chown(path, 65534, 65534, follow_symlinks=False)
    else:
        monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    found = capture(repository)
    assert "another user (dubious ownership)" in reason(found, "commit") and found["dirty"]
    git(repository.parent, "config", "--global", "--add", "safe.directory", str(repository))
    assert capture(repository)["dirty"] is False


def test_a_package_installed_below_a_repository_is_not_its_source(repository: Path) -> None:
    site = repository / "ignored/lib/site-packages/ndrepro"
    site.mkdir(parents=True)
    assert "ignored by the git repository" in reason(capture(site), "commit")
    new = repository / "new"
    new.mkdir()
    assert capture(new)["commit"] == git(repository, "rev-parse", "HEAD"), "the control"
    git(repository, "add", "-f", "code")
    (repository / ".gitignore").write_text("code/\n")
    assert capture(repository / "code")["dirty"] is True, "tracked all the same"


def test_a_talkative_filter_stops_nobody(repository: Path) -> None:
    (repository / ".gitattributes").write_text("*.md filter=loud\n")
    git(repository, "config", "filter.loud.clean", "head -c 300000 /dev/zero | tr '\\0' x >&2; cat")
    (repository / "notes.md").write_text("other\n")
    assert capture(repository)["patch"]["left_out"]["reason"] == "no folder was given to write it to"


def test_a_file_that_vanishes_or_grows_is_named(repository: Path, tmp_path: Path) -> None:
    from provenance.capture.untracked_copies import capture_untracked

    (repository / "here").write_text("x")
    found = capture_untracked(repository, ["here", "vanished", "no/folder"], tmp_path / "run", 1000)
    assert [entry["path"] for entry in found["copied"]] == ["here"]
    assert all("No such file" in entry["reason"] for entry in found["left_out"]) and len(found["left_out"]) == 2


def test_a_link_above_a_file_is_not_followed(repository: Path, tmp_path: Path) -> None:
    from provenance.capture.untracked_copies import capture_untracked

    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").write_text("outside the tree")
    (repository / "folder").symlink_to(tmp_path / "outside")
    found = capture_untracked(repository, ["folder/file"], tmp_path / "run", 1000)
    assert found["copied"] == [] and "cannot be read" in found["left_out"][0]["reason"]


def test_package_digest_is_that_of_sha256sum(tmp_path: Path) -> None:
    package = tmp_path / "pack age"
    for name in ("b.py", "a.py", "sub/c.py", "sub/ž.py"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(name)
    (package / "data.txt").write_text("no code")
    command = "find 'pack age' -name '*.py' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum"
    expected = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, check=True, text=True).stdout
    assert source.package_digest([package]) == {"tree_sha256": expected.split()[0], "files": 4}
    (package / "data.txt").write_text("still none")
    assert source.package_digest([package])["tree_sha256"] == expected.split()[0]
    (package / "sub/c.py").write_text("changed")
    assert source.package_digest([package])["tree_sha256"] != expected.split()[0]


def test_package_digest_follows_imports_and_not_circles(tmp_path: Path) -> None:
    package, elsewhere = tmp_path / "p", tmp_path / "elsewhere"
    package.mkdir()
    elsewhere.mkdir()
    (elsewhere / "m.py").write_text("1")
    (package / "linked").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(package)
    (package / ".#lock.py").symlink_to("nowhere")
    before = source.package_digest([package])
    assert before["files"] == 1
    (elsewhere / "m.py").write_text("2")
    assert source.package_digest([package]) != before


def test_package_digest_says_why_not(tmp_path: Path) -> None:
    assert "not a folder" in source.package_digest([tmp_path / "missing"])["unavailable"]
    (tmp_path / "a/p").mkdir(parents=True)
    (tmp_path / "a/p/x.py").touch()
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert "listed twice" in source.package_digest([tmp_path / "a/p", tmp_path / "b/p"])["unavailable"]
    (tmp_path / "a/p/gone.py").symlink_to("nowhere")
    assert "unavailable" in source.package_digest([tmp_path / "a/p"])
