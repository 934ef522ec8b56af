"""No attack: honest projects that name their environment, which git ignores, by its place in the recorded folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from editable_environments import use
from strange_programs import CONFINED, Stranger, manifest_of, statuses

from ndrepro.api import Reproduction
from ndrepro.protocol.program_record import ProgramRecord

pytestmark = pytest.mark.skipif(not CONFINED, reason="no sandbox here")
PROJECT: dict[str, str | bytes] = {
    ".gitignore": ".venv\nruns\n",
    "Makefile": "train:\n\t.venv/bin/python train.py\n",
    "run.sh": "#!/bin/sh\nset -e\n$PWD/.venv/bin/python train.py\n",
    "train.py": "open('out.txt', 'w').write('0.5')\n",
}


def environment(place: Path) -> Path:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    return place / "bin" / "python"


def of_environment(found: Reproduction) -> str:
    return next(each.evidence for each in found.judgements[0].claims if each.name == "environment")


@pytest.mark.parametrize("command", [("make", "train"), ("sh", "run.sh")])
def test_the_environment_of_the_recorded_folder_is_that_of_the_clone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    """Before: "No such file or directory", since no commit has it."""
    author = Stranger.make(tmp_path / "a", PROJECT)
    environment(author.root / ".venv")
    run = author.record(*command, outputs=("out.txt",))
    here = environment((clone := author.clone()) / ".venv")
    use(monkeypatch, here)
    found = author.reproduce(run, clone=clone)
    assert found.verdict == "identical", found.judgements[0].claims
    words = f"{here}3 is started where the recorded folder had a Python: .venv/bin/python"
    assert words in of_environment(found) and "also ran" not in of_environment(found)


@pytest.mark.parametrize("name", [".git/bin/python", "link/bin/python", "results/0.9999/python", "own/bin/python"])
def test_no_python_stands_where_the_code_has_another_or_where_none_is_looked_for(tmp_path: Path, name: str) -> None:
    """Control: an author chooses what the record says; nothing is replaced, or written out of the private folder."""
    looks = f"import os\nopen('out.txt', 'w').write(str(os.path.exists({name!r})))\n"
    author = Stranger.make(tmp_path / "a", {"train.py": looks, "own/bin/python": "the author's"})
    (author.root / "link").symlink_to(tmp_path)
    author.git("add", "-A")
    author.git("commit", "-qm", "a link")
    run = author.record(outputs=("out.txt",))
    (tool,) = ProgramRecord.of(manifest_of(run)).interpreters
    assert tool.executable == os.path.normpath(sys.executable)
    false = [
        {**each, "executable": str(author.root / name)} for each in manifest_of(run).internal_parameters["interpreters"]
    ]
    author.claim(run, internal_parameters={**manifest_of(run).internal_parameters, "interpreters": false})
    found = author.reproduce(run)
    assert (found.verdict, statuses(found)["outputs"]) == ("identical", "checked"), found.judgements[0].claims
    assert "where the recorded folder had a Python" not in of_environment(found)
    assert not (tmp_path / "bin").exists()
