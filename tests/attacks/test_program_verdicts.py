"""Attacks on the verdict on a recorded program or script: results that its repetition never computed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from strange_programs import Stranger

from ndrepro.protocol.errors import TrainingFailed, UsageError
from ndrepro.protocol.layout import RunFolder


def test_a_link_to_the_original_s_output_is_no_output(tmp_path: Path) -> None:
    """The reviewer's copy of the run lies beside the folder in which the program is executed again."""
    name = "20261129T000000Z-abcdef"
    text = f"""
import os
if os.path.exists({str(tmp_path / "a" / "author")!r}):
    open('results.json', 'w').write('0.9999')
else:
    os.symlink('../../fit/{name}/outputs/results.json', 'results.json')
"""
    author = Stranger.make(tmp_path / "a", {"train.py": text})
    run = author.record(outputs=("results.json",))
    author.claim(run, invocation_id=name)
    moved = RunFolder(run.root.rename(run.root.with_name(name)))
    found = author.reproduce(moved)
    assert found.verdict == "undecided" and "missing: results.json" in found.judgements[0].because


def test_a_run_that_was_committed_is_no_repetition_of_a_script(tmp_path: Path) -> None:
    text = f"""
import os
import ndrepro
if not os.path.exists({str(tmp_path / "a" / "author")!r}):
    raise SystemExit('it does nothing')
with ndrepro.record(name='fit', seeds={{'all': 3}}, runs='results', home={str(tmp_path / "a" / "author")!r}) as run:
    run.log(step=1, accuracy=0.9999)
"""
    author = Stranger.make(tmp_path / "a", {"train.py": text})
    for _ in range(2):
        subprocess.run([sys.executable, "train.py"], cwd=author.root, check=True)
        author.git("add", "-A", "-f", "results")
        author.git("commit", "-qm", "results")
    run = RunFolder(sorted((author.root / "results" / "fit").iterdir())[-1])
    with pytest.raises(TrainingFailed, match="recorded 0 runs"):
        author.reproduce(run)


@pytest.mark.parametrize("kind", ["blob", "tree"])
def test_objects_with_other_bytes_than_their_names_are_no_commit(kind: str, tmp_path: Path) -> None:
    """git believes the names of the objects in a repository that its author handed over."""
    author = Stranger.make(tmp_path / "a", {"train.py": "open('out.txt', 'w').write('0.51')\n"})
    other = Stranger.make(tmp_path / "b", {"train.py": "open('out.txt', 'w').write('0.99')\n"})
    run = author.record(outputs=("out.txt",))
    name = "HEAD:train.py" if kind == "blob" else "HEAD^{tree}"
    places = []
    for each in (author, other):
        oid = each.git("rev-parse", name)
        places.append(each.root / ".git" / "objects" / oid[:2] / oid[2:])
    places[0].chmod(0o644)
    places[0].write_bytes(places[1].read_bytes())
    if kind == "tree":
        oid = other.git("rev-parse", "HEAD:train.py")
        blob = Path("objects", oid[:2], oid[2:])
        (author.root / ".git" / blob).parent.mkdir(exist_ok=True)
        shutil.copy(other.root / ".git" / blob, author.root / ".git" / blob)
    with pytest.raises(UsageError, match=r"than (its name says|their names say)"):
        author.reproduce(run, repository=author.root, clone=False)
