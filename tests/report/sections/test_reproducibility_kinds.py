"""Methods reproducibility is told from signed verdicts, and their absence is said plainly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from reviewed_runs import Reviewed

from ndrepro.report.page.contents import About, Report
from ndrepro.report.page.write import write_report

ABOUT = About("A report", "0")


@pytest.fixture
def reviewed(tmp_path: Path) -> Reviewed:
    return Reviewed(tmp_path)


def reported(reviewed: Reviewed, folder: Path, *runs: Path, manifests: bool = False) -> Report:
    scores, verdicts = reviewed.read(*runs)
    return write_report(scores, replace(ABOUT, verdicts=verdicts), folder, manifests=manifests)


def methods(report: Report) -> str:
    return report.kinds.rows[0][2].text


def test_without_a_verdict_the_report_says_so(reviewed: Reviewed, tmp_path: Path) -> None:
    report = reported(reviewed, tmp_path / "report", reviewed.author.runs)
    assert "nobody has reproduced one of these runs" in methods(report)
    assert "No run was repeated" in methods(report) and report.verdicts.rows == ()
    text = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert "nobody has reproduced" in text and "Runs that were trained again" not in text


def test_verdicts_are_counted_by_run_and_signer(reviewed: Reviewed, tmp_path: Path) -> None:
    reviewed.sign(reviewed.run, reviewed.same, "identical")
    reviewed.sign(reviewed.other, reviewed.unlike, "inconsistent", differences=["torch: 2.13.0 then, 2.0.1 now"])
    report = reported(reviewed, tmp_path / "report")
    said = methods(report)
    assert said.startswith("2 of 4 runs trained again from the manifest: 1 identical, 1 inconsistent.")
    assert "Signed by reviewer (2)." in said and "no second party" not in said
    assert [row[3].text for row in report.verdicts.rows] == ["identical", "inconsistent"]
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert "torch: 2.13.0 then, 2.0.1 now" in page
    reproduced = (tmp_path / "report" / "forms.md").read_text(encoding="utf-8").split("Results Reproduced")[1]
    assert "reviewer signed identical 1 time" in reproduced.splitlines()[0]


def test_a_part_and_the_author_s_own_word_are_told_apart(reviewed: Reviewed, tmp_path: Path) -> None:
    reviewed.sign(reviewed.run, reviewed.same, "close", epochs=[1], home=reviewed.author.home)
    report = reported(reviewed, tmp_path / "report")
    assert "1 of them in part" in methods(report)
    assert "by the key that signed the run itself: no second party" in methods(report)
    row = [value.text for value in report.verdicts.rows[0]]
    assert "epoch 1 of 1" in row and any(text.endswith(", as the run") for text in row)
    reproduced = (tmp_path / "report" / "forms.md").read_text(encoding="utf-8").split("Results Reproduced")[1]
    assert "signed close" not in reproduced, "one's own word is no reproduction by others"


def test_a_refused_verdict_is_named(reviewed: Reviewed, tmp_path: Path) -> None:
    path = reviewed.sign(reviewed.run, reviewed.same, "identical", home=tmp_path / "stranger")
    report = reported(reviewed, tmp_path / "report")
    assert "1 verdict refused" in methods(report) and "nobody has reproduced" in methods(report)
    assert any(path.name in note and "no trusted key" in note for note in report.notes)


def test_verdicts_are_handed_on_with_the_manifests(reviewed: Reviewed, tmp_path: Path) -> None:
    path = reviewed.sign(reviewed.run, reviewed.same, "identical")
    report = reported(reviewed, tmp_path / "report", manifests=True)
    link = report.verdicts.rows[0][-1].href
    assert (tmp_path / "report" / link).read_bytes() == path.read_bytes()
