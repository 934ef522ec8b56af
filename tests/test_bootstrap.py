"""The set-up that every ``make`` target begins with: from nothing, once, repaired when cut short.

Tried on a small project with the real bootstrap.sh and Makefile, and the real lock's installer and build
backend, in a folder whose name has spaces and other letters. The first test needs the package index, as
set-up does.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ndrepro.execution.environments.interpreters import find_python
from ndrepro.protocol.errors import EnvironmentMissing

ROOT = Path(__file__).resolve().parents[1]
NEEDED = ("uv", "hatchling", "packaging", "pathspec", "pluggy", "trove-classifiers", "pip", "setuptools")
TOOLS = ("sh", "cat", "sha256sum", "dirname", "uname", "awk", "flock", "make", "rm", "find", "mktemp")
UNEXPORTED = "PYTHONDONTWRITEBYTECODE"  # by the Makefile, which says why
NO_OTHER = {"HOME": "/nonexistent", "PYENV_ROOT": "/nonexistent", "UV_PYTHON_INSTALL_DIR": "/nonexistent"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of one module, with the part of requirements.lock that set-up itself needs."""
    folder = tmp_path / "a clone é 名"
    (folder / "ndrepro").mkdir(parents=True)
    for name in ("bootstrap.sh", "Makefile"):
        shutil.copy(ROOT / name, folder)
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    kept = [block for block in re.split(r"\n(?=\S)", lock) if block.partition("==")[0] in NEEDED]
    (folder / "requirements.lock").write_text("\n".join(kept) + "\n", encoding="utf-8")
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "ndrepro"\nversion = "0"\nscripts = { ndrepro = "ndrepro:main" }\n'
        '[tool.hatch.build]\ndev-mode-dirs = ["."]\n',
        encoding="utf-8",
    )
    (folder / "ndrepro" / "__init__.py").write_text(
        "import sys\ndef main():\n    print(sys.argv[1:])\n", encoding="utf-8"
    )
    (folder / "ndrepro" / "__main__.py").write_text("import ndrepro\nndrepro.main()\n", encoding="utf-8")
    return folder


def clean_variables() -> dict[str, str]:
    """This process's variables, without those of a make that the suite itself may run under."""
    ours = {"EXP", "DATA", "SET", "RUN", "ARGS", "PYTHON", "PYTHONPATH", "MAKEFLAGS", "MAKELEVEL", "MFLAGS"}
    return {name: value for name, value in os.environ.items() if name not in ours}


def make(project: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**clean_variables(), "PYTHON": sys.executable, **variables}
    return subprocess.run(
        ["make", *arguments], cwd=project, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )


def finished_by_hand(project: Path) -> None:
    """A .venv that looks complete, without the cost of one."""
    content = b"".join(
        (project / name).read_bytes() for name in ("requirements.lock", "pyproject.toml", "bootstrap.sh")
    )
    (project / ".venv" / "bin").mkdir(parents=True)
    (project / ".venv" / "bin" / "python").symlink_to(sys.executable)
    stamp = f"{hashlib.sha256(content).hexdigest()} {project.resolve()}\n"
    (project / ".venv" / ".complete").write_text(stamp, encoding="utf-8")


def test_a_run_is_given_no_variable_of_make_that_a_manifest_records(project: Path) -> None:
    finished_by_hand(project)
    (project / "ndrepro" / "__main__.py").write_text(
        "import os\nfrom provenance.capture.environment import _ALLOWED\n"
        "print(*sorted(name for name in os.environ if _ALLOWED.fullmatch(name) or name == 'PYTHON'))\n",
        encoding="utf-8",
    )
    direct = subprocess.run(
        [sys.executable, "-m", "ndrepro"],
        cwd=project,
        env={
            **{name: value for name, value in clean_variables().items() if name != UNEXPORTED},
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
    )
    for arguments in ([], ["EXP=lenet_nd_5_digits", f"PYTHON={sys.executable}"]):
        made = make(project, "run", *arguments, PYTHONPATH=str(ROOT))
        assert (made.returncode, made.stdout) == (0, direct.stdout), made.stderr
    assert "LANG" in make(project, "run", PYTHONPATH=str(ROOT), LANG="C.UTF-8").stdout  # the control


def only_tools(folder: Path) -> str:
    """A PATH with what set-up runs, and no Python but a shim that fails."""
    folder.mkdir()
    for tool in TOOLS:
        (folder / tool).symlink_to(shutil.which(tool) or pytest.fail(f"no {tool}"))
    (folder / "python3").write_text("#!/bin/sh\necho no such version >&2\nexit 127\n", encoding="utf-8")
    (folder / "python3").chmod(0o755)
    return str(folder)


def test_set_up_refuses_a_wrong_file_starts_over_when_cut_short_and_then_has_nothing_to_do(
    project: Path,
) -> None:
    lock = project / "requirements.lock"
    genuine = lock.read_text(encoding="utf-8")
    lock.write_text(re.sub(r"(?<=sha256:)\w+", lambda found: found[0][::-1], genuine), encoding="utf-8")
    refused = make(project, "env")
    assert refused.returncode != 0
    assert "DO NOT MATCH THE HASHES" in refused.stderr
    assert "did not finish" in refused.stderr
    assert not (project / ".venv" / ".complete").exists()

    # What is left is a set-up that was interrupted, here in the middle of its own pip.
    shutil.rmtree(next((project / ".venv").glob("lib/python*/site-packages/pip")))
    lock.write_text(genuine, encoding="utf-8")
    first = make(project, "run", "EXP=vgg16 nd", "DATA=/a b/é", "SET=seed=3 lr=0.1", "ARGS=--note 'x y'")
    assert first.returncode == 0, first.stderr
    assert "Setting up .venv" in first.stderr
    assert first.stdout == (
        "['run', 'vgg16 nd', '--data', '/a b/é', '--set', 'seed=3', '--set', 'lr=0.1', '--note', 'x y']\n"
    )
    second = make(project, "run")
    assert (second.stdout, second.stderr) == ("['run']\n", "")
    command = [project / ".venv" / "bin" / "ndrepro", "show"]
    for variables in ({}, {"LC_ALL": "C"}):  # the editable link must not depend on the locale
        said = subprocess.run(command, cwd="/", env={**clean_variables(), **variables}, capture_output=True, text=True)
        assert (said.returncode, said.stdout) == (0, "['show']\n"), said.stderr

    made = (project / ".venv" / "pyvenv.cfg").stat().st_mtime_ns
    lock.write_text(f"{genuine}# changed\n", encoding="utf-8")
    assert make(project, "env").returncode == 0
    assert (project / ".venv" / "pyvenv.cfg").stat().st_mtime_ns == made, "a changed lock is synced in place"
    assert make(project, "env").stderr == ""


def test_what_is_up_to_date_is_told_by_content_never_by_times(project: Path, tmp_path: Path) -> None:
    finished_by_hand(project)
    path = only_tools(tmp_path / "bin")
    for age in (0, 2_000_000_000):
        for name in ("requirements.lock", "pyproject.toml", "bootstrap.sh", ".venv/.complete"):
            os.utime(project / name, (age, age))
            age = 1_000_000_000 - age
        untouched = make(project, "env", PATH=path, PYTHON="")
        assert (untouched.returncode, untouched.stdout, untouched.stderr) == (0, "", "")
    moved = project.rename(project.with_name("moved"))
    assert "no working Python" in make(moved, "env", PATH=path, PYTHON="", **NO_OTHER).stderr


def test_without_a_python_or_uv_the_message_says_what_to_install(project: Path, tmp_path: Path) -> None:
    refused = make(project, "env", PATH=only_tools(tmp_path / "bin"), PYTHON="", **NO_OTHER)
    assert refused.returncode != 0
    assert "error: no working Python 3.11 to 3.14" in refused.stderr
    assert "hint: install one" in refused.stderr
    assert "make PYTHON=/path/to/python3" in refused.stderr
    assert "did not finish" not in refused.stderr, "one error is enough"
    assert not (project / ".venv").exists()


def wrapper(path: Path, body: str) -> Path:
    """An executable shell script."""
    path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.mark.slow
def test_a_python_that_is_too_old_installs_the_uv_that_downloads_a_fitting_one(project: Path, tmp_path: Path) -> None:
    old = next((each for each in ("3.10", "3.9", "3.8") if available(each)), None)
    if old is None:
        pytest.skip("no Python from 3.8 to 3.10 on this machine")
    path = only_tools(tmp_path / "bin")
    wrapper(tmp_path / "bin" / f"python{old}", f'exec "{available(old)}" "$@"')
    refused = make(project, "env", PATH=path, PYTHON="", UV_PYTHON_INSTALL_MIRROR="file:///nonexistent", **NO_OTHER)
    assert refused.returncode != 0
    said = refused.stderr
    assert said.index("No Python 3.11 to 3.14 was found: uv is downloading") < said.index(
        "error: uv could not download"
    )
    assert "Failed to install cpython-3.13" in said, "uv's own account of it"
    assert "UV_PYTHON_INSTALL_MIRROR" in said
    assert not (project / ".venv").exists()


def available(version: str) -> Path | None:
    try:
        return find_python(version)
    except EnvironmentMissing:
        return None


@pytest.mark.slow
def test_the_python_that_uv_downloads_is_used(project: Path, tmp_path: Path) -> None:
    """The download itself stands in for here: uv's own source of Pythons is no package index."""
    path = only_tools(tmp_path / "bin")
    uv, log = Path(sys.executable).with_name("uv"), tmp_path / "log"
    arrives = f'ln -sf "{sys.executable}" "{tmp_path}/bin/python3.13"'
    wrapper(
        tmp_path / "bin" / "uv",
        f'echo "$*" >>"{log}"\ncase "$*" in\n'
        f'"python install"*) {arrives} ;;\n'
        f'"python find"*) [ -e "{tmp_path}/bin/python3.13" ] && echo "{tmp_path}/bin/python3.13" ;;\n'
        f'*) exec "{uv}" "$@" ;;\nesac',
    )
    (tmp_path / "bin" / "ln").symlink_to(shutil.which("ln") or "/bin/ln")
    made = make(project, "run", PATH=path, PYTHON="", **NO_OTHER, UV_CACHE_DIR=str(tmp_path / "cache"))
    assert (made.returncode, made.stdout) == (0, "['run']\n"), made.stderr
    asked = log.read_text(encoding="utf-8").splitlines()
    assert [line for line in asked if line.startswith("python install")] == ["python install 3.13"]
    assert made.stderr.index("uv is downloading Python 3.13") < made.stderr.index("Setting up .venv")


@pytest.mark.slow
def test_a_python_without_its_venv_module_and_a_linked_folder_will_do(project: Path, tmp_path: Path) -> None:
    """As Debian installs it where python3-venv is left out; .venv is a link to scratch space."""
    python = wrapper(tmp_path / "python3", f'case "$*" in *ensurepip*) exit 1 ;; esac\nexec "{sys.executable}" "$@"')
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    (project / ".venv").symlink_to(scratch)
    made = make(project, "run", PYTHON=str(python))
    assert (made.returncode, made.stdout) == (0, "['run']\n"), made.stderr
    assert (scratch / "bin" / "ndrepro").is_file()
    assert not list(scratch.glob("lib/python3.*/site-packages/_virtualenv*"))


def test_another_platform_is_refused(project: Path, tmp_path: Path) -> None:
    path = Path(only_tools(tmp_path / "bin"))
    (path / "uname").unlink()
    (path / "uname").write_text("#!/bin/sh\necho Darwin arm64\n", encoding="utf-8")
    (path / "uname").chmod(0o755)
    assert "this is Darwin arm64" in make(project, "env", PATH=str(path)).stderr


def test_make_alone_lists_the_targets() -> None:
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("run", "test", "lint", "bench", "verify", "lock", "lock-check", "clean"):
        assert f"make {target} " in listed
