"""Attack: what the reviewer's interpreter has installed editable stands in for the recorded code, or leads out of the
sandbox. Both the author's and the reviewer's environment import from a folder that no wheel filled."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from strange_programs import CONFINED, Stranger, statuses

from ndrepro.execution.environments.interpreters import run_uv

TRAINS = "from mypkg.evaluation import accuracy\nopen('out.txt', 'w').write(str(accuracy()))\n"
CODE = {"src/mypkg/__init__.py": "", "src/mypkg/evaluation.py": "def accuracy(): return 0.6123\n", "train.py": TRAINS}
needs_sandbox = pytest.mark.skipif(not CONFINED, reason="what nothing confines sees everything")


def environment(place: Path, imported: Path) -> Path:
    """An environment that imports from a folder, as ``pip install -e`` leaves it; its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    (packages,) = place.glob("lib/python*/site-packages")
    (packages / "__editable__.mypkg.pth").write_text(f"{imported}\n")
    return place / "bin" / "python"


@pytest.fixture
def author(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stranger:
    """An author of a package; the reviewer has his clone of it installed editable."""
    made = Stranger.make(tmp_path / "a", CODE)
    python = environment(tmp_path / "reviewers", made.top / "review" / "src")
    monkeypatch.setenv("PATH", f"{python.parent}:{os.environ['PATH']}")
    return made


@needs_sandbox
def test_the_reviewer_s_work_tree_is_not_taken_for_the_recorded_commit(author: Stranger, tmp_path: Path) -> None:
    """The commit says 0.6123; the author computed with another checkout, whose code a later commit has."""
    other = tmp_path / "other"
    author.git("clone", "-q", str(author.root), str(other))
    for place in (other, author.root):
        (place / "src/mypkg/evaluation.py").write_text("def accuracy(): return 0.9999\n")
        if place == other:
            run = author.record(str(environment(tmp_path / "authors", other / "src")), "train.py", outputs=("out.txt",))
    author.git("commit", "-qam", "later")
    found = author.reproduce(run)
    assert (Path(found.folders[0]) / "outputs" / "out.txt").read_text() == "0.6123"
    assert found.verdict != "identical"


@needs_sandbox
def test_an_honest_package_that_is_installed_editable_is_reproduced(author: Stranger, tmp_path: Path) -> None:
    """The control: from the recorded code, also where the clone has moved on since."""
    python = environment(tmp_path / "authors", author.root / "src")
    run = author.record(str(python), "train.py", outputs=("out.txt",))
    (author.root / "src/mypkg/evaluation.py").write_text("def accuracy(): return 0.7777\n")
    author.git("commit", "-qam", "later")
    found = author.reproduce(run)
    assert found.verdict == "identical", found.judgements
    # before: "not read this time, as far as was seen: src/mypkg/..."
    assert statuses(found)["environment"] == statuses(found)["inputs"] == "checked", found.judgements


FINDER = """
import sys
from importlib.util import spec_from_file_location
MAPPING: dict[str, str] = {MAPPING}
class _Finder:
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        first, _, rest = name.partition('.')
        if first in MAPPING:
            place = MAPPING[first] + ('/' + rest.replace('.', '/') + '.py' if rest else '/__init__.py')
            return spec_from_file_location(name, place, submodule_search_locations=None if rest else [MAPPING[first]])
def install():
    sys.meta_path.append(_Finder)
"""


@needs_sandbox
def test_a_package_that_a_module_of_setuptools_finds_is_the_recorded_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ``pip install -e .`` leaves a flat layout. Before: ModuleNotFoundError, and no word why."""
    flat = {name.removeprefix("src/"): text for name, text in CODE.items()}
    train = flat.pop("train.py")
    author = Stranger.make(tmp_path / "a", {**flat, "scripts/train.py": train})

    def finding(place: Path, project: Path) -> Path:
        python = environment(place, tmp_path / "nothing")
        (packages,) = place.glob("lib/python*/site-packages")
        finder = "__editable___mypkg_1_0_finder"
        (packages / f"{finder}.py").write_text(FINDER.replace("{MAPPING}", repr({"mypkg": str(project / "mypkg")})))
        (packages / "__editable__.mypkg.pth").write_text(f"import {finder}; {finder}.install()\n")
        return python

    run = author.record(str(finding(tmp_path / "authors", author.root)), "scripts/train.py", outputs=("out.txt",))
    (author.root / "mypkg/evaluation.py").write_text("def accuracy(): return 0.7777\n")
    author.git("commit", "-qam", "later")
    python = finding(tmp_path / "reviewers", author.top / "review")
    monkeypatch.setenv("PATH", f"{python.parent}:{os.environ['PATH']}")
    found = author.reproduce(run)
    assert found.verdict == "identical", found.judgements
    assert (Path(found.folders[0]) / "outputs" / "out.txt").read_text() == "0.6123"


LOOKS = """
import json, os, socket, sys
found = {}
def attempt(name, function):
    try:
        found[name] = str(function())
    except OSError as error:
        found[name] = type(error).__name__
def connect():
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(PROJECT + '/app.sock')
if not os.path.exists(AUTHOR):
    import theirs
    found['imports'] = theirs.NAME
    attempt('reads', lambda: open(PROJECT + '/notes.txt').read())
    attempt('connects', connect)
    attempt('writes to a FIFO', lambda: os.open(PROJECT + '/fifo', os.O_WRONLY | os.O_NONBLOCK))
json.dump(found, open('out.json', 'w'))
"""


@needs_sandbox
def test_another_project_of_the_reviewer_s_shows_its_packages_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, top = tmp_path / "project", tmp_path / "a"
    (project / "theirs").mkdir(parents=True)
    (project / "theirs" / "__init__.py").write_text("NAME = 'theirs'\n")
    (project / "notes.txt").write_text("private")
    python = environment(tmp_path / "reviewers", project)
    monkeypatch.setenv("PATH", f"{python.parent}:{os.environ['PATH']}")
    text = f"AUTHOR, PROJECT = {str(top / 'author')!r}, {str(project)!r}\n{LOOKS}"
    author = Stranger.make(top, {"train.py": text})
    run = author.record(outputs=("out.json",))
    os.mkfifo(project / "fifo")
    reader = os.open(project / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    with socket.socket(socket.AF_UNIX) as service:
        monkeypatch.chdir(project)  # a socket's path is short
        service.bind("app.sock")
        service.listen()
        found = author.reproduce(run)
    os.close(reader)
    seen = json.loads((Path(found.folders[0]) / "outputs" / "out.json").read_text())
    missing = "FileNotFoundError"
    assert seen == {"imports": "theirs", "reads": missing, "connects": missing, "writes to a FIFO": missing}
    assert any("an editable installation" in line for line in found.plan.differences)


PROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "mypkg"
version = "1.0"
description = "{0}"
[project.scripts]
fit = "mypkg.{1}:main"
[tool.setuptools.packages.find]
where = ["src"]
"""
THEN, LATER = PROJECT.format("0.5", "train"), PROJECT.format("0.9999", "report")
WRITES = "def main():\n    open('o', 'w').write('{0}')\n"


def installed(place: Path, project: Path) -> Path:
    """An environment with setuptools and a project that is installed editable, without an index."""
    python = environment(place, Path(sysconfig.get_path("purelib")))
    words = ("--offline", "--no-deps", "--no-build-isolation", "--python", str(python), "--editable", str(project))
    done = run_uv("pip", "install", *words)
    assert done.returncode == 0, done.stderr
    return python


@needs_sandbox
@pytest.mark.parametrize(
    ("command", "reviewed"),
    [
        (("python", "train.py"), "later"),
        (("python", "train.py"), "later, and back"),
        (("python", "train.py"), "as recorded"),
        (("fit",), "later"),
        (("sh", "run.sh"), "as recorded"),
    ],
)
def test_metadata_of_the_installation_here_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], reviewed: str
) -> None:
    """A later commit describes the package otherwise, and its script calls another function that the recorded one has,
    too. As recorded it is the control.
    """
    reads = "from importlib.metadata import metadata\nopen('o', 'w').write(metadata('mypkg')['Summary'])\n"
    code = {"train": WRITES.format("0.5"), "report": WRITES.format("0.9999")}
    modules = {f"src/mypkg/{name}.py": text for name, text in {"__init__": "", **code}.items()}
    files = {**modules, "train.py": reads, "run.sh": "fit\n", "pyproject.toml": THEN, ".gitignore": "*.egg-info\n"}
    author = Stranger.make(tmp_path / "a", {**files})
    project, commit = author.root / "pyproject.toml", author.git("rev-parse", "HEAD")
    project.write_text(THEN if reviewed == "as recorded" else LATER)
    with monkeypatch.context() as authors:
        python = installed(tmp_path / "authors", author.root)
        authors.setenv("PATH", f"{python.parent}:{os.environ['PATH']}")
        project.write_text(THEN)
        run = author.record(*command, outputs=("o",))
    project.write_text(LATER)
    author.git("commit", "-qam", "later")
    clone = author.clone()
    checkout = ["git", "-C", str(clone), "checkout", "-q", commit]
    if reviewed == "as recorded":
        subprocess.run(checkout, check=True)
    python = installed(tmp_path / "reviewers", clone)
    if reviewed == "later, and back":
        subprocess.run(checkout, check=True)
    monkeypatch.setenv("PATH", f"{python.parent}:{os.environ['PATH']}")
    found = author.reproduce(run, clone=clone)
    claims = {each.name: each for each in (*found.judgements[0].claims, *found.claims)}
    assert found.verdict == "identical", found.judgements
    honest = reviewed == "as recorded"
    assert claims["environment"].status == ("checked" if honest else "not checked"), claims["environment"]
    words = "mypkg: metadata and scripts of an editable installation"
    assert f"{words}{' here' if honest else ', not made from'}" in claims["environment"].evidence
    if command != ("python", "train.py"):
        assert f"fit is mypkg.{'train' if honest else 'report'}:main of mypkg" in claims["recorded code"].evidence
