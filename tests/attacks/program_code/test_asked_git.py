"""Honest programs that ask git which code they are, and authors who would hide results where only git shows them.

The private folder in which a program is repeated is a repository made for it (``provenance.comparison``).
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from captured_source import git
from strange_programs import CONFINED, Stranger, statuses

from ndrepro import api

ASKS = """
import subprocess
def ask(*words):
    done = subprocess.run(["git", *words], capture_output=True, text=True)
    return f"{words}: {done.returncode} {done.stdout} {done.stderr}"
QUESTIONS = %s
open("out.txt", "w").write("\\n".join(ask(*words.split()) for words in QUESTIONS))
"""
QUESTIONS = [
    "rev-parse HEAD",
    "rev-parse --short HEAD",
    "rev-parse --abbrev-ref HEAD",
    "rev-parse HEAD^{tree}",
    "symbolic-ref --short HEAD",
    "branch --show-current",
    "status --porcelain",
    "status --short --branch",
    "describe --always --dirty",
    "describe --tags --long --dirty --match *[0-9]*",
    "log -1 --format=%H,%an,%ae,%ad,%s",
    "log --oneline",
    "rev-list --count HEAD",
    "diff HEAD",
    "diff --quiet",
    "ls-files",
    "ls-tree -r HEAD",
    "show HEAD:train.py",
    "config --get remote.origin.url",
]


def asking(*questions: str) -> str:
    return ASKS % repr(questions or QUESTIONS)


def because(found: api.Reproduction) -> str:
    return f"{found.judgements[0].because}\n{found.plan.differences}"


def test_a_clean_checkout_answers_as_it_did(tmp_path: Path) -> None:
    """Before: undecided, since the folder of a repetition was no repository; a link was said to be unchanged."""
    author = Stranger.make(tmp_path / "author", {"train.py": asking(), "data/a.txt": "1\n"})
    (author.root / "data" / "link").symlink_to("a.txt")
    author.git("add", "-A"), author.git("commit", "-qm", "a link")
    found = author.reproduce(author.record(outputs=("out.txt",)))
    assert found.verdict == "identical", because(found)
    assert "said to be unchanged" not in str(found.claims)


def change(author: Stranger) -> None:
    (author.root / "data" / "a.txt").write_text("2\n")


def add(author: Stranger) -> None:
    (author.root / "new" / "b").mkdir(parents=True)
    (author.root / "new" / "b" / "c.py").write_text("x = 1\n")


def remove(author: Stranger) -> None:
    (author.root / "data" / "a.txt").unlink()


def branch(author: Stranger) -> None:
    author.git("checkout", "-q", "-b", "feature/a-b")


def detach(author: Stranger) -> None:
    author.git("checkout", "-q", "--detach")


def commit(author: Stranger, number: int = 3) -> None:
    for each in range(number):
        author.git("commit", "-q", "--allow-empty", "-m", f"number {each}")


def tag(author: Stranger, *, words: tuple[str, ...] = ()) -> None:
    author.git("tag", *words, "v1.0")
    commit(author)


def annotate(author: Stranger) -> None:
    tag(author, words=("-a", "-m", "the first release"))


def tag_last(author: Stranger) -> None:
    commit(author)
    author.git("tag", "release 1".replace(" ", "-"))


def ignore_here(author: Stranger) -> None:
    (author.root / ".git" / "info" / "exclude").write_text("cache\n")
    (author.root / "cache").mkdir()
    (author.root / "cache" / "x").write_text("1\n")


def exclude_everywhere(author: Stranger) -> None:
    (author.root / "ignored").write_text("ignored.txt\n")
    author.git("config", "core.excludesFile", str(author.root / "ignored"))
    author.git("add", "ignored"), author.git("commit", "-qm", "ignored")
    (author.root / "ignored.txt").write_text("1\n")


STATES = [change, add, remove, branch, detach, commit, tag, annotate, tag_last, ignore_here, exclude_everywhere]


@pytest.mark.parametrize("state", STATES, ids=lambda state: str(state.__name__))
def test_other_states_answer_as_they_did(tmp_path: Path, state: Callable[[Stranger], object]) -> None:
    questions = [each for each in QUESTIONS if state is not remove or each != "diff HEAD"]
    author = Stranger.make(tmp_path / "author", {"train.py": asking(*questions), "data/a.txt": "1\n"})
    state(author)
    found = author.reproduce(author.record(outputs=("out.txt",)))
    assert found.verdict == "identical", because(found)


def test_a_tag_that_came_later_is_not_there(tmp_path: Path) -> None:
    """As of a release that is made when the paper is out."""
    author = Stranger.make(tmp_path / "author", {"train.py": asking()})
    tag(author)
    run = author.record(outputs=("out.txt",))
    author.git("tag", "v2.0"), author.git("tag", "-a", "-m", "the paper", "paper")
    found = author.reproduce(run)
    assert found.verdict == "identical", because(found)


def test_a_shallow_clone_is_named_and_knows_its_commit(tmp_path: Path) -> None:
    author = Stranger.make(tmp_path / "author", {"train.py": asking("rev-parse HEAD", "status --porcelain")})
    commit(author)
    run = author.record(outputs=("out.txt",))
    shallow = tmp_path / "shallow"
    subprocess.run(["git", "clone", "-q", "--depth", "2", f"file://{author.root}", shallow], check=True)
    found = author.reproduce(run, clone=False, repository=shallow)
    assert found.verdict == "identical", because(found)
    assert any("the history of the clone is shallow" in words for words in found.plan.differences)


def test_a_recorded_shallow_clone_has_its_commit(tmp_path: Path) -> None:
    author = Stranger.make(tmp_path / "author", {"train.py": asking("rev-list --count HEAD", "describe --always")})
    commit(author)
    whole = author.root.rename(tmp_path / "whole")
    subprocess.run(["git", "clone", "-q", "--depth", "1", f"file://{whole}", author.root], check=True)
    run = author.record(outputs=("out.txt",))
    found = author.reproduce(run, clone=False, repository=whole)
    assert found.verdict == "identical", because(found)


def test_results_in_the_commit_that_are_written_again_leave_the_status_clean(tmp_path: Path) -> None:
    text = asking("status --porcelain", "describe --always --dirty") + "open('results.txt', 'w').write('0.6')\n"
    author = Stranger.make(tmp_path / "author", {"train.py": text, "results.txt": "0.5"})
    found = author.reproduce(author.record(outputs=("out.txt", "results.txt")))
    assert found.verdict == "identical", because(found)


def test_a_work_tree_beside_its_repository_and_a_submodule_answer_as_they_did(tmp_path: Path) -> None:
    module = Stranger.make(tmp_path / "module", {"m.py": "x = 1\n"})
    text = asking("rev-parse HEAD", "status --porcelain", "-C module rev-parse HEAD", "-C module status --porcelain")
    author = Stranger.make(tmp_path / "author", {"train.py": text})
    author.git("worktree", "add", "-q", "-b", "side", str(tmp_path / "beside"))
    author.root.rename(tmp_path / "whole"), (tmp_path / "beside").rename(author.root)
    git(tmp_path / "whole", "worktree", "repair", str(author.root))
    author.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(module.root), "module")
    author.git("commit", "-qm", "a module")
    found = author.reproduce(author.record(outputs=("out.txt",)), clone=False, repository=author.root)
    assert found.verdict == "identical", because(found)
    (author.root / "module" / "m.py").write_text("x = 2\n")
    found = author.reproduce(author.record(outputs=("out.txt",)), clone=False, repository=author.root)
    assert found.verdict == "identical", because(found)


def test_files_of_git_s_own_that_a_library_reads_are_answers_too(tmp_path: Path) -> None:
    """As GitPython reads them, and with it W&B and MLflow. Before: missing inputs."""
    text = "print(open('.git/HEAD').read()); open('.git/config').close(); open('out.txt', 'w').write('0.6')\n"
    author = Stranger.make(tmp_path / "author", {"train.py": text})
    found = author.reproduce(author.record(outputs=("out.txt", "-")))
    assert found.verdict == "identical", because(found)
    assert statuses(found)["inputs"] == "checked"


def test_files_that_git_converts_and_inputs_that_it_ignores_leave_the_status_clean(tmp_path: Path) -> None:
    text = "print(open('cache/x.txt').read())\n" + asking("status --porcelain", "describe --always --dirty", "diff")
    author = Stranger.make(tmp_path / "author", {"train.py": text, ".gitattributes": "*.crlf text eol=crlf\n"})
    author.git("config", "core.autocrlf", "true")
    for name in ("a.crlf", "b.txt"):
        (author.root / name).write_bytes(b"1\r\n2\r\n")
    author.git("add", "."), author.git("commit", "-qm", "converted")
    ignore_here(author)
    (author.root / "cache" / "x.txt").write_text("1\n")
    run = author.record(outputs=("out.txt",))
    found = author.reproduce(run, data=author.root / "cache")
    assert found.verdict == "identical", because(found)


def test_names_of_sha_256_are_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as authors:
        authors.setenv("GIT_DEFAULT_HASH", "sha256")
        author = Stranger.make(tmp_path / "author", {"train.py": asking()})
    found = author.reproduce(author.record(outputs=("out.txt",)), clone=False, repository=author.root)
    assert found.verdict == "identical", because(found)


# results that git alone would show


def git_writes(*words: str) -> str:
    return f"import subprocess\nsubprocess.run({['git', *words]!r}, stdout=open('results.txt', 'w'))\n"


def in_history(author: Stranger) -> None:
    (author.root / "old.txt").write_text("accuracy 0.9999\n")
    author.git("add", "-A"), author.git("commit", "-qm", "old")
    author.git("rm", "-q", "old.txt"), author.git("commit", "-qm", "removed")


def in_message_of_tag(author: Stranger) -> None:
    author.git("tag", "-a", "-m", "accuracy 0.9999", "v1.0")


def in_stash_and_notes(author: Stranger) -> None:
    author.git("notes", "add", "-m", "accuracy 0.9999", "HEAD")


def in_other_branch(author: Stranger) -> None:
    in_history(author)
    author.git("branch", "other", "HEAD~1"), author.git("reset", "-q", "--hard", "HEAD~2")


def in_settings(author: Stranger) -> None:
    author.git("config", "x.accuracy", "0.9999")


def in_replaced_object(author: Stranger) -> None:
    (author.root / "code.txt").write_text("accuracy 0.9999\n")
    author.git("replace", author.git("rev-parse", "HEAD:notes.txt"), author.git("hash-object", "-w", "code.txt"))
    (author.root / "code.txt").unlink()


def in_length_of_names(author: Stranger) -> None:
    author.git("config", "core.abbrev", "9")


def in_removed_file(author: Stranger) -> None:
    (author.root / "notes.txt").unlink()


HIDDEN = [
    (lambda author: None, ("show", "HEAD:results.txt")),
    (in_history, ("show", "HEAD~1:old.txt")),
    (in_message_of_tag, ("for-each-ref", "--format=%(contents)", "refs/tags")),
    (in_stash_and_notes, ("notes", "show", "HEAD")),
    (in_other_branch, ("show", "other:old.txt")),
    (in_settings, ("config", "--get", "x.accuracy")),
    (in_replaced_object, ("show", "HEAD:notes.txt")),
    (in_length_of_names, ("rev-parse", "--short", "HEAD")),
    (in_removed_file, ("show", "HEAD:notes.txt")),
]


@pytest.mark.parametrize(("hide", "words"), HIDDEN)
def test_results_that_only_git_has_are_not_there(
    tmp_path: Path, hide: Callable[[Stranger], object], words: tuple[str, ...]
) -> None:
    files = {"train.py": git_writes(*words), "results.txt": "accuracy 0.9999\n", "notes.txt": "accuracy 0.51\n"}
    author = Stranger.make(tmp_path / "author", files)
    hide(author)
    run = author.record(outputs=("results.txt",))
    assert (author.root / "results.txt").read_text()
    found = author.reproduce(run, clone=False, repository=author.root)
    assert found.verdict != "identical", because(found)


def test_the_commit_s_version_of_a_changed_file_is_named(tmp_path: Path) -> None:
    author = Stranger.make(tmp_path / "author", {"train.py": git_writes("show", "HEAD:a"), "a": "accuracy 0.9999\n"})
    (author.root / "a").write_text("x\n")
    found = author.reproduce(author.record(outputs=("results.txt",)))
    (claim,) = (each for each in found.claims if each.name == "outputs computed")
    assert "results.txt is a in the commit" in claim.evidence


def of_commit(*change: str) -> Callable[[Stranger], None]:
    """Have HEAD's content changed, by one replacement."""

    def hide(author: Stranger) -> None:
        commit = (author.git("cat-file", "commit", "HEAD") + "\n").replace(*change, 1)
        author.git("update-ref", "HEAD", written(author, "commit", commit.encode()))

    return hide


def written(author: Stranger, kind: str, content: bytes) -> str:
    made = author.root / "runs"
    made.write_bytes(content)
    name = author.git("hash-object", "--literally", "-t", kind, "-w", str(made))
    made.unlink()
    return name


Write = Callable[[str, bytes], str]
TREES: dict[str, Callable[[bytes, Write], bytes]] = {
    "an empty folder": lambda tree, write: b"40000 .0.9999\0" + bytes.fromhex(write("tree", b"")) + tree,
    "another mode": lambda tree, write: tree.replace(b"100755 train.py", b"100775 train.py"),
    "a path twice": lambda tree, write: tree + b"100755 train.py\0" + bytes.fromhex(write("blob", SECOND)),
}
SECOND = b"open('results.txt', 'w').write('0.9999')\n"


COMMIT_AND_TREE = """
import subprocess
asked = [["cat-file", "-p", "HEAD"], ["ls-tree", "HEAD"]]
open("results.txt", "wb").write(b"".join(subprocess.check_output(["git", *words]) for words in asked))
"""
UNREAD: dict[str, tuple[Callable[[Stranger], None], str]] = {
    "an unknown header": (of_commit("\n\n", "\nresult 0.9999\n\n"), "header result (commits: 1)"),
    "an encoding": (of_commit("\n\n", "\nencoding cp0.9999\n\n"), "header encoding (commits: 1)"),
    "what is no signature": (of_commit("\n\n", "\ngpgsig 0.9999\n\n"), "header gpgsig (commits: 1)"),
    "a header that goes on": (of_commit("\n\n", "\n 0.9999\n\n"), "header  (commits: 1)"),
    "a message that ends": (of_commit("first", "first\0 0.9999"), "text after a NUL character (commits: 1)"),
    "blanks": (of_commit("first", "first \u200b 0.9999"), "characters that may not show (commits: 1)"),
    "selectors": (of_commit("first", "first 0.9999" + "\U000e0101" * 99), "characters that may not show (commits: 1)"),
    "blanks around a name": (of_commit("author a", "author 0.9999  "), "header author (commits: 1)"),
    "no time zone": (
        of_commit("committer", "committer 0.9999 <a> 1 -0000\ncommitter"),
        "header committer (commits: 1)",
    ),
    "lines before": (of_commit("\n\n", "\n\n\n\n0.9999"), "characters that may not show (commits: 1)"),
    "empty lines": (of_commit("first\n", "first 0.9999" + "\n" * 99), "characters that may not show (commits: 1)"),
    "text after the time zone": (of_commit("\ncommitter", " 0.9999\ncommitter"), "header author (commits: 1)"),
    "a committer": (of_commit("committer a", "committer 0.9999"), "another committer than its author"),
}


@pytest.mark.parametrize("what", UNREAD)
def test_what_a_commit_holds_and_git_log_does_not_show_is_named(tmp_path: Path, what: str) -> None:
    hide, said = UNREAD[what]
    author = Stranger.make(tmp_path / "author", {"train.py": COMMIT_AND_TREE})
    hide(author)
    run = author.record(outputs=("results.txt",))
    assert "0.9999" in (author.root / "results.txt").read_text(), "the control"
    found = author.reproduce(run)
    (claim,) = (each for each in found.claims if each.name == "outputs computed")
    assert found.verdict == "identical" and said in claim.evidence, (found.verdict, claim.evidence)


@pytest.mark.parametrize("how", TREES)
def test_trees_that_show_other_files_than_are_checked_out_are_named(tmp_path: Path, how: str) -> None:
    """Of a path that is there twice ``git show`` has the first, and a checkout the last. git clones all of them."""
    author = Stranger.make(tmp_path / "author", {"train.py": COMMIT_AND_TREE})
    command = ["git", "cat-file", "tree", "HEAD^{tree}"]
    tree = subprocess.run(command, cwd=author.root, check=True, capture_output=True).stdout
    changed = written(author, "tree", TREES[how](tree, lambda kind, content: written(author, kind, content)))
    of_commit(author.git("rev-parse", "HEAD^{tree}"), changed)(author)
    author.git("reset", "-q", "--hard")
    found = author.reproduce(author.record(outputs=("results.txt",)))
    (claim,) = (each for each in found.claims if each.name == "recorded code")
    assert (found.verdict, claim.status) == ("identical", "not checked"), found.verdict
    assert "the trees of the run's commit are not what git writes of these files" in claim.evidence


def test_of_an_ordinary_commit_nothing_is_named_but_its_branch(tmp_path: Path) -> None:
    author = Stranger.make(tmp_path / "author", {"train.py": git_writes("cat-file", "-p", "HEAD")})
    found = author.reproduce(author.record(outputs=("results.txt",)))
    (claim,) = (each for each in found.claims if each.name == "outputs computed")
    assert claim.evidence.endswith(f"gave it name fit, folder {author.root}, trail off, branch master")


@pytest.mark.skipif(not CONFINED, reason="outside of a sandbox it can be written")
def test_a_program_cannot_change_what_git_answers(tmp_path: Path) -> None:
    text = """
import os
def tried(function, *words):
    try:
        function(*words)
        return "written"
    except OSError as error:
        return error.strerror
if not os.path.exists(MARK):
    found = [tried(open, ".git/config", "a"), tried(os.rename, ".git", "other"), tried(os.mkdir, ".git/hooks")]
    assert found == ["Read-only file system", "Device or resource busy", "Read-only file system"], found
open("out.txt", "w").write("0.6")
"""
    mark = tmp_path / "author's machine"
    mark.touch()
    author = Stranger.make(tmp_path / "author", {"train.py": f"MARK = {str(mark)!r}\n{text}"})
    found = author.reproduce(author.record(outputs=("out.txt",)))
    assert found.verdict == "identical", because(found)


def test_no_program_that_the_lending_repository_names_is_executed(tmp_path: Path) -> None:
    """Nor one of recorded files in ``.git``, which the reviewer may have among the data."""
    mark = tmp_path / "executed"
    script = tmp_path / "program"
    script.write_text(f"#!/bin/sh\ntouch {mark}\n")
    script.chmod(0o755)
    text = "open('.git/config').read(); open('out.txt', 'w').write('0.6')\n"
    author = Stranger.make(tmp_path / "author", {"train.py": text, ".gitattributes": "* filter=evil diff=evil\n"})
    tag(author, words=("-a", "-m", "x"))
    settings = "core.fsmonitor core.editor filter.evil.clean filter.evil.smudge filter.evil.process gpg.program"
    for name in (*settings.split(), "diff.evil.textconv", "diff.external", "uploadpack.packObjectsHook"):
        author.git("config", name, str(script))
    for name, value in (("tag.gpgSign", "true"), ("core.hooksPath", str(tmp_path / "hooks"))):
        author.git("config", name, value)
    (tmp_path / "hooks").mkdir()
    for name in ("reference-transaction", "post-index-change", "post-checkout", "pre-commit"):
        (tmp_path / "hooks" / name).symlink_to(script)
    subprocess.run(["git", "status"], cwd=author.root, capture_output=True)
    assert mark.exists(), "they are executed where they are in force"
    mark.unlink()
    run = author.record(outputs=("out.txt",))
    found = author.reproduce(run, clone=False, repository=author.root, data=author.root / ".git")
    assert found.verdict == "identical" and not mark.exists(), because(found)


def test_a_repository_that_is_declared_as_data_answers_nothing(tmp_path: Path) -> None:
    author = Stranger.make(tmp_path / "author", {"train.py": git_writes("show", "other:old.txt")})
    in_other_branch(author)
    handed = tmp_path / "handed"
    run = author.record(outputs=("results.txt",), data=(Path(".git"),))
    subprocess.run(["cp", "-a", author.root / ".git", handed], check=True)
    found = author.reproduce(run, data=handed)
    assert found.verdict == "undecided", because(found)
