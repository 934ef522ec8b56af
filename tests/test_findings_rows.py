"""Every page of findings has, beside its numbers, commands that train a row again and compare it with the kept run."""

from __future__ import annotations

import itertools
import re
import shlex
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ndrepro.execution.runs.run_lookup import read_recorded
from ndrepro.execution.studies.study_file import find_study, load_study
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.image_reference import MAIN
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import Request, read_json
from ndrepro.protocol.study.study import identity

ROOT = Path(__file__).resolve().parents[1]
FINDINGS = sorted((ROOT / "docs" / "findings").glob("*.md"))
# pages whose rows are no kept runs: a row is computed anew by its command
OTHERWISE = {"index": "", "operators": "ndrepro operators compare ", "recording-examples": "ndrepro record "}
BLOCK = re.compile(r"(?:^    \S.*\n)+", re.MULTILINE)
UNPACKED = re.compile(r"tar xf (docs/runs/\S+) -C (\S+)")


@dataclass(frozen=True)
class Row:
    """Commands that make a run, the kept one that it is compared with, and where that one is unpacked from."""

    page: str
    made: str
    kept: str
    archives: tuple[tuple[str, str], ...]

    @property
    def words(self) -> list[str]:
        """The command that makes the run."""
        return shlex.split(self.made.partition("#")[0])


def rows() -> Iterator[Row]:
    """The rows of all pages, by their `ndrepro diff KEPT RUN` and the line before it."""
    for page in FINDINGS:
        text = page.read_text(encoding="utf-8")
        archives = tuple((folder, archive) for archive, folder in UNPACKED.findall(text))
        for block in BLOCK.findall(text):
            for made, compared in itertools.pairwise(line.strip() for line in block.splitlines()):
                if compared.startswith("ndrepro diff ") and "RUN" not in compared:
                    yield Row(page.stem, made, compared.split()[2], archives)


ROWS = tuple(rows())


def kept_request(row: Row, folder: Path) -> tuple[Experiment, str]:
    """What the kept run was asked to be, from its archive's request or from its manifest, and its environment."""
    if row.kept.startswith("docs/runs/"):
        manifest = read_recorded(RunFolder((ROOT / row.kept).parent)).manifest
        return Experiment.from_json(manifest.external_parameters["experiment"]), MAIN
    unpacked, _, inside = row.kept.partition("/")
    with tarfile.open(ROOT / dict(row.archives)[unpacked]) as archive:
        archive.extract(f"{inside}/request.json", folder, filter="data")
    request = Request.from_json(read_json(folder / inside / "request.json"))
    return request.experiment, request.environment or MAIN


@pytest.mark.parametrize("page", FINDINGS, ids=lambda page: page.stem)
def test_every_page_has_a_row_that_a_reader_can_make_again(page: Path) -> None:
    command = OTHERWISE.get(page.stem)
    assert command in page.read_text(encoding="utf-8") if command is not None else page.stem in {r.page for r in ROWS}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.page}-{row.kept.split('/')[0]}")
def test_its_command_makes_the_run_that_is_kept(row: Row, tmp_path: Path) -> None:
    experiment, environment = kept_request(row, tmp_path)
    words = row.words
    if words[1] == "study":
        number = int(words[words.index("--only") + 1])
        assert load_study(find_study(words[3])).runs()[number - 1].identity == identity(experiment, environment)
    else:
        settings = [word for option, word in itertools.pairwise(words) if option == "--set"]
        asked = Experiment.from_name(words[2], dict(each.split("=", 1) for each in settings))
        assert identity(asked, MAIN) == identity(experiment, environment)


def test_the_rows_are_of_every_study_that_is_kept() -> None:
    assert len(ROWS) >= 9
    used = {
        archive.split("/")[2] for row in ROWS for folder, archive in row.archives if row.kept.startswith(f"{folder}/")
    }
    kept = {archive.parent.name for archive in (ROOT / "docs" / "runs").glob("*/*.tar.xz")}
    # whose row is in docs/explanation/determinism.md
    assert kept - used == {"canonical_epoch"}
