"""The code that ran is rebuilt from the commit, the patch and the untracked files, or the reason is given."""

from __future__ import annotations

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


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with two small packages of the project's names, in the place of its own code."""
    top = tmp_path / "checkout"
    for name in ("ndrepro/a.py", "ndrepro/b.py", "provenance/c.py"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(f"name = '{name}'\n")
    git(tmp_path, "init", "-q", str(top))
    git(top, "config", "user.name", "A")
    git(top, "config", "user.email", "a@example.org")
    git(top, "add", "-A")
    git(top, "commit", "-q", "-m", "first")
    monkeypatch.setattr(module, "CODE", top)
    return top


def recorded(checkout: Path, run: Path, **options: Any) -> Manifest:
    """What a manifest says of the code as it is now; the files are kept in ``run``."""
    captured = source.capture(
        checkout, run, packages=[checkout / "ndrepro", checkout / "provenance"], exclude=[], **options
    )
    code = captured.pop("code")
    resources = (
        Resource("source", digest={"gitCommit": captured["commit"]}, annotations=captured),
        Resource("code", digest={"sha256": code["tree_sha256"]}, annotations=code),
    )
    return replace(manifest(), dependencies=resources)


def change(checkout: Path) -> None:
    (checkout / "ndrepro/a.py").write_bytes(b"changed = 1\r\n")
    (checkout / "ndrepro/b.py").unlink()
    (checkout / "provenance/new.py").write_text("new = 1\n")


def take_back(checkout: Path) -> None:
    git(checkout, "checkout", "-q", ".")
    (checkout / "provenance/new.py").unlink()


def test_code_that_is_checked_out_is_used_as_it_is(checkout: Path, tmp_path: Path) -> None:
    change(checkout)
    with recorded_code(recorded(checkout, tmp_path / "run"), tmp_path / "run") as rebuilt:
        assert (rebuilt.code, rebuilt.differences) == (checkout, ())


@pytest.mark.parametrize("autocrlf", ["false", "input", "true"])
def test_changed_code_is_rebuilt_beside_the_checkout(checkout: Path, tmp_path: Path, autocrlf: str) -> None:
    git(checkout, "config", "core.autocrlf", autocrlf)
    for name in ("ndrepro/a.py", "ndrepro/b.py", "provenance/c.py"):
        (checkout / name).unlink()
    git(checkout, "checkout", "-q", ".")
    change(checkout)
    manifest = recorded(checkout, tmp_path / "run")
    expected = {path.name: path.read_bytes() for path in checkout.rglob("*.py")}
    git(checkout, "config", "core.autocrlf", "false")
    take_back(checkout)
    before = git(checkout, "worktree", "list")
    with recorded_code(manifest, tmp_path / "run") as rebuilt:
        assert rebuilt.differences == () and rebuilt.code != checkout
        assert {path.name: path.read_bytes() for path in rebuilt.code.rglob("*.py")} == expected
        assert git(checkout, "worktree", "list") == before, "the repository itself is not written to"
    assert not rebuilt.code.exists()


def test_what_was_not_kept_is_the_reason(checkout: Path, tmp_path: Path) -> None:
    change(checkout)
    manifest = recorded(checkout, tmp_path / "run", limit_bytes=250)
    take_back(checkout)
    with recorded_code(manifest, tmp_path / "run") as rebuilt:
        assert rebuilt.code == checkout
        (reason,) = rebuilt.differences
    assert "1 of the run's changed files are not in its patch" in reason and "this checkout's code is used" in reason


def test_a_patch_that_was_exchanged_is_not_applied(checkout: Path, tmp_path: Path) -> None:
    change(checkout)
    manifest = recorded(checkout, tmp_path / "run")
    take_back(checkout)
    patch = tmp_path / "run/source.patch"
    patch.write_bytes(patch.read_bytes().replace(b"changed = 1", b"changed = 2"))
    with recorded_code(manifest, tmp_path / "run") as rebuilt:
        (reason,) = rebuilt.differences
    assert rebuilt.code == checkout and "source.patch is not the one that was recorded" in reason


def test_an_error_while_the_code_is_used_is_the_callers(checkout: Path, tmp_path: Path) -> None:
    change(checkout)
    manifest = recorded(checkout, tmp_path / "run")
    take_back(checkout)
    with pytest.raises(module.SourceError, match="elsewhere"), recorded_code(manifest, tmp_path / "run"):
        raise module.SourceError("elsewhere")
