"""Attacks: results that no code computes, which reach a repetition by what the author hands in or records.

The verdict is "identical", since the code does write them; each row is named by a claim that is not "checked".
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from strange_programs import CONFINED, Stranger

from ndrepro import api
from ndrepro.protocol.layout import RunFolder

RESULT = "accuracy 0.9999\n"


def evidence(found: api.Reproduction, name: str) -> str:
    """What a claim says that is not checked."""
    (claim,) = (each for each in (*found.claims, *found.judgements[0].claims) if each.name == name)
    assert (found.verdict, claim.status) == ("identical", "not checked")
    return claim.evidence


@pytest.mark.parametrize("name", ["node_modules/r.txt", ".ipynb_checkpoints/r.txt", "venv/r.txt", "large.txt"])
def test_a_committed_result_is_named_wherever_it_is_and_however_large(tmp_path: Path, name: str) -> None:
    """Before: folders that hold no results of a recording were not looked through, nor files of more than 1 MiB."""
    text = RESULT * 90_000 if name == "large.txt" else RESULT
    files = {"train.py": f"import shutil; shutil.copyfile({name!r}, 'o')\n", name: text, "venv/pyvenv.cfg": ""}
    author = Stranger.make(tmp_path / "a", files)
    assert f"o is {name}" in evidence(author.reproduce(author.record(outputs=("o",))), "outputs computed")


def test_a_result_among_the_inputs_is_named(tmp_path: Path) -> None:
    """Before: what was shown where it is, outside of the code, was not looked at."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "labels.txt").write_text(RESULT)
    text = f"open('o', 'w').write(open({str(data / 'labels.txt')!r}).read())\n"
    author = Stranger.make(tmp_path / "a", {"train.py": text})
    found = author.reproduce(author.record(outputs=("o",), data=(data,)), data=data)
    assert f"o is {data / 'labels.txt'}" in evidence(found, "outputs computed")


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to(".")])
def test_a_result_that_is_the_name_of_a_folder_without_files_is_named(
    tmp_path: Path, make: Callable[[Path], object]
) -> None:
    """Declared data are compared by the digests of their files, and such a folder has none."""
    data = tmp_path / "data"
    (data / "train").mkdir(parents=True)
    (data / "train" / "x.txt").write_text("1\n")
    make(data / "0.9999")
    text = f"import os; open({str(data / 'train' / 'x.txt')!r}); open('o', 'w').write(min(os.listdir({str(data)!r})))\n"
    author = Stranger.make(tmp_path / "a", {"train.py": text})
    run = author.record(outputs=("o",), data=(data,))
    assert evidence(author.reproduce(run, data=data), "inputs").endswith(f"links to folders: {data}: 0.9999")
    (data / "0.9999").unlink() if (data / "0.9999").is_symlink() else (data / "0.9999").rmdir()
    assert author.reproduce(run, data=data).verdict == "undecided"


@pytest.mark.skipif(not CONFINED, reason="without a sandbox the home folder is the reviewer's")
@pytest.mark.parametrize(("name", "value"), [("OMP_RESULT", "0.9999"), ("HOME", "/home/0.9999")])
def test_a_result_in_a_recorded_variable_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """As an argument is, which the command shows."""
    author = Stranger.make(tmp_path / "a", {"train.py": f"import os; open('o', 'w').write(os.environ[{name!r}])\n"})
    with monkeypatch.context() as authors:
        authors.setenv(name, value)
        run = author.record(outputs=("o",))
    assert f", variable {name}" in evidence(author.reproduce(run), "outputs computed")


def test_the_log_of_a_committed_run_that_a_script_copies_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: metrics were in no claim but their own, which is "checked"."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    home = tmp_path / "a" / "author"
    text = f"""
import os, shutil
import ndrepro
if os.path.exists({str(home)!r}):
    with ndrepro.record(name="fit", home={str(home)!r}) as run:
        run.log(step=1, accuracy=0.9999)
else:
    shutil.copytree("old", "runs/fit/new")
"""
    author = Stranger.make(tmp_path / "a", {"train.py": text})
    for _ in range(2):
        subprocess.run([sys.executable, "train.py"], cwd=author.root, check=True)
        (run,) = (author.root / "runs" / "fit").iterdir()
        if not (author.root / "old").exists():
            run.rename(author.root / "old")
            author.git("add", "-A", "-f", "old"), author.git("commit", "-qm", "a run")
    assert "is old/metrics.jsonl" in evidence(author.reproduce(RunFolder(run)), "outputs computed")
