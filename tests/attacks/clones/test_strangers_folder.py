"""Commands that are started in a stranger's clone: what configures libraries there, and links in folders of reports.

Before, a file ``matplotlibrc`` in the current folder ended or hung every command that draws, and ``report``, which
writes the folder ``report`` by default, overwrote what that folder's links lead to, such as a shell's start-up file.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from real_runs import Bench
from recorded_runs import Answer, process

import ndrepro
from ndrepro.execution.runs.data_check import check
from ndrepro.execution.runs.observer import Observer
from ndrepro.execution.runs.run import Finished
from ndrepro.protocol.errors import DataError
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.layout import RunsFolder


def reviewed(bench: Bench, *words: str) -> Answer:
    return process(*words, NDREPRO_HOME=str(bench.options.home))


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "clone").mkdir()
    monkeypatch.chdir(tmp_path / "clone")
    return tmp_path / "clone"


def test_no_file_of_the_current_folder_configures_figures(honest: Finished, author: Bench, clone: Path) -> None:
    (clone / "matplotlibrc").write_bytes(b"font.size: \xff\n")
    run, page = str(honest.folder.root), clone / "page.html"
    done = reviewed(author, "show", run, "--html", str(page))
    assert done.code == 0 and page.is_file(), done.err
    done = reviewed(author, "report", str(author.options.runs.root), "-o", "report")
    assert done.code == 0 and "matplotlibrc" not in done.err, done.err


@pytest.mark.parametrize("name", ["index.html", "report.md", "figures/final_scores.svg", "tables/runs.md"])
def test_a_report_replaces_links_and_follows_none(honest: Finished, author: Bench, clone: Path, name: str) -> None:
    outside, link = clone.parent / "outside", clone / "report" / name
    outside.write_text("mine")
    link.parent.mkdir(parents=True)
    (clone / "report" / "report.json").write_text("{}")
    link.symlink_to(outside)
    reviewed(author, "report", str(author.options.runs.root))
    assert outside.read_text() == "mine"


@pytest.mark.parametrize(
    "words", [("study", "export", "smoke", "--format", "joblines", "-o", "link"), ("keys", "export", "--out", "link")]
)
def test_a_file_that_is_named_replaces_a_link(author: Bench, clone: Path, words: tuple[str, ...]) -> None:
    (clone.parent / "outside").write_text("mine")
    (clone / "link").symlink_to(clone.parent / "outside")
    assert reviewed(author, *words).code == 0
    assert (clone.parent / "outside").read_text() == "mine" and (clone / "link").read_text() != "mine"


@pytest.mark.parametrize("name", ["figures", "tables", "manifests"])
def test_a_folder_of_a_report_that_is_a_link_is_refused(
    honest: Finished, author: Bench, clone: Path, name: str
) -> None:
    (clone.parent / "outside").mkdir()
    (clone / "report").mkdir()
    (clone / "report" / "report.json").write_text("{}")
    (clone / "report" / name).symlink_to(clone.parent / "outside")
    done = reviewed(author, "report", str(author.options.runs.root), "--manifests")
    assert done.code == 2 and f"{name}: a symbolic link" in done.err
    assert not any((clone.parent / "outside").iterdir())


@pytest.mark.parametrize(
    "answer",
    [
        {"train_images": 1438, "test_images": 359, "left_out": "nothing\nverdict    identical"},
        {"train_images": "many", "test_images": None, "left_out": ""},
    ],
)
def test_a_memory_of_data_that_came_with_runs_is_none(clone: Path, answer: dict[str, Any]) -> None:
    """Of a folder without files it could be made up: before, it stood for a reading, or ended the command."""
    data, runs = clone / "data", RunsFolder(clone / "runs")
    data.mkdir()
    (runs.data_read).mkdir(parents=True)
    state = hashlib.sha256(f"{data}\n".encode()).hexdigest()
    memory = {**answer, "folders": [], "state": state, "own": None, "version": ndrepro.__version__}
    name = hashlib.sha256(f"digits {data}".encode()).hexdigest()[:32]
    (runs.data_read / f"{name}.json").write_text(json.dumps(memory))
    with pytest.raises(DataError, match="digits"):
        check(Experiment.from_name("lenet_nd_1_digits"), data, runs, Observer())
