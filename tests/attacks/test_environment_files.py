"""Attack: code of an environment that no source names gives the results; versions and RECORDs are as recorded."""

from __future__ import annotations

import hashlib
import os
import sys
import zipfile
from pathlib import Path

import pytest
from strange_programs import CONFINED, Stranger
from tiny_wheels import make_wheel

from ndrepro.api import Reproduction
from ndrepro.execution.environments.interpreters import run_uv
from provenance.capture.distribution_metadata import RecordedFile

pytestmark = pytest.mark.skipif(not CONFINED, reason="what nothing confines sees everything")
TRAINS = "import tinystats\nopen('o', 'w').write(str(tinystats.mean([0.5, 0.6])))\n"
MEAN, FALSE = "def mean(x):\n    return sum(x) / len(x)\n", "def mean(x):\n    return 0.9999\n"
REPLACES = "import sys; exec('import tinystats; tinystats.mean = lambda x: 0.9999')\n"


def uv(*words: str | Path) -> None:
    done = run_uv(*map(str, words))
    assert done.returncode == 0, done.stderr


@pytest.fixture(autouse=True)
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only index of this test."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("UV_FIND_LINKS", str(folder))
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    make_wheel(folder, "tinystats", "1.0", MEAN)
    return folder


def environment(place: Path, *names: str) -> Path:
    """A virtual environment with these wheels, installed in this order; its interpreter."""
    uv("venv", "--no-project", "--python", Path(sys.executable).resolve(), place)
    for name in names:
        uv("pip", "install", "--python", place / "bin" / "python", name)
    return place / "bin" / "python"


def use(monkeypatch: pytest.MonkeyPatch, python: Path) -> None:
    monkeypatch.setenv("PATH", f"{python.parent}{os.pathsep}{os.environ['PATH']}")


def claim(found: Reproduction, name: str) -> tuple[str, str]:
    claims = (*found.judgements[0].claims, *found.claims)
    return next((each.status, each.evidence) for each in claims if each.name == name)


BASE = f"home = {Path(sys.executable).resolve().parent}\ninclude-system-site-packages = false\n"
BROUGHT: dict[str, tuple[dict[str, str], str, str]] = {
    "a start-up file": ({"textcolors.pth": REPLACES}, "checked", "executes textcolors.pth of textcolors"),
    "sitecustomize": ({"sitecustomize.py": REPLACES}, "checked", "sitecustomize.py of textcolors"),
    "a program": (
        {"textcolors-2.1.dist-info/entry_points.txt": "[console_scripts]\nsort = textcolors:main\n"},
        "checked",
        "it has programs that the machine has, too: sort of textcolors",
    ),
    "another's file": ({"tinystats.py": FALSE}, "not checked", "tinystats.py: of textcolors and of tinystats, with"),
    "another's RECORD": (
        {"textcolors-2.1.data/purelib/tinystats-1.0.dist-info/RECORD": "tinystats.py,,\n"},
        "not checked",
        "tinystats-1.0.dist-info/RECORD: of textcolors and of tinystats, with",
    ),
    "the environment's": (
        {"textcolors-2.1.data/data/pyvenv.cfg": BASE},
        "not checked",
        "pyvenv.cfg: a file of the environment itself that textcolors lists",
    ),
}


@pytest.mark.parametrize("what", BROUGHT)
def test_code_that_another_distribution_brings_is_named(
    tmp_path: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Of one that the source does not import, and that changes what it does import."""
    more, status, words = BROUGHT[what]
    make_wheel(wheels, "textcolors", "2.1", more=more)
    author = Stranger.make(tmp_path / "a", {"train.py": TRAINS})
    run = author.record(str(environment(tmp_path / "authors", "tinystats", "textcolors")), "train.py", outputs=("o",))
    use(monkeypatch, environment(tmp_path / "reviewers", "tinystats", "textcolors"))
    found = claim(author.reproduce(run), "environment")
    assert found[0] == status and words in found[1], found


@pytest.mark.parametrize("listed", [True, False])
def test_a_rebuilt_environment_is_never_checked(tmp_path: Path, wheels: Path, listed: bool) -> None:
    """Whatever is in its wheels, and their RECORDs. Before: "identical", checked, and the package was in no claim."""
    package = {"tinystats/__init__.py": FALSE}
    make_wheel(wheels, "textcolors", "2.1", more=package if listed else {})
    if not listed:
        with zipfile.ZipFile(wheels / "textcolors-2.1-py3-none-any.whl", "a") as archive:
            archive.writestr(*package.popitem())
    author = Stranger.make(tmp_path / "a", {"train.py": TRAINS})
    run = author.record(str(environment(tmp_path / "authors", "tinystats", "textcolors")), "train.py", outputs=("o",))
    found = author.reproduce(run, rebuild_env=True)
    assert (found.verdict, (author.root / "o").read_text()) == ("identical", "0.9999")
    status, words = claim(found, "environment")
    assert status == "not checked" and "as recorded; 2 packages of the recorded versions installed from" in words, words


@pytest.mark.parametrize("edited", [False, True])
def test_source_that_its_record_does_not_list_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edited: bool
) -> None:
    """And the control: an environment with setuptools, which is executed at the start, stays checked."""
    author = Stranger.make(tmp_path / "a", {"train.py": TRAINS})
    run = author.record(str(environment(tmp_path / "authors", "tinystats")), "train.py", outputs=("o",))
    python = environment(tmp_path / "reviewers", "tinystats")
    if edited:
        (module,) = python.parents[1].glob("lib/*/site-packages/tinystats.py")
        module.unlink()  # it may be a link into uv's cache
        module.write_text(MEAN + "# a remark\n")
    use(monkeypatch, python)
    found = author.reproduce(run)
    expected = (
        ("not checked", "tinystats.py: not the file that tinystats lists") if edited else ("checked", "as recorded")
    )
    assert found.verdict == "identical"
    assert claim(found, "environment")[0] == expected[0] and expected[1] in claim(found, "environment")[1]


def test_a_digest_in_hexadecimal_is_that_of_the_file() -> None:
    """As Debian's packages have it; before, every file of theirs was another than listed."""
    sha256 = hashlib.sha256(MEAN.encode()).hexdigest()
    assert RecordedFile("tinystats.py", f"sha256={sha256}").sha256 == sha256
