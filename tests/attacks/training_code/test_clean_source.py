"""Attack: the recorder itself signs "commit X, clean" though other code ran; no manifest is forged."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from captured_source import capture, git
from small_runs import SmallRun

from ndrepro.cli.display import facts
from provenance.attestation.manifest import Resource
from provenance.formats.digest import file_digest

IDENTITY = ("-c", "user.name=A", "-c", "user.email=a@example.org")
EVIL = "open('out.txt', 'w').write('evil + 1')\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """An author's project, with one commit."""
    top = tmp_path / "project"
    top.mkdir()
    (top / "train.py").write_text("open('out.txt', 'w').write('honest + 1')\n")
    git(top, "init", "-q")
    commit(top)
    assert capture(top)["dirty"] is False, "the control"
    return top


def commit(top: Path) -> None:
    git(top, "add", ".")
    git(top, *IDENTITY, "commit", "-q", "-m", "some")


def shown(found: dict[str, object]) -> str:
    return facts.source(Resource("source", annotations=found))


def a_name(folder: Path, run: SmallRun) -> None:
    folder.mkdir()
    (folder / "manifest.dsse.json").write_text("{}")
    (folder / "__init__.py").write_text(EVIL)


def code_in_a_run(folder: Path, run: SmallRun) -> None:
    shutil.copytree(run.folder, folder)
    (folder / "__init__.py").write_text(EVIL)


def code_beside_a_lock(folder: Path, run: SmallRun) -> None:
    folder.mkdir()
    (folder / ".lock").write_text("4711")
    (folder / "__init__.py").write_text(EVIL)


def code_that_is_listed(folder: Path, run: SmallRun) -> None:
    """An envelope that nobody signed lists the package's file, as a run's own."""
    code_in_a_run(folder, run)
    listing(folder, "__init__.py")


def listing(folder: Path, name: str) -> None:
    file = folder / "manifest.dsse.json"
    envelope = json.loads(file.read_bytes())
    statement = json.loads(base64.b64decode(envelope["payload"]))
    statement["subject"].append({"name": name, "digest": {"sha256": file_digest(folder / name).sha256}})
    envelope["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
    file.write_text(json.dumps(envelope))


HIDING: list[Callable[[Path, SmallRun], None]] = [a_name, code_in_a_run, code_beside_a_lock, code_that_is_listed]


@pytest.mark.parametrize("hide", HIDING)
def test_a_package_that_looks_like_a_run_is_source(
    project: Path, signed_run: SmallRun, tmp_path: Path, hide: Callable[[Path, SmallRun], None]
) -> None:
    hide(project / "method", signed_run)
    found = capture(project, tmp_path / "run")
    assert found["dirty"] is True and "WITH UNCOMMITTED CHANGES" in shown(found)
    assert "method/__init__.py" in [entry["path"] for entry in found["untracked"]["copied"]]


def test_a_run_that_is_a_repository_hides_no_code(project: Path, signed_run: SmallRun) -> None:
    """Of a nested repository git names the folder alone."""
    code_in_a_run(project / "method", signed_run)
    git(project / "method", "init", "-q")
    commit(project / "method")
    assert capture(project)["dirty"] is True


def test_a_run_with_the_code_that_it_lists_is_no_source(project: Path, signed_run: SmallRun) -> None:
    """The control: the copies that a run keeps make no checkout dirty, until one is changed."""
    folder = project / "20261129T000000Z-abcdef"
    shutil.copytree(signed_run.folder, folder)
    (folder / "untracked").mkdir(exist_ok=True)
    (folder / "untracked/new.py").write_text(EVIL)
    listing(folder, "untracked/new.py")
    found = capture(project)
    assert found["dirty"] is False and found["excluded"]
    (folder / "untracked/new.py").write_text("other = 1\n")
    assert capture(project)["dirty"] is True


@pytest.mark.parametrize("driver", ["f", "a=b"])
def test_no_filter_of_the_author_s_makes_other_code_clean(project: Path, tmp_path: Path, driver: str) -> None:
    (project / ".gitattributes").write_text(f"train.py filter={driver}\n")
    commit(project)
    other = tmp_path / "evil.py"
    other.write_text(EVIL)
    with open(project / ".git/config", "a") as config:
        config.write(f'[filter "{driver}"]\n\tsmudge = "cat {other}"\n\tclean = "git show HEAD:train.py"\n')
    shutil.copy(other, project / "train.py")
    found = capture(project, tmp_path / "run")
    assert found["dirty"] is True and "1 file changed" in shown(found)
    assert found["changed"]["files"] == [{"path": "train.py", "how": "modified", "conversion": f"filter={driver}"}]
    assert "evil" in (tmp_path / "run/source.patch").read_text()


def test_no_encoding_of_the_author_s_own_makes_other_code_clean(project: Path) -> None:
    """In UTF-7 "a + b" is "a +- b", which Python reads as "a - b"."""
    (project / ".git/info").mkdir(exist_ok=True)
    (project / ".git/info/attributes").write_text("train.py text working-tree-encoding=UTF-7\n")
    (project / "train.py").unlink()
    git(project, "checkout", "-q", "--", "train.py")
    if "+-" not in (project / "train.py").read_text():
        pytest.skip("this git knows no UTF-7")
    assert capture(project)["dirty"] is True
