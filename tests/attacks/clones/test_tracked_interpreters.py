"""Attack: the author's clone has an interpreter of his own where the reviewer makes an environment in it, or a script
stands in an interpreter's place."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from strange_programs import CONFINED, Stranger, statuses

from ndrepro.execution.environments.interpreters import find_python
from ndrepro.protocol.errors import EnvironmentMissing, UsageError

WRITES = "open('o', 'w').write('0.5')\n"
# as a module that every start of Python executes: outside of the sandbox alone it finds where to write
STARTS = "import os; os.path.isdir('{0}') and open('{0}/harm', 'a').close()\n"
needs_sandbox = pytest.mark.skipif(not CONFINED, reason="what nothing confines sees everything")


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)
    return path


def environment(place: Path) -> Path:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    return place / "bin"


@pytest.mark.parametrize(
    "how",
    [
        *("a script", "a link to one", "what it executes at its start", "its settings"),
        *("behind a link above that", "behind a link in its place"),
    ],
)
@pytest.mark.parametrize("disguised", [False, True])
def test_no_interpreter_that_git_tracks_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, disguised: bool
) -> None:
    """``python -m venv .venv`` keeps what the clone has there; before, it was executed with all rights of the user,
    before any plan. Disguised, other files make the environment look like a repository of its own."""
    (harm := tmp_path / "harm").mkdir()
    author = Stranger.make(tmp_path / "a", {"train.py": WRITES})
    run = author.record(outputs=("o",))
    text = f'touch {harm}/harm; exec {sys.executable} "$@"'
    if how == "a script":
        script(author.root / ".venv/bin/python3", text)
    elif how == "a link to one":
        script(author.root / "tools/run", text)
    elif how == "what it executes at its start":
        version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        packages = author.root / f".venv/lib/{version}/site-packages"
        packages.mkdir(parents=True)
        (packages / "start.pth").write_text(STARTS.format(harm))
    elif how.startswith("behind"):
        version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        packages = author.root / f"vendor/lib/{version}/site-packages"
        packages.mkdir(parents=True)
        (packages / "start.pth").write_text(STARTS.format(harm))
        if how.endswith("place"):
            (author.root / ".venv").symlink_to("vendor")
        else:
            (author.root / ".venv").mkdir()
            (author.root / ".venv/lib").symlink_to("../vendor/lib")
    else:
        (author.root / ".venv").mkdir()
        (author.root / ".venv/pyvenv.cfg").write_text("include-system-site-packages = true\n")
    if disguised:
        for name, text in {"HEAD": "ref: refs/heads/x\n", "config": "", "objects/x": "", "refs/x": ""}.items():
            (path := author.root / ".venv" / name).parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    author.git("add", "-A", "-f", ".")
    author.git("commit", "-qm", "later")
    clone = author.clone()
    environment((clone / ".venv").resolve())  # uv follows such a link
    programs = clone / ".venv" / "bin"
    if how == "a link to one":
        (programs / "python3").unlink()
        (programs / "python3").symlink_to("../../tools/run")
    (harm / "harm").unlink(missing_ok=True)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("VIRTUAL_ENV", str(programs.parent))
    with pytest.raises(UsageError, match=r"not executed: the repository .* tracks "):
        author.reproduce(run, clone=clone)
    with pytest.raises(EnvironmentMissing):
        find_python("3.99")
    assert not any(harm.iterdir())


def test_none_whose_path_files_lead_to_tracked_modules_of_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of the author's project, installed editable from the clone."""
    (harm := tmp_path / "harm").mkdir()
    author = Stranger.make(tmp_path / "a", {"train.py": WRITES})
    run = author.record(outputs=("o",))
    (author.root / "src").mkdir()
    (author.root / "src" / "sitecustomize.py").write_text(STARTS.format(harm))
    author.git("add", "-A", "-f", ".")
    author.git("commit", "-qm", "later")
    clone = author.clone()
    programs = environment(tmp_path / "venv")
    (packages,) = programs.parent.glob("lib/python*/site-packages")
    (packages / "project.pth").write_text(f"{clone / 'src'}\n")
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    with pytest.raises(UsageError, match=r"not executed: the repository .* tracks src/sitecustomize"):
        author.reproduce(run, clone=clone)
    assert not any(harm.iterdir())


def test_an_environment_in_the_clone_that_git_does_not_track_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control."""
    author = Stranger.make(tmp_path / "a", {"train.py": WRITES})
    run = author.record(outputs=("o",))
    clone = author.clone()
    monkeypatch.setenv("PATH", f"{environment(clone / '.venv')}:{os.environ['PATH']}")
    assert author.reproduce(run, clone=clone).verdict == "identical"


@needs_sandbox
@pytest.mark.parametrize("name", ["python3", "python"])
def test_a_script_in_an_interpreter_s_place_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Before: "checked", though the program ran with other options than the interpreter has."""
    author = Stranger.make(
        tmp_path / "a", {"train.py": "open('o', 'w').write(str(__debug__))\n", "run.sh": f"{name} train.py\n"}
    )
    monkeypatch.setenv("PATH", f"{environment(tmp_path / 'both')}:{os.environ['PATH']}")
    real = Path(os.path.realpath(tmp_path / "both/bin/python"))
    script(tmp_path / "both/bin" / name, f'exec -a "$0" {real} -O "$@"')
    run = author.record("bash", "run.sh", outputs=("o",))
    found = author.reproduce(run)
    (claim,) = (each for each in found.judgements[0].claims if each.name == "environment")
    assert f"{tmp_path}/both/bin/{name}: a script in the place of an interpreter" in claim.evidence
    assert statuses(found)["environment"] == "not checked"
