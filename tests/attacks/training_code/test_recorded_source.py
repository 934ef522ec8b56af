"""A record of training code shows its reviewer other text than is executed, or code that he has no reason to know.

Before, the claim "recorded code" was "checked" in each of these.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from captured_source import git
from compared_runs import recorded_source

from ndrepro.execution.reproduce import recorded_code as module
from ndrepro.execution.reproduce.code_execution import RecordedCode
from ndrepro.execution.reproduce.recorded_code import code_digest, recorded_code
from ndrepro.execution.reproduce.unread_source import unread_source
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.verdicts import ClaimCheck
from provenance.attestation.manifest import Manifest
from provenance.comparison.kept_source import differs
from provenance.comparison.recorded_tree import SourceState, check_out
from provenance.formats.digest import bytes_digest

HONEST, EVIL = "accuracy = 0.6\n", "accuracy = 0.9999\n"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The reviewer's checkout: two small packages of the project's names, in the place of its own code."""
    top = tmp_path / "checkout"
    for name in ("ndrepro/train.py", "provenance/c.py"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(HONEST)
    git(tmp_path, "init", "-q", str(top))
    git(top, "config", "user.name", "A")
    git(top, "config", "user.email", "a@example.org")
    commit(top)
    monkeypatch.setattr(module, "CODE", top)
    return top


def commit(top: Path) -> None:
    git(top, "add", "-A")
    git(top, "commit", "-q", "--allow-empty", "-m", "x")


def claim_on(found: Manifest, run: Path) -> ClaimCheck:
    with recorded_code(found, run) as rebuilt:
        return rebuilt.claim


def take_back(top: Path) -> None:
    git(top, "checkout", "-q", ".")
    git(top, "clean", "-qfd")


@pytest.fixture(params=["committed", "untracked"])
def yen(request: pytest.FixtureRequest, checkout: Path) -> Iterator[str]:
    """The attributes by which git writes a backslash where the commit and the patch show a yen sign."""
    (checkout / ".gitattributes").write_text("ndrepro/train.py working-tree-encoding=ISO646-JP\n")
    if request.param == "committed":
        commit(checkout)
    yield request.param


def test_a_patch_of_a_file_in_another_encoding(checkout: Path, tmp_path: Path, yen: str) -> None:
    run = tmp_path / "run"
    (checkout / "ndrepro/train.py").write_text('accuracy = "\\" if 0 else "; accuracy = 0.9999 #"\n')
    found = recorded_source(checkout, run)
    annotations: dict[str, Any] = dict(found.dependencies[0].annotations or {})
    patch = run / "source.patch"
    patch.write_text(patch.read_text().replace('+accuracy = "\\"', '+accuracy = "\u00a5"'))
    data = patch.read_bytes()
    annotations["patch"] = {**annotations["patch"], "sha256": bytes_digest(data), "bytes": len(data)}
    annotations["converted"] = {"count": 1, "files": ["ndrepro/train.py"], "settings": {}}
    found = replace(
        found, dependencies=(replace(found.dependencies[0], annotations=annotations), *found.dependencies[1:])
    )
    take_back(checkout)
    claim = claim_on(found, run)
    assert claim.status == "not checked" and "git converted what its commit shows" in claim.evidence
    assert "ndrepro/train.py" in claim.evidence


def test_line_ends_hide_no_other_conversion(checkout: Path, tmp_path: Path) -> None:
    """Before: sixty files with other line ends, of long names, stood before the one that is other code."""
    attributes = "zcode/train.py working-tree-encoding=ISO646-JP\ndocs/** text eol=crlf\n"
    (checkout / ".gitattributes").write_text(attributes)
    names = [f"docs/chapter-{number:02d}-on-something-that-is-explained-at-length.md" for number in range(60)]
    for name in (*names, "zcode/train.py"):
        (checkout / name).parent.mkdir(exist_ok=True)
        (checkout / name).write_bytes(b"one\r\n" if name in names else b'accuracy = "\\"\n')
    commit(checkout)
    found = recorded_source(checkout, tmp_path / "run")
    assert not differs(found.dependencies[0].annotations or {})
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(checkout), str(clone))
    state = SourceState(found.dependencies[0].annotations or {}, tmp_path / "run")
    (caveat,) = check_out(state, clone, tmp_path / "again")
    assert f"files: 61): zcode/train.py; in line ends alone: {names[0]}, {names[1]}, " in caveat


@pytest.mark.parametrize("place", ["ndrepro/train.py", "ndrepro", "ndrepro/train.py/a.py"])
def test_an_untracked_copy_in_the_place_of_a_tracked_file(checkout: Path, tmp_path: Path, place: str) -> None:
    """It replaced the commit's file, behind thirty other names of the plan."""
    run = tmp_path / "run"
    (checkout / "provenance/new.py").write_text("new = 1\n")
    found = recorded_source(checkout, run)
    take_back(checkout)
    assert claim_on(found, run).status == "checked", "the control: an honest untracked file"
    (run / "untracked" / place).parent.mkdir(parents=True, exist_ok=True)
    (run / "untracked" / place).write_text(EVIL)
    entry = {"path": place, "bytes": len(EVIL), "sha256": bytes_digest(EVIL.encode()), "redacted": False}
    annotations: dict[str, Any] = dict(found.dependencies[0].annotations or {})
    copies = {**annotations["untracked"], "copied": [*annotations["untracked"]["copied"], entry]}
    (checkout / "ndrepro/train.py").write_text(EVIL)
    (checkout / "provenance/new.py").write_text("new = 1\n")
    digest = code_digest(checkout)
    take_back(checkout)
    resources = (
        replace(found.dependencies[0], annotations={**annotations, "untracked": copies}),
        replace(found.dependencies[1], digest={"sha256": digest}),
    )
    claim = claim_on(replace(found, dependencies=resources), run)
    assert claim.status == "flagged" and "in the place of a tracked file" in claim.evidence


def test_names_that_differ_by_case_only(checkout: Path, tmp_path: Path) -> None:
    (checkout / "ndrepro/Train.py").write_text(EVIL)
    found = recorded_source(checkout, tmp_path / "run")
    take_back(checkout)
    claim = claim_on(found, tmp_path / "run")
    assert claim.status == "not checked" and "differ by case only" in claim.evidence


def test_a_commit_of_no_history_that_the_reviewer_has(checkout: Path, tmp_path: Path) -> None:
    """A fork's, which was fetched: its code is no more this project's than a patch is."""
    git(checkout, "checkout", "-q", "-b", "fork")
    (checkout / "ndrepro/train.py").write_text(EVIL)
    commit(checkout)
    found = recorded_source(checkout, tmp_path / "run")
    git(checkout, "checkout", "-q", "-")
    claim = claim_on(found, tmp_path / "run")
    assert claim.status == "not checked" and "not in this program's own history" in claim.evidence
    git(checkout, "merge", "-q", "fork")
    (checkout / "ndrepro/train.py").write_text(HONEST)
    commit(checkout)
    assert claim_on(found, tmp_path / "run").status == "checked", "the control: an earlier commit"


def test_an_earlier_commit_s_code_is_named(checkout: Path, tmp_path: Path) -> None:
    """It has the faults that were mended since, such as a reader's that takes one data set of two: "checked" alone."""
    found = recorded_source(checkout, tmp_path / "run")
    assert "earlier" not in claim_on(found, tmp_path / "run").evidence, "the control: this very commit"
    for name in ("ndrepro/train.py", "ndrepro/report/page.py", "README.md", "provenance/c.py"):
        (checkout / name).parent.mkdir(exist_ok=True)
        (checkout / name).write_text("mended = 1\n")
        commit(checkout)
    claim = claim_on(found, tmp_path / "run")
    assert claim.status == "checked"
    assert claim.evidence.endswith("; an earlier commit's code: 2 later commits here changed what trains")
    patched = tmp_path / "patched"
    (checkout / "ndrepro/report/page.py").write_text("other = 1\n")
    late = recorded_source(checkout, patched)
    take_back(checkout)
    assert "earlier" not in claim_on(late, patched).evidence, "a patch of this commit"


def test_no_digest_of_code_is_none_that_code_gives(checkout: Path, tmp_path: Path) -> None:
    """A link to nothing has no digest; before, that was equal to the one that was not recorded."""
    found = recorded_source(checkout, tmp_path / "run")
    (checkout / "ndrepro/gone.py").symlink_to("nothing.py")
    commit(checkout)
    annotations = {**(found.dependencies[0].annotations or {}), "commit": git(checkout, "rev-parse", "HEAD")}
    found = replace(found, dependencies=(replace(found.dependencies[0], annotations=annotations),))
    assert claim_on(found, tmp_path / "run").status == "flagged"


def unread(found: Manifest, run: Path) -> str:
    """What the claim says of files that nobody reads; "" where there is none."""
    with recorded_code(found, run) as rebuilt:
        claims = unread_source(RecordedCode.of(found, run), rebuilt.code, RunFolder(run))
    return "".join(f"{claim.status}: {claim.evidence}" for claim in claims)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (HONEST, ""),
        (f"# what follows is known\r{EVIL}", "a carriage return"),
        (f"accuracy = 0.6 + 0{'.' * 600}; {EVIL}", "more than 200 columns"),
        (f"accu\u200bracy = 0.6\n{EVIL}", "letters or invisible characters beyond ASCII"),
    ],
)
@pytest.mark.parametrize("name", ["ndrepro/train.py", "ndrepro/new.py"])
def test_changed_source_that_nobody_sees_whole(checkout: Path, tmp_path: Path, name: str, data: str, why: str) -> None:
    (checkout / name).write_bytes(f"# changed\n{data}".encode())
    found = recorded_source(checkout, tmp_path / "run")
    take_back(checkout)
    assert unread(found, tmp_path / "run") == (
        why and f"not checked: 1 that are no commit's of this checkout and are executed: {why} (1): {name}:2"
    )


def test_plain_source_that_a_patch_encodes(checkout: Path, tmp_path: Path) -> None:
    """A patch made by hand has another form than the recorder's: of the file's text it shows nothing."""
    run = tmp_path / "run"
    (checkout / "ndrepro/train.py").write_text(EVIL)
    found = recorded_source(checkout, run)
    (checkout / ".gitattributes").write_text("*.py binary\n")
    patch = git(checkout, "diff", "--binary", "ndrepro") + "\n\n"
    take_back(checkout)
    (run / "source.patch").write_text(patch)
    annotations: dict[str, Any] = dict(found.dependencies[0].annotations or {})
    annotations["patch"] = {**annotations["patch"], "sha256": bytes_digest(patch.encode()), "bytes": len(patch)}
    source_of = replace(found.dependencies[0], annotations=annotations)
    found = replace(found, dependencies=(source_of, *found.dependencies[1:]))
    assert "GIT binary patch" in patch and "encoded in the patch (1): ndrepro/train.py" in unread(found, run)


def test_changed_source_behind_a_link(checkout: Path, tmp_path: Path) -> None:
    (checkout / "ndrepro/linked.py").symlink_to("../notes.txt")
    (checkout / "notes.txt").write_text(HONEST)
    commit(checkout)
    (checkout / "notes.txt").write_bytes(b"# note\r" + EVIL.encode())
    found = recorded_source(checkout, tmp_path / "run")
    take_back(checkout)
    assert "a carriage return (1): notes.txt:1" in unread(found, tmp_path / "run")


def test_one_hidden_line_among_harmless_files(checkout: Path, tmp_path: Path) -> None:
    """Before: twenty names were shown in the order of the alphabet."""
    for number in range(60):
        (checkout / f"ndrepro/a{number}.py").write_text("# \u2026\n")
    (checkout / "ndrepro/train.py").write_text(f"accuracy = 0.6{' ' * 300}; {EVIL}")
    found = recorded_source(checkout, tmp_path / "run")
    take_back(checkout)
    words = unread(found, tmp_path / "run")
    assert ": more than 200 columns (1): ndrepro/train.py:1; a wide gap (1): ndrepro/train.py:1; signs beyond" in words
    assert "signs beyond ASCII (60): ndrepro/a0.py:1, " in words


def test_all_code_of_a_commit_that_the_reviewer_does_not_have(checkout: Path, tmp_path: Path) -> None:
    """Before: only what a patch changes was looked at, and the commit was a stranger's, too."""
    git(checkout, "checkout", "-q", "-b", "fork")
    (checkout / "ndrepro/train.py").write_text(f"accuracy = 0.6{' ' * 300}; {EVIL}")
    commit(checkout)
    found = recorded_source(checkout, tmp_path / "run")
    git(checkout, "checkout", "-q", "-")
    assert "more than 200 columns (1): ndrepro/train.py:1" in unread(found, tmp_path / "run")
    git(checkout, "merge", "-q", "fork")
    (checkout / "ndrepro/train.py").write_text(HONEST)
    commit(checkout)
    assert unread(found, tmp_path / "run") == "", "the control: an earlier commit"


def test_patched_and_untracked_files_are_named(checkout: Path, tmp_path: Path) -> None:
    (checkout / "ndrepro/train.py").write_text(EVIL)
    (checkout / "ndrepro/new.py").write_text(EVIL)
    found = recorded_source(checkout, tmp_path / "run")
    changes = RecordedCode.of(found, tmp_path / "run").changes()
    assert changes == ("patched: ndrepro/train.py", "untracked: ndrepro/new.py")


SHOWS_OTHERWISE = {
    "text between the changes": lambda patch: patch.replace("diff --git a/p", "-- \n2.39.5\n\n\ndiff --git a/p"),
    "text before them": lambda patch: f"accuracy: 99.99 %\n\n{patch}",
    "the other function's name": lambda patch: patch.replace("@@ -1 +1 @@", "@@ -1 +1 @@ def draw(figure):"),
}


@pytest.mark.parametrize("how", SHOWS_OTHERWISE)
def test_a_patch_that_git_takes_and_does_not_write(checkout: Path, tmp_path: Path, how: str) -> None:
    """What its reader would pass over, or be told: the claim says to read the files. The control is git's own patch."""
    run = tmp_path / "run"
    for name in ("ndrepro/train.py", "provenance/c.py"):
        (checkout / name).write_text(EVIL)
    found = recorded_source(checkout, run)
    take_back(checkout)
    assert claim_on(found, run).status == "checked"
    text = SHOWS_OTHERWISE[how]((run / "source.patch").read_text())
    assert text != (run / "source.patch").read_text()
    (run / "source.patch").write_text(text)
    annotations = dict(found.dependencies[0].annotations or {})
    annotations["patch"] = {**annotations["patch"], "sha256": bytes_digest(text.encode()), "bytes": len(text)}
    resources = (replace(found.dependencies[0], annotations=annotations), *found.dependencies[1:])
    claim = claim_on(replace(found, dependencies=resources), run)
    assert claim.status == "not checked" and "source.patch is not written as git writes" in claim.evidence
