"""A report says what was run, counts what was not, and nothing from a run becomes part of the page."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from signed_runs import HOSTILE, SignedRuns, rows

from ndrepro.analysis.results.results import Results
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.report.page.contents import About, Report
from ndrepro.report.page.write import write_report
from provenance.errors import UsageError

ABOUT = About("A report", "0")


def make(signed: SignedRuns, folder: Path, **options: Any) -> Report:
    return write_report(signed.scores(), ABOUT, folder, **options)


@pytest.fixture(scope="session")
def made(table1: SignedRuns, tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path]:
    folder = tmp_path_factory.mktemp("made") / "report"
    return make(table1, folder), folder


def document(folder: Path) -> Any:
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


class Page(HTMLParser):
    """Tags, links and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def links(self) -> list[str]:
        return [attrs[key] or "" for _, attrs in self.tags for key in ("href", "src") if key in attrs]


def test_everything_that_was_begun_is_accounted_for(made: tuple[Report, Path]) -> None:
    report, folder = made
    account = document(folder)["account"]
    assert account["begun"] == account["completed"] + sum(
        len(account[key]) for key in ("unfinished", "without_manifest", "refused")
    )
    assert [len(account[key]) for key in ("unfinished", "without_manifest", "refused")] == [1, 1, 1]
    assert [run.run_id for run in report.repeats] == ["20261121T120000Z-repeat"]
    text = (folder / "index.html").read_text(encoding="utf-8")
    assert "1 failed or interrupted" in text and "1 refused" in text and "1 repeats" in text


def test_nothing_of_a_run_s_name_becomes_part_of_the_page(made: tuple[Report, Path]) -> None:
    _, folder = made
    text = (folder / "index.html").read_text(encoding="utf-8")
    assert HOSTILE not in text and "&lt;img src=x onerror=alert(1)&gt;" in text
    assert "\u202e" not in text and r"\u202e" in text
    page = Page(text)
    assert not any(attrs.get("src") == "x" or "onerror" in attrs for _, attrs in page.tags)
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    control = Page(text.replace("&lt;img", "<img", 1).replace("alert(1)&gt;", "alert(1)>", 1))
    assert any("onerror" in attrs for _, attrs in control.tags)
    markdown = (folder / "report.md").read_text(encoding="utf-8")
    assert "<img" not in markdown.replace("\\<img", "")


def test_nothing_of_a_study_s_words_becomes_part_of_the_page(table1: SignedRuns, tmp_path: Path) -> None:
    about = About(f"title {HOSTILE}", "0", planned=3, missing=(f"missing {HOSTILE}",), again=((HOSTILE, HOSTILE),))
    write_report(table1.scores(), about, tmp_path / "report")
    for name in ("index.html", "forms.html"):
        text = (tmp_path / "report" / name).read_text(encoding="utf-8")
        assert HOSTILE not in text and "title &lt;img" in text
        assert not any("onerror" in attrs for _, attrs in Page(text).tags)
    assert "missing &lt;img" in (tmp_path / "report" / "index.html").read_text(encoding="utf-8")


def test_every_link_leads_to_something(made: tuple[Report, Path]) -> None:
    from urllib.parse import unquote

    _, folder = made
    pages = {name: Page((folder / name).read_text(encoding="utf-8")) for name in ("index.html", "forms.html")}
    names = {name: {attrs.get("id") for _, attrs in page.tags} for name, page in pages.items()}
    for name, page in pages.items():
        for link in page.links():
            assert not re.match(r"[a-z]+:", link) or link == "data:,"
            file, _, fragment = link.partition("#")
            if link != "data:,":
                assert (folder / unquote(file or name)).is_file(), link
            assert not fragment or fragment in names[file or name], link


def test_equal_runs_give_equal_files(table1: SignedRuns, made: tuple[Report, Path]) -> None:
    _, folder = made
    again = folder.with_name("again")
    make(table1, again)
    for path in (path for path in folder.rglob("*") if path.is_file()):
        assert path.read_bytes() == (again / path.relative_to(folder)).read_bytes(), path


def test_one_seed_has_no_interval_and_a_nan_no_mean(made: tuple[Report, Path]) -> None:
    cells = {cell["name"]: cell for cell in document(made[1])["cells"]}
    assert cells["vgg16_nd_20"]["test_accuracy_percent"]["n"] == 1
    assert cells["vgg16_nd_20"]["test_accuracy_percent"]["interval_95"] is None
    low, high = cells["vgg16_bn_1"]["test_accuracy_percent"]["interval_95"]
    assert low < cells["vgg16_bn_1"]["test_accuracy_percent"]["mean"] < high
    notes = " ".join(document(made[1])["notes"])
    assert "not finite" in notes and "unequal numbers of runs" in notes


def test_a_run_that_was_not_the_study_s_is_no_value_of_it(made: tuple[Report, Path]) -> None:
    """The run with another learning rate stands in the list of experiments, and not in table 4."""
    tables = {table["key"]: table for table in document(made[1])["tables"]}
    assert set(tables) == {"table4", "table8"}
    row = next(row for row in tables["table4"]["rows"] if [row[0]["text"], row[1]["text"]] == ["vgg16", "1"])
    own = row[tables["table4"]["columns"].index("ND own test")]
    assert own["number"] == pytest.approx(80, abs=1) and own["status"] == "better" and own["href"].startswith("#run-")
    other = next(row for row in tables["table4"]["rows"] if row[0]["text"] == "senet18")
    assert other[4]["text"] == "not run"


def test_manifests_can_be_handed_on_with_the_report(table1: SignedRuns, tmp_path: Path) -> None:
    report = make(table1, tmp_path / "report", manifests=True)
    copies = list((tmp_path / "report" / "manifests").iterdir())
    assert len(copies) == len(report.scores.rows)
    os.rename(tmp_path / "report", tmp_path / "elsewhere")
    page = Page((tmp_path / "elsewhere" / "index.html").read_text(encoding="utf-8"))
    assert sum(link.startswith("manifests/") for link in page.links()) == len(copies)


def test_manifests_of_runs_with_long_names_are_handed_on_too(tmp_path: Path) -> None:
    made = SignedRuns(tmp_path)
    for end in "ab":
        made.add(Experiment.from_name("lenet_bn_2_digits"), rows(2, 0.5), run="ž" * 120 + end)
    made.close()
    report = make(made, tmp_path / "report", manifests=True)
    copies = {path.name: path.read_bytes() for path in (tmp_path / "report" / "manifests").iterdir()}
    assert len(set(copies.values())) == len(copies) == len(report.scores.rows) == 2
    page = Page((tmp_path / "report" / "index.html").read_text(encoding="utf-8"))
    links = {unquote(link) for link in page.links() if link.startswith("manifests/")}
    assert links == {f"manifests/{name}" for name in copies}


def test_no_runs_make_an_honest_report(tmp_path: Path) -> None:
    report = write_report(Results((), started=0), ABOUT, tmp_path / "report")
    assert report.findings == () and "no numbers" in report.notes[0]
    assert (tmp_path / "report" / "index.html").is_file()


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work", encoding="utf-8")
    with pytest.raises(UsageError, match="not empty"):
        write_report(Results(()), ABOUT, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    write_report(Results(()), ABOUT, tmp_path / "report")
    write_report(Results(()), ABOUT, tmp_path / "report")


def test_mixed_surroundings_are_never_averaged(tmp_path: Path) -> None:
    signed = SignedRuns(tmp_path)
    for version in ("2.13.0", "1.13.1"):
        for seed in ("0", "1"):
            experiment = Experiment.from_name("lenet_bn_1_digits", {"seed": seed})
            signed.add(experiment, rows(1, 0.5 if version == "2.13.0" else 0.9), versions={"torch": version})
    signed.close()
    report = make(signed, tmp_path / "report")
    assert [(cell.n, cell.test.mean) for cell in report.table_of_cells] == [(2, 90.0), (2, 50.0)]
    assert any("never averaged" in note for note in report.notes)


def test_forms_are_a_page_of_their_own_with_evidence_or_not_known(made: tuple[Report, Path]) -> None:
    report, folder = made
    page = Page((folder / "forms.html").read_text(encoding="utf-8"))
    assert {"mlcode", "acm", "neurips", "rescience"} <= {attrs.get("id") for _, attrs in page.tags}
    for form in document(folder)["forms"]:
        for answer in form["answers"]:
            assert answer["evidence"] or answer["answer"] == "not known"
            assert answer["evidence"] or answer["note"], "what is not known says why"
    text = (folder / "forms.md").read_text(encoding="utf-8")
    assert all(answer.question.split(":")[0] in text for form in report.forms for answer in form.answers)
    spread = next(line for line in text.splitlines() if "error bars" in line)
    assert "| yes |" in spread and "2 of 6 experiments with 3 seeds" in spread


def test_forms_of_runs_with_one_seed_have_no_error_bars_to_show(tmp_path: Path) -> None:
    signed = SignedRuns(tmp_path / "runs")
    signed.add(Experiment.from_name("lenet_bn_1_digits"), rows(1, 0.5))
    signed.close()
    make(signed, tmp_path / "report")
    text = (tmp_path / "report" / "forms.md").read_text(encoding="utf-8")
    assert "| not known |" in next(line for line in text.splitlines() if "error bars" in line)


def test_forms_are_filled_in_from_code_too_and_nothing_of_it_becomes_part_of_the_page(tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "README.md").write_text(f"# {HOSTILE}\n\n    python train.py {HOSTILE}\n", encoding="utf-8")
    (code / "requirements.txt").write_text("torch==2.8.0\n", encoding="utf-8")
    (code / "train.py").write_text("", encoding="utf-8")
    write_report(Results(()), replace(ABOUT, code=code), tmp_path / "report")
    text = (tmp_path / "report" / "forms.html").read_text(encoding="utf-8")
    assert "requirements.txt" in text and HOSTILE not in text and "&lt;img src=x" in text
    assert sum(form["answered"] for form in document(tmp_path / "report")["forms"]) > 0
    write_report(Results(()), ABOUT, tmp_path / "control")
    assert sum(form["answered"] for form in document(tmp_path / "control")["forms"]) == 0
