"""Attack: a run, or any folder from elsewhere, is a git repository whose configuration names programs to run."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from captured_source import capture, git

from provenance.attestation.run_files import contents, inside, inventory


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The reviewer's own project, with one commit."""
    top = tmp_path / "project"
    top.mkdir()
    (top / "mine.py").write_text("print(1)\n")
    _commit(top)
    return top


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    """The file that the author's programs write."""
    return tmp_path / "ran"


def _commit(top: Path) -> None:
    git(top, "init", "-q")
    git(top, "add", ".")
    git(top, "-c", "user.name=A", "-c", "user.email=a@example.org", "commit", "-q", "-m", "first")


def repository_of_the_author(top: Path, ran: Path) -> None:
    """A repository with a changed file, whose configuration runs programs when git compares it."""
    top.mkdir(parents=True, exist_ok=True)
    (top / "a").write_text("1")
    (top / ".gitattributes").write_text("* filter=evil\n")
    _commit(top)
    for name in ("clean", "smudge"):
        git(top, "config", f"filter.evil.{name}", f"sh -c 'echo {name} >> {ran}; cat'")
    git(top, "config", "core.fsmonitor", f"sh -c 'echo fsmonitor >> {ran}'")
    (top / "a").write_text("2")
    (top / "a").touch()


def test_a_repository_below_the_project_is_named_and_not_obeyed(project: Path, ran: Path) -> None:
    inside_it = project / "downloaded"
    repository_of_the_author(inside_it, ran)
    head = git(inside_it, "rev-parse", "HEAD")
    found = capture(project)
    assert not ran.exists(), ran.read_text()
    assert found["dirty"] is True
    assert f"'commit': '{head}'" in str(found["untracked"])
    assert "its files were not compared" in str(found["untracked"])
    git(inside_it, "status")
    assert ran.exists(), "the control: git obeys it"


def test_a_run_that_is_a_repository_is_a_run_and_not_obeyed(project: Path, ran: Path) -> None:
    run = project / "imported" / "fit" / "one"
    repository_of_the_author(run, ran)
    envelope = {"payload": "e30=", "payloadType": "application/vnd.in-toto+json", "signatures": [{"sig": "AA=="}]}
    (run / "manifest.dsse.json").write_text(json.dumps(envelope))
    found = capture(project)
    assert not ran.exists(), ran.read_text()
    assert "a folder of a run in it" in str(found["excluded"])


@pytest.mark.parametrize("name", [".git", ".GIT", "git~1", ".g\u200dit", ".git ", ".git."])
def test_no_run_folder_holds_a_repository(tmp_path: Path, name: str) -> None:
    (tmp_path / "data" / name).mkdir(parents=True)
    (tmp_path / "data" / name / "config").write_text("[core]\n")
    (tmp_path / "data" / ".github").write_text("a file like any other")
    found = inventory(tmp_path)
    assert [item.path for item in found.artifacts] == ["data/.github"]
    assert list(found.refused) == [f"data/{name}"]
    assert list(contents(tmp_path).others.values()) == ["a name that git takes for a repository"]
    assert not inside(f"data/{name}/config")
    assert inside("data/.github")


def test_no_folder_of_a_run_is_a_repository_itself(tmp_path: Path) -> None:
    """Whose configuration git obeys where HEAD, objects and refs are side by side, without any ``.git``."""
    subprocess.run(["git", "init", "-q", "--bare", tmp_path / "outputs"], check=True)
    assert "outputs/HEAD" in inventory(tmp_path).refused
    assert not inside("outputs/HEAD") and not inside("head") and inside("outputs/head/weights.bin")
