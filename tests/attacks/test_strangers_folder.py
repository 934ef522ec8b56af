"""Commands that are started in a stranger's clone: what configures libraries there, and links in folders of reports.

Before, a file ``matplotlibrc`` in the current folder ended or hung every command that draws, and ``report``, which
writes the folder ``report`` by default, overwrote what that folder's links lead to, such as a shell's start-up file.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from real_runs import Bench
from recorded_runs import Answer, process

from ndrepro.execution.runs.run import Finished


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
