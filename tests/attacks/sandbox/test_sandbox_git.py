"""Attack: the recorded source makes git, or the program that rebuilds it, run or read something of the reviewer's."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from captured_source import git
from compared_runs import manifest

from ndrepro.execution.reproduce import recorded_code as module
from ndrepro.execution.reproduce.recorded_code import recorded_code
from provenance.attestation.manifest import Manifest, Resource
from provenance.capture import source
from provenance.capture.unavailable import is_missing
from provenance.comparison.recorded_tree import SourceState, check_out
from provenance.errors import SourceError


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small project whose ``.gitattributes`` names a filter."""
    top = tmp_path / "checkout"
    for name in ("ndrepro/a.py", "provenance/c.py", "table.dat"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(f"name = '{name}'\n")
    (top / ".gitattributes").write_text("*.dat filter=runs\n")
    git(tmp_path, "init", "-q", str(top))
    git(top, "config", "user.name", "A")
    git(top, "config", "user.email", "a@example.org")
    git(top, "add", "-A")
    git(top, "commit", "-q", "-m", "first")
    monkeypatch.setattr(module, "CODE", top)
    return top


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A reviewer whose git has that filter, as Git LFS adds ``lfs``, and hooks; returns the file that they write."""
    ran, hooks = tmp_path / "ran", tmp_path / "hooks"
    hooks.mkdir()
    for name in ("post-checkout", "post-index-change"):
        (hooks / name).write_text(f"#!/bin/sh\necho {name} >> {ran}\n")
        (hooks / name).chmod(0o755)
    settings = tmp_path / "gitconfig"
    settings.write_text(f'[filter "runs"]\n\tsmudge = "echo smudge >> {ran}; cat"\n[core]\n\thooksPath = {hooks}\n')
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    return ran


def recorded(checkout: Path, run: Path) -> Manifest:
    captured: dict[str, Any] = source.capture(
        checkout, run, packages=[checkout / "ndrepro", checkout / "provenance"], exclude=[]
    )
    code = captured.pop("code")
    resources = (
        Resource("source", digest={"gitCommit": captured["commit"]}, annotations=captured),
        Resource("code", digest={"sha256": code["tree_sha256"]}, annotations=code),
    )
    return replace(manifest(), dependencies=resources)


def test_no_filter_or_hook_of_the_reviewer_runs(checkout: Path, configured: Path, tmp_path: Path) -> None:
    captured = source.capture(checkout, tmp_path / "run")
    captured["converted"] = {"count": 1, "files": ["table.dat"], "settings": {}}
    configured.unlink(missing_ok=True)
    check_out(SourceState(captured, tmp_path / "run"), checkout, tmp_path / "again")
    assert (tmp_path / "again/table.dat").is_file() and not configured.exists()
    (checkout / "table.dat").unlink()
    git(checkout, "checkout", "--", "table.dat")
    assert "smudge" in configured.read_text(), "the control: git as the reviewer has it"


def test_a_link_out_of_the_code_is_not_followed(checkout: Path, tmp_path: Path) -> None:
    """The link's target would be read here and, copied, shown to the code."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "secret.py").write_text("key = 1\n")
    (checkout / "ndrepro/home").symlink_to(tmp_path / "home")
    git(checkout, "add", "-A")
    git(checkout, "commit", "-q", "-m", "second")
    found = recorded(checkout, tmp_path / "run")
    (checkout / "ndrepro/home").unlink()
    with recorded_code(found, tmp_path / "run") as rebuilt:
        (reason,) = rebuilt.differences
    assert rebuilt.code == checkout and "ndrepro/home: a link that leads out" in reason


@pytest.mark.parametrize("commit", ["--index-output=evil", "HEAD", "main", "-h", "0" * 39])
def test_a_commit_is_never_an_option_of_gits(checkout: Path, tmp_path: Path, commit: str) -> None:
    state = SourceState({**source.capture(checkout, tmp_path / "run"), "commit": commit}, tmp_path / "run")
    assert state.commit is None
    with pytest.raises(SourceError, match="recorded no commit"):
        check_out(state, checkout, tmp_path / "again")


def test_a_tree_of_code_that_looks_like_a_repository_is_not_obeyed(tmp_path: Path) -> None:
    """Tracked or untracked files of an author make it one; the recorder of a repetition asks git about its code."""
    ran, inner, tree = tmp_path / "ran", tmp_path / "inner", tmp_path / "tree"
    git(tmp_path, "init", "-q", str(inner))
    for name, text in (("a.txt", "1"), (".gitattributes", "a.txt filter=evil\n")):
        (inner / name).write_text(text)
    for words in (
        ("add", "-A"),
        ("-c", "user.name=A", "-c", "user.email=a@example.org", "commit", "-q", "-m", "first"),
        ("config", "filter.evil.smudge", f"sh -c 'echo ran > {ran}; cat'"),
        ("config", "core.worktree", "."),
    ):
        git(inner, *words)
    shutil.copytree(inner / ".git", tree)
    (tree / "a.txt").write_text("2")
    captured = source.capture(tree, None)
    assert not ran.exists() and is_missing(captured["commit"])
    git(tree, "checkout", "--", "a.txt")
    assert ran.exists(), "the control: git itself obeys it"
