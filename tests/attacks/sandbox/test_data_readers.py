"""Attack: images that the author handed over, and that the reviewer names with ``--data``, take over what decodes them.

A reader that was taken over is a copy of it with a line that does harm. It decodes in the sandbox, before the recorded
code trains there; outside of it the reviewer's data are hashed and nothing else.
"""

from __future__ import annotations

import gzip
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from dishonest_author import original_of, planned, word_for
from real_runs import Bench

from ndrepro.analysis.verdicts.reproduction_claims import READER
from ndrepro.execution.reproduce.reexecute import execute
from ndrepro.execution.runs import data_check
from ndrepro.execution.runs.data_check import locate
from ndrepro.execution.runs.observer import Observer
from ndrepro.execution.runs.run import Finished
from ndrepro.execution.sandbox.sandbox import AUTO, Sandbox, choose
from ndrepro.protocol.errors import DataError
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.layout import RunsFolder
from ndrepro.protocol.project_folders import CODE, packages_of
from ndrepro.protocol.verdicts import NO_SANDBOX, NOT_CHECKED
from ndrepro.reproduction.reproduction import Draw, Permission
from ndrepro.reproduction.training import of_training
from provenance.code.snapshot import copy_source

KIND = choose(AUTO, container=False)[0]
DIGITS = Experiment.from_name("lenet_nd_4_digits")
HARM = """
    try:
        open({place!r}, "a").write(open({secret!r}).read())
    except OSError:
        pass
"""
DOWNLOADS = """
    import os
    from ndrepro.protocol.errors import NotDownloaded
    names = sorted(each.name for each in root.iterdir())
    if "published" in names:
        raise DataError("read " + " ".join(names))
    try:
        (root / "published").write_text("official")
    except OSError:
        raise NotDownloaded("neither here nor elsewhere") from None
    open({seen!r}, "a").write(str(names))
    os._exit(0)
"""


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """The digits in another file than the known one, so that it has to be decoded."""
    path = tmp_path / "theirs" / "digits.csv.gz"
    path.parent.mkdir()
    path.write_bytes(gzip.compress(gzip.decompress(locate(DIGITS, None).read_bytes())))
    return path


def taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: str) -> None:
    """The reader of digits does this first, wherever it decodes before a run."""
    copy_source(packages_of(CODE), tmp_path / "code")
    reader = tmp_path / "code" / "ndrepro" / "training" / "data" / "readers" / "digits.py"
    before, define, after = reader.read_text().partition("def load(")
    head, doc, rest = after.partition('"""\n')
    assert define and doc
    reader.write_text(f"{before}{define}{head}{doc}{harm}{rest}")
    monkeypatch.setattr(data_check, "CODE", tmp_path / "code")


@dataclass
class Openings:
    """The files of a folder that this process opens, and whether it does so to hash them."""

    folder: Path
    watching: bool = True
    others: list[str] = field(default_factory=list)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.watching or event != "open" or str(self.folder) not in str(arguments[0]):
            return
        frame: Any = sys._getframe()
        while frame is not None and not frame.f_code.co_filename.endswith("formats/digest.py"):
            frame = frame.f_back
        if frame is None:
            self.others.append(str(arguments[0]))


@contextmanager
def openings(folder: Path) -> Iterator[list[str]]:
    """The openings meanwhile that were not to hash; an audit hook stays, and is silent afterwards."""
    seen = Openings(folder)
    sys.addaudithook(seen)
    yield seen.others
    seen.watching = False


@pytest.mark.skipif(KIND == NO_SANDBOX, reason="no sandbox here")
def test_what_decodes_the_reviewer_s_data_is_confined(
    author: Bench, honest: Finished, theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: with all rights of the reviewer, before anything was confined."""
    secret, place = tmp_path / "secret", tmp_path / "place"
    secret.write_text("of the reviewer")
    taken_over(tmp_path, monkeypatch, HARM.format(place=str(place), secret=str(secret)))
    original = original_of(honest.folder, author)
    chosen = planned(original, author.options, 1, word_for(original, 1))
    assert chosen.execution.sandbox == KIND
    with openings(theirs.parent) as opened:
        (again,) = execute(original, chosen, replace(author.options, data=theirs), Observer())
    assert again.outcome == "completed" and opened == [] and not place.exists()
    data_check.check(DIGITS, theirs, RunsFolder(tmp_path / "elsewhere"), Observer())
    assert place.read_text() == "of the reviewer", "the control: outside of a sandbox"


@pytest.mark.skipif(KIND == NO_SANDBOX, reason="no sandbox here")
def test_what_is_missing_is_downloaded_where_no_data_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, seen = tmp_path / "data", tmp_path / "seen"
    data.mkdir()
    (data / "hostile").touch()
    taken_over(tmp_path, monkeypatch, DOWNLOADS.format(seen=str(seen)))
    with pytest.raises(DataError, match="read hostile published"):
        data_check.check(DIGITS, data, RunsFolder(tmp_path / "runs"), Observer(), Sandbox(KIND))
    assert seen.read_text() == "[]", "what downloads sees none of the data"
    assert sorted(each.name for each in data.iterdir()) == ["hostile", "published"]


@pytest.mark.skipif(KIND == NO_SANDBOX, reason="no sandbox here")
@pytest.mark.parametrize(
    "answer",
    [
        *("[1]", '{"read": 1}', '{"read": ["\x1b[2J", 1, 2]}', '{"error": []}', '{"train_images": "x"}', "{}"),
        '{"error": {"type": "MemoryError", "message": "too little", "cure": ""}}',
    ],
)
def test_a_reader_that_was_taken_over_answers_anything(
    theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    taken_over(tmp_path, monkeypatch, f"    print({answer!r}, flush=True)\n    __import__('os')._exit(0)\n")
    checked = data_check.check(DIGITS, theirs, RunsFolder(tmp_path / "runs"), Observer(), Sandbox(KIND))
    assert checked.experiment == DIGITS and checked.unread


@pytest.mark.skipif(KIND == NO_SANDBOX, reason="no sandbox here")
def test_a_look_at_the_data_that_failed_is_a_claim_of_the_verdict(
    author: Bench, honest: Finished, theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before, the recorded code alone read them then, without a word."""
    taken_over(tmp_path, monkeypatch, "    __import__('os')._exit(3)\n")
    original = original_of(honest.folder, author)
    options = replace(author.options, runs=RunsFolder(tmp_path / "reviews"), data=theirs)
    drawn = Draw(1, word_for(original, 1))
    found = of_training(original, options, drawn, Permission(AUTO), lambda original, plan: None, None)
    (claim,) = (each for each in found.claims if each.name == READER)
    assert claim.status == NOT_CHECKED and "ended without an answer (exit code 3)" in claim.evidence
    monkeypatch.undo()
    checked = data_check.check(DIGITS, theirs, options.runs, Observer(), Sandbox(KIND))
    assert checked == data_check.Checked(DIGITS), "the control"
