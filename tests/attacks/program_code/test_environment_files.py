"""Attack: code of an environment that no source names gives the results; versions and RECORDs are as recorded."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import marshal
import os
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from strange_programs import CONFINED, Stranger
from tiny_wheels import make_wheel

from ndrepro.api import Reproduction
from ndrepro.execution.environments.interpreters import run_uv
from ndrepro.execution.program_reproduction import environment_files
from ndrepro.protocol.errors import SandboxError
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.messages import Request
from ndrepro.reproduction.installed_claim import installed_claim
from provenance.capture.distribution_metadata import RecordedFile
from provenance.capture.distributions import search

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


def packages(python: Path) -> Path:
    (found,) = python.parents[1].glob("lib/python*/site-packages")
    return found


def add(path: Path, text: str | bytes) -> None:
    """Write a file of no distribution, or another one in the place of a distribution's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # it may be a link into uv's cache
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(0o755)


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


@pytest.mark.parametrize("edited", ["", "tinystats.py", "fastmean.so"])
def test_a_file_that_is_not_as_listed_is_named(
    tmp_path: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch, edited: str
) -> None:
    """And the control: an environment that is as listed stays checked. Before, libraries were compared with nothing."""
    make_wheel(wheels, "tinystats", "2.0", MEAN, more={"fastmean.so": "machine code"})
    author = Stranger.make(tmp_path / "a", {"train.py": TRAINS})
    run = author.record(str(environment(tmp_path / "authors", "tinystats")), "train.py", outputs=("o",))
    python = environment(tmp_path / "reviewers", "tinystats")
    if edited:
        add(packages(python) / edited, MEAN + "# a remark\n")
    use(monkeypatch, python)
    found = author.reproduce(run)
    expected = ("not checked", f"{edited}: not the file that tinystats lists") if edited else ("checked", "as recorded")
    assert found.verdict == "identical"
    assert claim(found, "environment")[0] == expected[0] and expected[1] in claim(found, "environment")[1]


@pytest.mark.parametrize("what", ["", "missing", "edited", "linked", "linked folder", *BROUGHT])
def test_the_same_is_said_of_the_environment_of_a_training_run(
    tmp_path: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Before: "libraries and loaded code" looked at what was loaded alone, and all was checked."""
    more, status, words = BROUGHT.get(what, ({"textfast.py": MEAN}, "not checked", "textfast"))
    make_wheel(wheels, "textcolors", "2.1", more=more)
    python = environment(tmp_path / "reviewers", "tinystats", "textcolors")
    if what == "missing":
        (packages(python) / "textfast.py").unlink()
    elif what == "linked":
        (packages(python) / "textfast.py").rename(tmp_path / "textfast.py")
        (packages(python) / "textfast.py").symlink_to(tmp_path / "textfast.py")
    elif what == "linked folder":
        (tmp_path / "textfast").mkdir()
        (packages(python) / "textfast").symlink_to(tmp_path / "textfast")
    elif what == "edited":
        add(packages(python) / "textfast.py", FALSE)
    monkeypatch.setattr(sys, "executable", str(python))
    (found,) = installed_claim(Request(Experiment.from_name("lenet_bn_1_digits"), ""))
    if what:
        assert found.status == status and words in found.evidence, found
    else:
        assert (found.status, found.evidence) == ("checked", "what is installed is as the RECORDs list it"), (
            "the control"
        )


COUNTS = """import copy, subprocess, tinystats
count = subprocess.run(['wc', '-l', 'train.py'], capture_output=True, text=True).stdout.split()[0]
open('o', 'w').write(f'{tinystats.mean([0.5, 0.6])} {count}')
"""
UNLISTED = {
    "lib/python{version}/site-packages/org/python/core.py": "import tinystats\ntinystats.mean = lambda x: 0.9999\n"
    "PyStringMap = None\n",
    "bin/wc": "#!/bin/sh\necho 9999\n",
}


@pytest.mark.parametrize("name", UNLISTED)
def test_what_no_distribution_lists_is_named_where_it_decides_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """It came with a later commit, whose folder ``.venv`` an environment was made in, say: no installer removes it."""
    author = Stranger.make(tmp_path / "a", {"train.py": COUNTS})
    place = Path(name.format(version=f"{sys.version_info.major}.{sys.version_info.minor}"))
    authors, reviewers = (environment(tmp_path / who, "tinystats") for who in ("authors", "reviewers"))
    for python in (authors, reviewers):
        add(python.parents[1] / place, UNLISTED[name])
    use(monkeypatch, authors)
    run = author.record(str(authors), "train.py", outputs=("o",))
    assert "9999" in (author.root / "o").read_text(), "the control"
    use(monkeypatch, reviewers)
    found = author.reproduce(run)
    assert found.verdict == "identical"
    status, words = claim(found, "environment")
    assert status == "not checked" and "that no RECORD lists: " in words, words
    assert ("wc" if place.name == "wc" else "org/") in words


def test_bytecode_of_an_environment_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python executes it in the place of the listed source, whatever that says. Before: "identical", checked."""
    author = Stranger.make(tmp_path / "a", {"train.py": TRAINS})
    code = compile(FALSE, "tinystats.py", "exec")
    unchecked = importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + bytes(8) + marshal.dumps(code)
    authors, reviewers = (environment(tmp_path / who, "tinystats") for who in ("authors", "reviewers"))
    for python in (authors, reviewers):
        add(Path(importlib.util.cache_from_source(str(packages(python) / "tinystats.py"))), unchecked)
    run = author.record(str(authors), "train.py", outputs=("o",))
    assert (author.root / "o").read_text() == "0.9999", "the control"
    use(monkeypatch, reviewers)
    found = author.reproduce(run)
    assert (Path(found.folders[0]) / "outputs" / "o").read_text() == "0.55" and found.verdict != "identical"


def test_bytecode_that_is_read_all_the_same_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An option of the command takes the private folder for it away. Before: environment and inputs "checked"."""
    author = Stranger.make(tmp_path / "a", {"train.py": TRAINS})
    authors, reviewers = (environment(tmp_path / who, "tinystats") for who in ("authors", "reviewers"))
    for python in (authors, reviewers):
        subprocess.run([python, "-c", "import tinystats"], check=True)
    run = author.record(str(authors), "-X", "pycache_prefix=", "train.py", outputs=("o",))
    use(monkeypatch, reviewers)
    status, evidence = claim(author.reproduce(run), "inputs")
    assert status == "not checked" and "bytecode that was there before was read: " in evidence


def concerns(python: Path) -> str:
    """What is said of an environment, apart from notes."""
    site = packages(python)
    return "; ".join(environment_files.look([site], search([str(site)]), [python]).concerns)


def notes(python: Path) -> list[str]:
    """What is noted of one."""
    site = packages(python)
    return [*environment_files.look([site], search([str(site)]), [python]).notes]


NOT_SHOWN = ": not of the environment, nor shown with it: "
SITE = "lib/python*/site-packages"
ADDED = {
    f"{SITE}/fastmean.py": "module that no RECORD lists: fastmean.py",
    f"{SITE}/fastmean.pyc": "module that no RECORD lists: fastmean.pyc",
    f"{SITE}/__pycache__/fastmean.py": "module that no RECORD lists: __pycache__/",
    f"{SITE}/fastmean/data/a.py": "module that no RECORD lists: fastmean/",
    f"{SITE}/tinystats-1.0.dist-info/entry_points.txt": "lists: tinystats-1.0.dist-info/entry_points.txt",
    f"{SITE}/libmean.so.1": "compiled file that no RECORD lists: libmean.so.1",
    f"{SITE}/first.pth": "module that no RECORD lists: first.pth",
    f"{SITE}/sitecustomize.py": "module that no RECORD lists: sitecustomize.py",
    f"{SITE}/_virtualenv.py": "module that no RECORD lists: _virtualenv.py",
    "lib/libmean.so": "compiled file that no RECORD lists: lib/libmean.so",
    "etc/jupyter/jupyter_config.py": "module that no RECORD lists: etc/",
    "etc/fast/libfast.so": "compiled file that no RECORD lists: etc/",
    f"{SITE}/emptymean/__pycache__/core.cpython-311.pyc": "module that no RECORD lists: emptymean/",
    "bin/python3.99": "program that no RECORD lists: python3.99",
    "bin/tiny": "../../../bin/tiny: not the file that tinystats lists",
}


@pytest.mark.parametrize("name", ADDED)
def test_each_kind_of_file_is_named(tmp_path: Path, wheels: Path, name: str) -> None:
    """Before, none of them was."""
    entry_points = {"tinystats-1.1.dist-info/entry_points.txt": "[console_scripts]\ntiny = tinystats:mean\n"}
    make_wheel(wheels, "tinystats", "1.1", MEAN, more=entry_points if name == "bin/tiny" else {})
    python = environment(tmp_path / "env", "tinystats" if name == "bin/tiny" else "tinystats==1.0")
    assert concerns(python) == "", "the control"
    inside = name.removeprefix(f"{SITE}/")
    add(python.parents[1] / name if inside == name else packages(python) / inside, "import os\n")
    assert ADDED[name] in concerns(python)


def test_a_listed_file_that_is_missing_is_named(tmp_path: Path, wheels: Path) -> None:
    """In both environments; the program does without. Before: what is not there is not executed."""
    make_wheel(wheels, "tinystats", "1.1", MEAN, more={"tinyfast.py": MEAN})
    python = environment(tmp_path / "env", "tinystats")
    (packages(python) / "tinyfast.py").unlink()
    assert concerns(python) == "tinyfast.py: tinystats lists it, and it is not there"


def test_links_and_files_without_a_digest_are_named(tmp_path: Path) -> None:
    python = environment(tmp_path / "env", "tinystats")
    site = packages(python)
    add(tmp_path / "elsewhere" / "a.py", "")
    (site / "linked").symlink_to(tmp_path / "elsewhere")
    assert "module that no RECORD lists: linked" in concerns(python)
    record = site / "tinystats-1.0.dist-info" / "RECORD"
    text = record.read_text()
    add(record, "".join("tinystats.py,,\n" if row.startswith("tinystats.py,") else f"{row}\n" for row in text.split()))
    assert "tinystats.py: tinystats lists it without a SHA-256" in concerns(python)


def test_an_environment_of_pip_or_virtualenv_is_of_known_making(tmp_path: Path) -> None:
    """The controls: pip and its scripts; and files of virtualenv, and of uv for some versions, that no RECORD lists."""
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "env")], check=True)
    python = tmp_path / "env" / "bin" / "python"
    assert concerns(python) == "" and (python.parent / "pip").is_file()
    (packages(python) / "_virtualenv.pth").write_text("import _virtualenv")
    (packages(python) / "_virtualenv.py").write_text("")
    add(tmp_path / "env" / "share" / "jupyter" / "kernels" / "own" / "kernel.json", "{}")
    found = environment_files.look([packages(python)], search([str(packages(python))]), [python])
    assert found.concerns == () and "_virtualenv.pth" in found.notes[0]
    assert found.notes[1].endswith("env: 1 other file that no RECORD lists: share/")


def test_an_empty_folder_is_a_package(tmp_path: Path) -> None:
    """``try: import fastmean`` finds it, in neither RECORD. Before: environment "checked"."""
    python = environment(tmp_path / "env", "tinystats")
    (packages(python) / "fastmean" / "core").mkdir(parents=True)
    (packages(python) / "tinystats-1.0.dist-info" / "licenses").mkdir()
    assert subprocess.run([python, "-c", "import fastmean.core"]).returncode == 0, "the control"
    assert concerns(python).endswith("site-packages: 1 module that no RECORD lists: fastmean/")


def test_what_is_beside_the_packages_of_an_environment_is_named(tmp_path: Path) -> None:
    """Data of a virtual environment, and what no package of conda's has, which the sandbox shows. Before: in no
    claim."""
    python = environment(tmp_path / "env", "tinystats")
    add(tmp_path / "env/nltk_data/corpora/words", "mean 0.9999")
    assert notes(python) == [f"{tmp_path}/env: 1 other file that no RECORD lists: nltk_data/"]
    prefix = tmp_path / "conda"
    names = ["bin/python3.11", "lib/python3.11/os.py", "lib/python3.11/site-packages/README.txt", "share/tz/UTC"]
    for name in names:
        add(prefix / name, "")
    (prefix / "bin/python").symlink_to("python3.11")
    add(prefix / "conda-meta/python-3.11.7-0.json", json.dumps({"name": "python", "files": [*names, "bin/python"]}))
    add(prefix / "conda-meta/damaged.json", "[]")
    assert notes(prefix / "bin/python") == [], "the control"
    for name in ("envs/other/bin/python", "share/tz/Mean", "opt/fast/a.so", "opt/fast/b.so", "secret.txt"):
        add(prefix / name, "")
    said = [f"{prefix}: of no package that conda lists: share/tz/Mean", f"{prefix}{NOT_SHOWN}envs/, opt/, secret.txt"]
    assert notes(prefix / "bin/python") == said


def test_files_of_conda_s_packages_are_compared_with_its_lists(tmp_path: Path) -> None:
    """A library of no RECORD was edited. Before: environment "checked", since conda lists its name."""
    prefix, digests = tmp_path / "conda", [hashlib.sha256(text.encode()).hexdigest() for text in ("as built", "here")]
    paths = [
        {"_path": "lib/libmkl.so", "path_type": "hardlink", "sha256": digests[0], "sha256_in_prefix": digests[0]},
        {"_path": "bin/tool", "path_type": "hardlink", "sha256": digests[0], "sha256_in_prefix": digests[1]},
        {"_path": "bin/old", "path_type": "hardlink", "sha256": digests[0], "prefix_placeholder": "/opt/placeholder"},
        {"_path": "lib/liblink.so", "path_type": "softlink", "sha256": digests[1]},
        {"_path": "lib/removed.so", "path_type": "hardlink", "sha256": digests[0]},
    ]
    names = [each["_path"] for each in paths]
    add(prefix / "conda-meta/mkl-1-0.json", json.dumps({"name": "mkl", "files": names, "paths_data": {"paths": paths}}))
    for name, text in {"lib/libmkl.so": "as built", "bin/tool": "here", "bin/old": "here"}.items():
        add(prefix / name, text)
    (prefix / "lib/liblink.so").symlink_to("libmkl.so")
    for name in ("bin/python", "lib/python3.11/site-packages/README.txt"):
        add(prefix / name, "")
    assert concerns(prefix / "bin/python") == "", "the control"
    (prefix / "lib/libmkl.so").write_text("edited")
    assert concerns(prefix / "bin/python") == "lib/libmkl.so: not the file that conda's mkl lists"


def test_a_wheel_s_files_that_are_not_shown_are_named(tmp_path: Path, wheels: Path) -> None:
    make_wheel(wheels, "tinystats", "1.1", MEAN, more={"tinystats-1.1.data/data/tables/mean.txt": "0.5"})
    python = environment(tmp_path / "env", "tinystats")
    assert concerns(python) == f"1 file which a sandbox does not show: {tmp_path}/env/tables/mean.txt"


def test_a_project_whose_root_is_an_environment_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recorded code looks where its own environment has nothing. Before: it read secrets there and reached services;
    "identical", environment checked."""
    looks = "import pathlib, sys\nfound = [p for p in pathlib.Path(sys.prefix).rglob('*') if 'mine' in p.name]\n"
    author = Stranger.make(tmp_path / "a", {"train.py": f"{looks}open('o', 'w').write(f'{{found}}')\n"})
    use(monkeypatch, authors := environment(tmp_path / "authors", "tinystats"))
    run = author.record(str(authors), "train.py", outputs=("o",))
    root = tmp_path / "project"
    use(monkeypatch, environment(root, "tinystats"))
    add(root / "mine.env", "TOKEN=secret")
    add(root / "tmp/mine/key", "secret")
    (root / "share").symlink_to("tmp")
    found = author.reproduce(run)
    assert found.verdict == "identical" and f"{root}{NOT_SHOWN}mine.env, share/, tmp/" in claim(found, "environment")[1]
    with socket.socket(socket.AF_UNIX) as service:
        monkeypatch.chdir(root / "lib")
        service.bind("mine.sock")
        with pytest.raises(SandboxError, match=r"lib/mine\.sock: a socket, FIFO or device in an environment"):
            author.reproduce(run)


def test_what_is_beside_an_installation_of_python_is_named(tmp_path: Path) -> None:
    for name in ("bin/python3.11", "lib/python3.11/site-packages/README.txt", "nltk_data/corpora/words"):
        add(tmp_path / "python" / name, "")
    said = notes(tmp_path / "python/bin/python3.11")
    assert said == [f"{tmp_path}/python: beside the folders of Python: nltk_data"]


def test_an_archive_on_the_search_path_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ``.pth`` file leads to it, which no distribution lists."""
    author = Stranger.make(tmp_path / "a", {"train.py": TRAINS})
    run = author.record(str(environment(tmp_path / "authors", "tinystats")), "train.py", outputs=("o",))
    python = environment(tmp_path / "reviewers", "tinystats")
    with zipfile.ZipFile(packages(python) / "more.zip", "w") as archive:
        archive.writestr("more.py", "")
    (packages(python) / "more.pth").write_text("more.zip\n")
    use(monkeypatch, python)
    assert "more.zip: an archive that modules are imported from" in claim(author.reproduce(run), "environment")[1]


def test_a_digest_in_hexadecimal_is_that_of_the_file() -> None:
    """As Debian's packages have it; before, every file of theirs was another than listed."""
    sha256 = hashlib.sha256(MEAN.encode()).hexdigest()
    assert RecordedFile("tinystats.py", f"sha256={sha256}").sha256 == sha256


def test_a_distribution_of_no_index_is_named(tmp_path: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed from a folder of the same repository, at another commit. Before: environment "checked", in no claim."""
    python = environment(tmp_path / "env", "tinystats")
    (info,) = packages(python).glob("tinystats-*.dist-info")
    (info / "direct_url.json").write_text('{"url": "file:///srv/project", "dir_info": {}}')
    use(monkeypatch, python)
    author = Stranger.make(tmp_path / "a", {"train.py": "open('o', 'w').write('0.5')\n"})
    found = author.reproduce(author.record(str(python), "train.py", outputs=("o",)))
    words = "not of an index, and maybe of another commit than is recorded: "
    assert f"{words}tinystats 1.0 (file:///srv/project)" in claim(found, "environment")[1]
