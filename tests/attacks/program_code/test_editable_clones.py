"""Attack: the reviewer's clone, which is installed editable, is not taken for one, or only a part of it is the recorded
commit's: it lies where an interpreter's own files are, or another tool than setuptools leads to it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from editable_environments import environment, finding, use
from strange_programs import CONFINED, Stranger, manifest_of, statuses

from ndrepro.api import Reproduction

THEN, LATER = "def accuracy(): return 0.6123\n", "def accuracy(): return 0.9999\n"
TRAINS = "from mypkg.model import accuracy\nopen('o', 'w').write(str(accuracy()))\n"
needs_sandbox = pytest.mark.skipif(not CONFINED, reason="what nothing confines sees everything")


def author_of(top: Path, source: str = "src", **files: str) -> Stranger:
    package: dict[str, str | bytes] = {f"{source}/mypkg/__init__.py": "", f"{source}/mypkg/model.py": THEN}
    return Stranger.make(top, {**package, "scripts/train.py": TRAINS, ".gitignore": "runs\n*.egg-info\n", **files})


def of_environment(found: Reproduction) -> str:
    return next(each.evidence for each in found.judgements[0].claims if each.name == "environment")


def written(found: Reproduction) -> str:
    return (Path(found.folders[0]) / "outputs" / "o").read_text()


def interpreter(place: Path) -> Path:
    """An installation of Python by itself, of links to this one's modules."""
    real = Path(os.path.realpath(sys.executable))
    (place / "bin").mkdir(parents=True)
    shutil.copy(real, place / "bin" / real.name)
    (place / "lib").symlink_to(real.parents[1] / "lib")
    return place / "bin" / real.name


def test_the_prefix_of_such_an_interpreter_is_its_own(tmp_path: Path) -> None:
    """Else the tests below show nothing."""
    words = [interpreter(tmp_path / "python"), "-I", "-c", "import sys; print(sys.base_prefix)"]
    assert subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip() == f"{tmp_path}/python"


@needs_sandbox
@pytest.mark.parametrize("where", ["in the environment", "in Python's folder", "called like Python's"])
def test_a_clone_among_files_of_python_s_is_not_taken_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """As ``pip install -e git+URL`` leaves one in an environment, and images in /usr/src. Before, the reviewer's HEAD
    was executed, "identical", every claim "checked"; of one in an environment nothing was."""
    source = "dist-packages" if where == "called like Python's" else "src"
    author = author_of(tmp_path / "a", source)
    recorded = author.git("rev-parse", "HEAD")
    (author.root / source / "mypkg/model.py").write_text(LATER)
    author.git("commit", "-qam", "later")
    place = {"in the environment": tmp_path / "env/src/app", "in Python's folder": tmp_path / "python/src/app"}.get(
        where
    )
    clone = place or tmp_path / "clone"
    python = [str(interpreter(tmp_path / "python")), "-m", "venv", "--without-pip", str(tmp_path / "env")]
    subprocess.run(python, check=True)
    subprocess.run(["git", "clone", "-q", str(author.root), str(clone)], check=True)
    (packages,) = (tmp_path / "env").glob("lib/python*/site-packages")
    (packages / "__editable__.mypkg.pth").write_text(f"{clone / source}\n")
    use(monkeypatch, tmp_path / "env/bin/python")
    (other := tmp_path / "other").mkdir()
    shutil.copytree(author.root / source, other / source)
    author.git("checkout", "-q", recorded)
    run = author.record(str(environment(tmp_path / "authors", other / source)), "scripts/train.py", outputs=("o",))
    assert (author.root / "o").read_text() == "0.9999"
    author.claim_inputs(run, lambda files: [each for each in files if "train" in each["path"]])
    found = author.reproduce(run, clone=clone)
    assert (written(found), found.verdict != "identical") == ("0.6123", True)
    assert f"mypkg from {source}" in of_environment(found)


@needs_sandbox
def test_what_is_at_the_recorded_path_now_is_not_there_for_the_repetition(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later commit, in a folder that the sandbox shows with Python's. Before, that was executed, "identical"."""
    root = tmp_path / "python/src/a/project"
    found_by_path = f"import sys\nsys.path.insert(0, {str(root / 'src')!r})\n{TRAINS}"
    author = author_of(tmp_path / "python/src/a", **{"scripts/train.py": found_by_path})
    run = author.record(sys.executable, "scripts/train.py", outputs=("o",))
    (author.root / "src/mypkg/model.py").write_text(LATER)
    author.git("commit", "-q", "-a", "-m", "later")
    python = [str(interpreter(tmp_path / "python")), "-m", "venv", "--without-pip", str(tmp_path / "env")]
    subprocess.run(python, check=True)
    use(monkeypatch, tmp_path / "env/bin/python")
    found = author.reproduce(run)
    assert (written(found), found.verdict) == ("0.6123", "identical"), "the recorded code, at its path"


READS = """
import json, os, pathlib
PLACE = pathlib.Path(__file__).{place}
settings = json.loads(PLACE.read_text()) if PLACE.exists() else {{"noise": 0.0}}
def accuracy():
    if os.path.exists(pathlib.Path(__file__).parents[2] / "private.txt"):
        return "the reviewer's own file"
    return 0.9999 - settings["noise"]
"""


@needs_sandbox
@pytest.mark.parametrize("attack", [False, True])
@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("config.json", "parents[2] / 'config.json'"),
        ("src/config.json", "parents[1] / 'config.json'"),
        ("data/.cfg/config.json", "parents[2] / 'data' / '.cfg' / 'config.json'"),
        ("link", "parents[2] / 'link'"),
    ],
)
def test_all_of_the_recorded_code_is_where_an_editable_package_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, place: str, attack: bool
) -> None:
    """A package reads a file of its repository beside it. Before, an honest run could not be repeated, and what falls
    back without the file was "identical". The environment is in the clone, as are its metadata."""
    author = author_of(
        tmp_path / "a", **{"src/mypkg/model.py": READS.format(place=place), "settings": '{"noise": 0.5}'}
    )
    (file := author.root / name).parent.mkdir(parents=True, exist_ok=True)
    file.symlink_to("settings") if name == "link" else file.write_text('{"noise": 0.5}')
    author.git("add", "-A")
    author.git("commit", "-qm", "settings")
    python = environment(tmp_path / "authors", author.root / "src")
    if attack:
        file.unlink()
    run = author.record(str(python), "scripts/train.py", outputs=("o",))
    assert (author.root / "o").read_text() == ("0.9999" if attack else "0.4999")
    if attack:
        author.git("checkout", "--", ".")
        honest = author.record(str(python), "scripts/train.py", outputs=("o",))
        (run.root / "source.patch").unlink()
        others = [each for each in manifest_of(run).dependencies if each.name != "source"]
        author.claim(run, dependencies=(*others, manifest_of(honest).dependency("source")))
    clone = author.clone()
    use(monkeypatch, environment(clone / ".venv", clone / "src"))
    (clone / "src/mypkg.egg-info").mkdir()
    (clone / "src/mypkg.egg-info/PKG-INFO").write_text("Metadata-Version: 2.1\nName: mypkg\nVersion: 1.0\n")
    (clone / "private.txt").write_text("")
    found = author.reproduce(run, clone=clone)
    assert written(found) == "0.4999"
    assert (found.verdict == "identical") is not attack
    if not attack:
        assert statuses(found)["inputs"] == "checked", found.judgements


EDITABLES = """
import sys
from importlib.util import spec_from_file_location
class F:
    known = {}
    @classmethod
    def map_module(cls, name, place):
        cls.known[name] = place
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name in cls.known:
            return spec_from_file_location(name, cls.known[name])
sys.meta_path.append(F)
def install(known, *others):
    F.known.update(known)
"""
MADE = {
    "hatchling": ("_editable_impl_mypkg", "from editables import F\nF.map_module('mypkg', {0!r})\n"),
    "scikit-build-core": (
        "_mypkg_editable",
        "import editables\neditables.install({{'mypkg': {0!r}}}, {{}}, 0)\n",
    ),
    "meson-python": ("_mypkg_editable_loader", "from editables import F\nF.map_module(*['mypkg', {0!r}])\n"),
}


def made_by(tool: str, place: Path, project: Path) -> Path:
    """An environment with an editable installation that a tool made; its interpreter."""
    python = environment(place, place / "nothing")
    (packages,) = place.glob("lib/python*/site-packages")
    module, text = MADE[tool]
    (packages / "editables.py").write_text(EDITABLES)
    (packages / f"{module}.py").write_text(text.format(str(project / "src/mypkg/__init__.py")))
    (packages / "mypkg.pth").write_text(f"import {module}\n")
    (metadata := packages / "mypkg-1.0.dist-info").mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: mypkg\nVersion: 1.0\n")
    (metadata / "WHEEL").write_text(f"Wheel-Version: 1.0\nGenerator: {tool} 1.27\n")
    (metadata / "RECORD").write_text("")
    origin = {"url": project.as_uri(), "dir_info": {"editable": True}}
    (metadata / "direct_url.json").write_text(json.dumps(origin))
    return python


@pytest.mark.parametrize("confined", [pytest.param(True, marks=needs_sandbox), False])
@pytest.mark.parametrize("tool", MADE)
def test_editable_installations_of_other_tools_are_known_or_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str, confined: bool
) -> None:
    """Before: HEAD was executed where nothing confines it, "identical", and in no claim; in a sandbox, undecided."""
    author = author_of(tmp_path / "a", "src", **{"pyproject.toml": "", "setup.py": ""})
    run = author.record(str(made_by(tool, tmp_path / "authors", author.root)), "scripts/train.py", outputs=("o",))
    (author.root / "src/mypkg/model.py").write_text(LATER)
    author.git("commit", "-qam", "later")
    clone = author.clone()
    use(monkeypatch, made_by(tool, tmp_path / "reviewers", clone))
    found = author.reproduce(run, clone=clone, **({} if confined else {"sandbox": "none", "trust_code": True}))
    named = [line for line in found.plan.differences if "an editable installation" in line]
    if tool == "meson-python":
        assert named == ["mypkg: an editable installation by meson-python, taken as it is here"]
    elif confined:
        assert (found.verdict, named) == ("identical", []), found.judgements
        assert written(found) == "0.6123" and "mypkg from src/mypkg" in of_environment(found)
    else:
        assert named == [f"{clone}/src: an editable installation, taken as it is here"]


@needs_sandbox
@pytest.mark.parametrize("written_as", ["src", "lib"])
def test_a_folder_that_a_link_leads_to_here_is_the_recorded_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written_as: str
) -> None:
    """The clone has moved on: its src is a link to lib, which the recorded commit has, too. Before, lib was executed
    in the place of src, "identical", every claim "checked". pip writes where the link leads."""
    author = author_of(tmp_path / "a", **{"lib/mypkg/__init__.py": "", "lib/mypkg/model.py": LATER})
    python = environment(tmp_path / "authors", author.root / "lib")
    run = author.record(str(python), "scripts/train.py", outputs=("o",))
    author.git("rm", "-rq", "src")
    (author.root / "src").symlink_to("lib")
    author.git("add", "src")
    author.git("commit", "-qm", "One folder")
    clone = author.clone()
    use(monkeypatch, finding(tmp_path / "reviewers", "mypkg", clone / written_as / "mypkg"))
    found = author.reproduce(run, clone=clone)
    assert statuses(found)["environment"] == "not checked"
    assert f"{clone}/{written_as}: src is a link that leads there here" in of_environment(found)
    if written_as == "lib":
        return
    assert (written(found), found.verdict != "identical") == ("0.6123", True)
    assert "mypkg from src/mypkg (here a link to lib/mypkg)" in of_environment(found)
