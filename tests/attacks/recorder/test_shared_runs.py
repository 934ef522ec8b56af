"""Attack: a neighbour may write into the folder of runs, and puts something in the place of what is executed there.

Tried with another user's rights, a key was read, and a false result was signed and "identical" when it was repeated.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from real_runs import Bench
from strange_programs import CONFINED, Stranger

from ndrepro import api
from ndrepro.execution.runs.observer import Observer
from ndrepro.execution.runs.run import run
from ndrepro.execution.sandbox.shared_folders import others_on_the_way
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import Request

SHARED = pytest.mark.parametrize("mode", [0o700, 0o777], ids=["private", "shared"])


class Looking(Observer):
    """Whether the code that the training process imports is in the run's folder."""

    inside = False

    def began(self, folder: RunFolder, request: Request) -> None:
        self.inside = folder.code_copy.is_dir()


def test_who_may_exchange_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "name" / "run"
    folder.mkdir(parents=True)
    assert others_on_the_way(folder) == "", "the control: the sticky bit of a folder for temporary files counts"
    (tmp_path / "link").symlink_to(tmp_path / "runs")
    for place in (folder, folder.parent, tmp_path / "runs"):
        before = place.stat().st_mode
        place.chmod(0o777)
        assert others_on_the_way(folder) == f"everybody may write in {place}"
        assert others_on_the_way(tmp_path / "link" / "name" / "run") == f"everybody may write in {place}"
        place.chmod(0o1777)
        assert bool(others_on_the_way(folder)) is (place == folder), "what is in it is this user's"
        place.chmod(before)


@SHARED
def test_the_hook_of_a_recorded_program_is_where_nobody_else_may_write(tmp_path: Path, mode: int) -> None:
    text = "import os\nopen('o.txt', 'w').write(os.environ['PYTHONPATH'].split(':')[0])\n"
    author = Stranger.make(tmp_path / "a", {"train.py": text})
    (author.top / "runs").mkdir()
    (author.top / "runs").chmod(mode)
    author.record(outputs=("o.txt",))
    hook = Path((author.root / "o.txt").read_text())
    assert hook.is_relative_to(author.top / "runs") is (mode == 0o700) and not hook.exists()


@pytest.mark.skipif(not CONFINED, reason="no sandbox here")
@SHARED
def test_the_code_of_a_training_run_is_where_nobody_else_may_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    """What else is in the folder is exchanged unseen: the verdict says who may."""
    bench, seen = Bench(tmp_path), Looking()
    bench.options.runs.root.mkdir()
    bench.options.runs.root.chmod(mode)
    done = run(bench.experiment("lenet_bn_1_digits"), bench.options, seen)
    assert done.outcome == "completed" and seen.inside is (mode == 0o700)
    monkeypatch.setenv("NDREPRO_HOME", str(bench.options.home))
    found = api.reproduce(done.folder.root, runs=bench.options.runs.root)
    assert found.verdict == "identical"
    named = [each.evidence for each in found.claims if each.name == "folder of runs"]
    assert named == [] if mode == 0o700 else f"everybody may write in {bench.options.runs.root}" in named[0]
