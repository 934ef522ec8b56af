"""Attack: what the reviewer's interpreter has installed editable stands in for the recorded code, or leads out of the
sandbox. Both the author's and the reviewer's environment import from a folder that no wheel filled."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sysconfig
from pathlib import Path

import pytest
from editable_environments import environment, finding, use
from strange_programs import CONFINED, Stranger, statuses

from ndrepro.execution.environments.interpreters import run_uv

TRAINS = "from mypkg.evaluation import accuracy\nopen('out.txt', 'w').write(str(accuracy()))\n"
CODE = {"src/mypkg/__init__.py": "", "src/mypkg/evaluation.py": "def accuracy(): return 0.6123\n", "train.py": TRAINS}
needs_sandbox = pytest.mark.skipif(not CONFINED, reason="what nothing confines sees everything")


@pytest.fixture
def author(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stranger:
    """An author of a package; the reviewer has his clone of it installed editable."""
    made = Stranger.make(tmp_path / "a", CODE)
    python = environment(tmp_path / "reviewers", made.top / "review" / "src")
    use(monkeypatch, python)
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
    (environment_of,) = (each for each in found.judgements[0].claims if each.name == "environment")
    assert "import, of the recorded code as it was before the start, mypkg from src" in environment_of.evidence


@needs_sandbox
def test_a_package_that_a_module_of_setuptools_finds_is_the_recorded_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ``pip install -e .`` leaves a flat layout. Before: ModuleNotFoundError, and no word why."""
    flat = {name.removeprefix("src/"): text for name, text in CODE.items()}
    train = flat.pop("train.py")
    author = Stranger.make(tmp_path / "a", {**flat, "scripts/train.py": train})

    python = finding(tmp_path / "authors", "mypkg", author.root / "mypkg")
    run = author.record(str(python), "scripts/train.py", outputs=("out.txt",))
    (author.root / "mypkg/evaluation.py").write_text("def accuracy(): return 0.7777\n")
    author.git("commit", "-qam", "later")
    use(monkeypatch, finding(tmp_path / "reviewers", "mypkg", author.top / "review" / "mypkg"))
    found = author.reproduce(run)
    assert found.verdict == "identical", found.judgements
    assert (Path(found.folders[0]) / "outputs" / "out.txt").read_text() == "0.6123"
    (environment_of,) = (each for each in found.judgements[0].claims if each.name == "environment")
    assert "import, of the recorded code as it was before the start, mypkg from mypkg" in environment_of.evidence


@needs_sandbox
@pytest.mark.parametrize("how", ["a folder of packages", "a project", "a module that finds it"])
def test_a_package_of_the_code_instead_of_another_editable_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Before: in no claim, as those of ndrepro's own work tree."""
    project = tmp_path / "project"
    package = project / ("lib" if how == "a module that finds it" else "theirs")
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("NAME = '0.6123'\n")
    if how == "a project":
        (project / "setup.py").write_text("")
    author = Stranger.make(
        tmp_path / "a",
        {
            "train.py": "import setup, theirs\nopen('o', 'w').write(theirs.NAME)\n",
            "theirs/__init__.py": "NAME = '0.9999'\n",
            "setup.py": "",
        },
    )
    run = author.record(outputs=("o",))
    by_module = how == "a module that finds it"
    place = tmp_path / "reviewers"
    use(monkeypatch, finding(place, "theirs", package) if by_module else environment(place, project))
    found = author.reproduce(run)
    (claim,) = (each for each in found.judgements[0].claims if each.name == "environment")
    assert (found.verdict, claim.status) == ("identical", "not checked")
    named = "theirs of the code instead of the installed theirs"
    assert named in claim.evidence and "setup" not in claim.evidence


@needs_sandbox
def test_a_package_beside_the_program_that_is_installed_editable_is_the_code_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: it replaces no other one."""
    author = Stranger.make(tmp_path / "a", {name.removeprefix("src/"): text for name, text in CODE.items()})
    run = author.record(str(environment(tmp_path / "authors", author.root)), "train.py", outputs=("out.txt",))
    use(monkeypatch, environment(tmp_path / "reviewers", author.top / "review"))
    found = author.reproduce(run)
    (claim,) = (each for each in found.judgements[0].claims if each.name == "environment")
    assert (found.verdict, claim.status) == ("identical", "checked") and "instead of" not in claim.evidence


LOADS = """
import importlib.metadata, statistics
for point in importlib.metadata.entry_points(group='metrics'):
    point.load()
open('o', 'w').write(str(statistics.mean([0.4, 0.6])))
"""
HELPER = {
    "METADATA": "Metadata-Version: 2.1\nName: helper\nVersion: 1.0\n",
    "RECORD": "",
    "entry_points.txt": "[metrics]\nfast = mypkg.plug:load\n",
}


@needs_sandbox
@pytest.mark.parametrize("then", [False, True])
def test_metadata_that_git_tracks_are_those_of_the_recorded_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: bool
) -> None:
    """They are in this commit and not in the next, or only in the next, which the reviewer has: then the program found
    them there, and nothing named them.
    """
    plug = "import statistics\nstatistics.mean = lambda values: 0.9999\ndef load():\n    pass\n"
    metadata: dict[str, str | bytes] = {f"helper-1.0.dist-info/{name}": text for name, text in HELPER.items()}
    files: dict[str, str | bytes] = {"scripts/train.py": LOADS, "mypkg/__init__.py": "", "mypkg/plug.py": plug}
    ignored = {} if then else {".gitignore": "runs\n*.dist-info\n"}
    author = Stranger.make(tmp_path / "a", {**files, **ignored, **(metadata if then else {})})
    (folder := author.root / "helper-1.0.dist-info").mkdir(exist_ok=True)
    for name, text in HELPER.items():
        (folder / name).write_text(text)
    run = author.record(str(environment(tmp_path / "authors", author.root)), "scripts/train.py", outputs=("o",))
    assert (author.root / "o").read_text() == "0.9999"
    author.claim_inputs(run, lambda files: [each for each in files if "train" in each["path"]])
    author.git(*(("rm", "-rq") if then else ("add", "-f")), "helper-1.0.dist-info")
    author.git("commit", "-qm", "second")
    use(monkeypatch, environment(tmp_path / "reviewers", author.top / "review"))
    found = author.reproduce(run)
    if not then:
        assert found.verdict == "undecided" and "helper: not here now" in found.plan.differences
        return
    assert (found.verdict, statuses(found)["environment"]) == ("identical", "checked"), found.judgements
    (claim,) = (each for each in found.claims if each.name == "files that are not plain text")
    assert "helper-1.0.dist-info/entry_points.txt" in claim.evidence


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
    use(monkeypatch, python)
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


def test_links_of_another_project_are_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The author of a clone made them, as its metadata or modules. Before: shown, with what they lead to."""
    top, project, private = tmp_path / "a", tmp_path / "projects/theirs", tmp_path / "private"
    for folder in (project / "theirs", private):
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("VALUE = 'theirs'\n")
    for name in ("x.egg-info", "extra"):
        (project / name).symlink_to(private)
    use(monkeypatch, environment(tmp_path / "reviewers", project))
    text = f"""
import os, theirs
shown = [os.path.exists({str(project)!r} + '/' + name) for name in ('theirs', 'x.egg-info', 'extra')]
open('out.txt', 'w').write(str(shown))
"""
    author = Stranger.make(top, {"train.py": text})
    found = author.reproduce(author.record(outputs=("out.txt",)))
    assert (Path(found.folders[0]) / "outputs" / "out.txt").read_text() == "[True, False, False]"


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
        use(authors, python)
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
    use(monkeypatch, python)
    found = author.reproduce(run, clone=clone)
    claims = {each.name: each for each in (*found.judgements[0].claims, *found.claims)}
    assert found.verdict == "identical", found.judgements
    honest = reviewed == "as recorded"
    seen = command[0] != "sh"  # what a shell starts is not observed
    assert claims["environment"].status == ("checked" if honest and seen else "not checked"), claims["environment"]
    words = "mypkg: metadata and scripts of an editable installation"
    assert f"{words}{' here' if honest else ', not made from'}" in claims["environment"].evidence
    if command != ("python", "train.py"):
        assert f"fit is mypkg.{'train' if honest else 'report'}:main of mypkg" in claims["recorded code"].evidence


@needs_sandbox
@pytest.mark.parametrize("tool", ["a folder", "setuptools"])
def test_what_was_built_in_the_clone_here_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str) -> None:
    """The code falls back without it, as where the author had no compiler. Before: "environment" checked, and in no
    claim."""
    falls_back = "try:\n    from mypkg.fast import mean\nexcept ImportError:\n    mean = 0.9999\n"
    trains = "import mypkg\nopen('o', 'w').write(str(mypkg.mean))\n"
    ignored = "*.so\n*.egg-info\n_version.py\n"
    files = {"pyproject.toml": THEN, "src/mypkg/__init__.py": falls_back, "train.py": trains, ".gitignore": ignored}
    author = Stranger.make(tmp_path / "a", files)
    clone = author.clone()
    authors, reviewers = (
        environment(tmp_path / name, place / "src") if tool == "a folder" else installed(tmp_path / name, place)
        for name, place in {"authors": author.root, "reviewers": clone}.items()
    )
    run = author.record(str(authors), "train.py", outputs=("o",))
    use(monkeypatch, reviewers)

    def of_environment() -> tuple[str, str]:
        shutil.rmtree(clone / "runs", ignore_errors=True)
        claims = author.reproduce(run, clone=clone).judgements[0].claims
        return next((each.status, each.evidence) for each in claims if each.name == "environment")

    (clone / "src/mypkg/scratch.pyc").write_bytes(b"")
    before, words = of_environment()
    assert before == "checked" and "not shown" not in words, words
    (clone / "src/mypkg/_version.py").write_text("")
    status, words = of_environment()
    assert status == "checked" and f"here alone and not shown: {clone}/src/mypkg/_version.py" in words, words
    (clone / "src/mypkg/fast.abi3.so").write_bytes(b"")
    status, words = of_environment()
    assert status == "not checked" and f"built here and not shown: {clone}/src/mypkg/fast.abi3.so" in words, words
