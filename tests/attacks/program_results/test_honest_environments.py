"""No attack: honest projects that name their environment, which git ignores, by its place in the recorded folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from editable_environments import environment as editable
from editable_environments import use
from strange_programs import CONFINED, Stranger, manifest_of, statuses

from ndrepro.api import Reproduction
from ndrepro.protocol.program_record import ProgramRecord

pytestmark = pytest.mark.skipif(not CONFINED, reason="no sandbox here")
PROJECT: dict[str, str | bytes] = {
    ".gitignore": ".venv\nruns\n",
    "Makefile": "train:\n\t.venv/bin/python train.py\n",
    "run.sh": "#!/bin/sh\nset -e\n$PWD/.venv/bin/python train.py\n",
    "active.sh": "set -e\n[ -d .venv ] || python -m venv .venv\n. .venv/bin/activate\npython train.py\n",
    "train.py": "open('out.txt', 'w').write('0.5')\n",
}


def environment(place: Path) -> Path:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    return place / "bin" / "python"


def of_environment(found: Reproduction) -> str:
    return next(each.evidence for each in found.judgements[0].claims if each.name == "environment")


@pytest.mark.parametrize("command", [("make", "train"), ("sh", "run.sh"), ("sh", "active.sh")])
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


STEPS = """
from pathlib import Path
RESULTS = Path(__file__).resolve().parents[2] / "results"
def train():
    (RESULTS / "loss.txt").write_text("0.5")
def summarize():
    (RESULTS / "table.txt").write_text((RESULTS / "loss.txt").read_text() + " is the loss")
"""
RUN = "set -e\npython -c 'import mypkg; mypkg.train()'\npython -c 'import mypkg; mypkg.summarize()'\n"


def test_an_editable_package_reads_by_its_own_place_what_an_earlier_step_wrote_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder that was there. Before: what it wrote was lost, since the clone's place was empty but for code."""
    files: dict[str, str | bytes] = {
        "src/mypkg/__init__.py": STEPS,
        "run.sh": RUN,
        ".gitignore": "results\nruns\n.venv\n",
    }
    author = Stranger.make(tmp_path / "a", files)
    (author.root / "results").mkdir()
    with monkeypatch.context() as authors:
        use(authors, editable(author.root / ".venv", author.root / "src"))
        run = author.record("sh", "run.sh", outputs=("results",))
    clone = author.clone()
    use(monkeypatch, editable(clone / ".venv", clone / "src"))
    found = author.reproduce(run, clone=clone)
    assert found.verdict == "identical", found.judgements[0].claims
    assert not (clone / "results").exists()


@pytest.mark.parametrize(("name", "verdict"), [("other", "identical"), (".git/of-a-test", "undecided")])
def test_what_is_written_by_the_path_of_the_clone_is_not_written_there_nor_among_git_s_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, verdict: str
) -> None:
    """Control: the clone stays as it is."""
    place = f"Path(__file__).resolve().parents[2] / {name!r}"
    writes = f"from pathlib import Path\n({place}).mkdir(exist_ok=True)\n({place} / 'x.txt').write_text('0.5')\n"
    files: dict[str, str | bytes] = {"src/mypkg/__init__.py": writes, "other/y.txt": ""}
    author = Stranger.make(tmp_path / "a", {**files, "run.sh": "python -c 'import mypkg'\necho 0.5 > other/z.txt\n"})
    with monkeypatch.context() as authors:
        use(authors, editable(tmp_path / "authors", author.root / "src"))
        run = author.record("sh", "-e", "run.sh")
    clone = author.clone()
    use(monkeypatch, editable(tmp_path / "env", clone / "src"))
    assert author.reproduce(run, clone=clone).verdict == verdict
    assert not (clone / name / "x.txt").exists() and not (clone / "other" / "z.txt").exists()
