"""A clone has links where commands write by default: a commit chose where they lead, and nothing is written there.

Before, ``ndrepro import`` put runs into the folder that ``imported`` leads to, ``report`` a page, ``record`` its run.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from real_runs import Bench
from recorded_runs import Answer, process

from ndrepro.execution.runs.run import Finished

WRITERS = {
    "runs": [("run", "lenet_nd_1_digits"), ("record", "--", "true"), ("study", "run", "smoke")],
    "imported": [("import", "HONEST"), ("study", "collect", "smoke", "HONEST")],
    "report": [("report", "HONEST")],
}
CASES = [(name, words) for name, commands in WRITERS.items() for words in commands]


def answer(author: Bench, *words: str) -> Answer:
    given = [str(author.options.runs.root) if word == "HONEST" else word for word in words]
    return process(*given, NDREPRO_HOME=str(author.options.home))


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the reviewer's, who stands in a clone."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "clone").mkdir()
    monkeypatch.chdir(tmp_path / "clone")
    subprocess.run(["git", "init", "--quiet"], check=True)
    return tmp_path / "outside"


@pytest.mark.parametrize(("name", "words"), CASES, ids=[" ".join(words) for _, words in CASES])
def test_no_command_writes_through_a_link_of_the_clone(
    honest: Finished, author: Bench, outside: Path, name: str, words: tuple[str, ...]
) -> None:
    Path(name).symlink_to(outside)
    subprocess.run(["git", "add", name], check=True)
    done = answer(author, *words)
    assert done.code == 2 and f"a symbolic link, {name} of" in done.err and "hint: " in done.err, done
    assert not any(outside.iterdir())


def test_a_link_below_is_none_to_sign_through_either(honest: Finished, author: Bench, outside: Path) -> None:
    Path("imported/smoke").mkdir(parents=True)
    Path("imported/smoke/runs").symlink_to(outside)
    subprocess.run(["git", "add", "imported"], check=True)
    done = answer(author, "study", "collect", "smoke", "HONEST", "--sign")
    assert done.code == 2 and "imported/smoke/runs of" in done.err, done


def test_a_link_of_the_readers_own_is_followed(honest: Finished, author: Bench, outside: Path) -> None:
    Path("imported").symlink_to(outside)
    done = answer(author, "import", "HONEST", "--name", "ours")
    assert done.code == 0 and (outside / "ours").is_dir(), done
