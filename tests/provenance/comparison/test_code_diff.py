"""The code of two runs, compared by a real git from what was recorded; what is not at hand is said, never guessed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from provenance.capture.source import capture
from provenance.comparison import code_diff as module
from provenance.comparison.code_diff import CodeDiff, FileChange, SourceState, code_diff

SECRET = "ghp_" + "a1B2c3D4" * 4 + "wxyz"


class Repo:
    """A repository with one commit, and recordings of its states."""

    def __init__(self, root: Path) -> None:
        self.root = root / "repository"
        self.runs = root / "runs"
        self.root.mkdir(parents=True)
        self.git("init", "--quiet")
        self.write("train.py", "a = 1\nb = 2\nc = 3\n")
        self.write("model.py", "layers = 16\n")
        self.commit()

    def git(self, *words: str) -> str:
        who = {
            f"GIT_{role}_{what}": "someone@example.org"
            for role in ("AUTHOR", "COMMITTER")
            for what in ("NAME", "EMAIL")
        }
        answer = subprocess.run(
            ["git", *words], cwd=self.root, check=True, capture_output=True, text=True, env={**os.environ, **who}
        )
        return answer.stdout.strip()

    def write(self, name: str, text: str) -> None:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_text(text, encoding="utf-8")

    def commit(self) -> None:
        self.git("add", ".")
        self.git("commit", "--quiet", "-m", "a state")

    def record(self, name: str, **options: Any) -> SourceState:
        """Capture the present state into a run folder of that name, as a run does."""
        folder = self.runs / name
        folder.mkdir(parents=True)
        return SourceState(capture(self.root, folder, **options), folder)

    def objects(self) -> int:
        return sum(1 for path in (self.root / ".git").rglob("*") if path.is_file())


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return Repo(tmp_path)


def test_one_state_recorded_twice_is_the_same_without_asking_git(repo: Repo, tmp_path: Path) -> None:
    repo.write("train.py", "a = 1\nb = 5\nc = 3\n")
    repo.write("new.py", "x = 1\n")
    first, second = repo.record("1"), repo.record("2")
    shutil.rmtree(repo.root)
    assert code_diff(first, second, [repo.root]) == CodeDiff("same")


def test_commits_patches_and_untracked_files_are_compared_as_one(repo: Repo) -> None:
    repo.write("notes.py", "kept = 1\n")
    first = repo.record("1")
    repo.write("train.py", "a = 1\nb = 2\nc = 4\n")
    repo.commit()
    repo.write("train.py", "a = 0\nb = 2\nc = 4\n")
    repo.write("new/žluť.py", "x = 1\n")
    before = repo.objects()
    found = code_diff(first, repo.record("2"), [repo.root])
    assert (found.how, found.caveats, found.truncated) == ("git", (), False)
    assert found.files == (FileChange("new/žluť.py", 1, 0), FileChange("train.py", 2, 2))
    assert "\n-a = 1\n+a = 0\n b = 2\n-c = 3\n+c = 4\n" in found.text
    assert repo.objects() == before, "the repository was written to"


def test_another_commit_of_the_same_files_has_no_difference(repo: Repo) -> None:
    repo.write("train.py", "a = 2\n")
    first = repo.record("1")
    repo.commit()
    second = repo.record("2")
    assert first.identity != second.identity
    found = code_diff(first, second, [repo.root])
    assert (found.how, found.files, found.text) == ("git", (), "")


def test_commits_may_lie_in_different_repositories(repo: Repo, tmp_path: Path) -> None:
    other = Repo(tmp_path / "žluť \"quoted\" other")  # fmt: skip
    other.write("train.py", "a = 7\n")
    other.commit()
    first, second = repo.record("1"), other.record("2")
    assert code_diff(first, second, [repo.root]).how == "unknown"
    found = code_diff(first, second, [repo.root, other.root, tmp_path / "nowhere"])
    assert found.how == "git" and found.files == (FileChange("train.py", 1, 3),)


def test_a_binary_and_an_executable_file_are_compared(repo: Repo) -> None:
    first = repo.record("1")
    (repo.root / "table.bin").write_bytes(bytes(range(256)))
    repo.git("add", "table.bin")
    repo.write("go.sh", "echo\n")
    (repo.root / "go.sh").chmod(0o755)
    found = code_diff(first, repo.record("2"), [repo.root])
    assert found.files == (FileChange("go.sh", 1, 0), FileChange("table.bin", None, None))
    assert "new file mode 100755" in found.text


def test_a_hostile_configuration_and_environment_change_nothing(
    repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = repo.record("1")
    repo.write("train.py", "a = 2\n")
    second = repo.record("2")
    plain = code_diff(first, second, [repo.root])
    home = tmp_path / "home"
    home.mkdir()
    settings = ("[diff]", "external = false", "noprefix = true", "algorithm = patience", "[core]", "autocrlf = true")
    more = ("[safe]", "bareRepository = explicit", "[color]", "ui = always", "[init]", "templateDir = /nowhere")
    (home / ".gitconfig").write_text("\n".join((*settings, *more)) + "\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "no.git"))
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", "false")
    assert plain.how == "git" and code_diff(first, second, [repo.root]) == plain


def test_a_long_difference_is_cut_and_says_so(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TEXT_LIMIT_BYTES", 200)
    first = repo.record("1")
    repo.write("long.py", "x = 1\n" * 1000)
    found = code_diff(first, repo.record("2"), [repo.root])
    assert found.truncated and len(found.text) == 200
    assert found.files == (FileChange("long.py", 1000, 0),)


def test_without_the_repository_the_files_that_are_patched_differently_are_named(repo: Repo) -> None:
    repo.write("model.py", "layers = 18\n")
    first = repo.record("1")
    repo.write("train.py", "a = 9\n")
    repo.write("new.py", "x = 1\n")
    found = code_diff(first, repo.record("2"))
    assert found.how == "patches" and found.text == ""
    assert [file.path for file in found.files] == ["new.py", "train.py"]
    assert found.caveats == ("no git repository is available",)


def _tampered(state: SourceState) -> SourceState:
    assert state.folder is not None
    patch = state.folder / "source.patch"
    patch.write_bytes(patch.read_bytes().replace(b"+a = 2", b"+a = 1"))
    return state


def _without_patch(state: SourceState) -> SourceState:
    return SourceState(state.recorded)


def _unknown_patch(state: SourceState) -> SourceState:
    return SourceState({**state.recorded, "patch": {"unavailable": "git failed"}}, state.folder)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (_tampered, "the second run's source.patch is not the one that was recorded"),
        (_without_patch, "the second run's source.patch is not available: only the manifest is"),
        (_unknown_patch, "the second run's source.patch was not kept"),
    ],
)
def test_a_patch_that_is_not_the_recorded_one_is_not_used(
    repo: Repo, harm: Callable[[SourceState], SourceState], said: str
) -> None:
    first = repo.record("1")
    repo.write("train.py", "a = 2\n")
    second = repo.record("2")
    assert code_diff(first, second, [repo.root]).how == "git", "the control"
    found = code_diff(first, harm(second), [repo.root])
    assert (found.how, found.files) == ("unknown", ())
    assert found.caveats == (said,)


def test_an_untracked_file_that_was_changed_is_left_out_and_named(repo: Repo) -> None:
    first = repo.record("1")
    repo.write("new.py", "x = 1\n")
    repo.write("other.py", "y = 1\n")
    second = repo.record("2")
    assert second.folder is not None
    (second.folder / "untracked" / "new.py").write_text("x = 2\n")
    found = code_diff(first, second, [repo.root])
    assert [file.path for file in found.files] == ["other.py"]
    assert found.caveats == ("the second run's untracked new.py is not the one that was recorded",)


def test_redaction_and_what_was_left_out_are_caveats(repo: Repo) -> None:
    first = repo.record("1")
    repo.write("train.py", f"a = 1\ntoken = '{SECRET}'\n")
    repo.write("large.py", "z = 1\n" * 1000)
    found = code_diff(first, repo.record("2", limit_bytes=2000), [repo.root])
    assert found.how == "git" and SECRET not in found.text
    assert found.caveats == (
        "the second run's patch was redacted: lines that held secrets are not what they were",
        "1 of the second run's untracked files were not kept",
    )


def test_a_state_whose_parts_are_not_known_is_equal_to_none(repo: Repo) -> None:
    state = repo.record("1")
    assert state.identity is not None
    for lost in (
        {"patch": {"unavailable": "x"}},
        {"untracked": {"unavailable": "x"}},
        {"commit": {"unavailable": "x"}},
    ):
        unknown = SourceState({**state.recorded, **lost}, state.folder)
        assert unknown.identity is None
        assert code_diff(unknown, unknown, [repo.root]).how != "same"
    assert SourceState({}).identity is None


def test_code_outside_of_git_is_unknown(tmp_path: Path, repo: Repo) -> None:
    nowhere = SourceState(capture(tmp_path, None))
    found = code_diff(nowhere, repo.record("1"), [repo.root])
    assert found == CodeDiff("unknown", caveats=("the commit of the first run is not known",))


def test_names_in_a_manifest_do_not_lead_out_of_the_run_folder(repo: Repo, tmp_path: Path) -> None:
    first = repo.record("1")
    repo.write("new.py", "x = 1\n")
    second = repo.record("2")
    assert second.folder is not None
    (tmp_path / "runs" / "evil.py").write_text("x = 1\n")
    entry = {**second.recorded["untracked"]["copied"][0], "path": "../../evil.py"}
    evil = SourceState({**second.recorded, "untracked": {"copied": [entry], "left_out": []}}, second.folder)
    found = code_diff(first, evil, [repo.root])
    assert found.files == ()
    assert found.caveats == ("the second run's untracked ../../evil.py leads out of the run folder",)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["repository", "runs"]
