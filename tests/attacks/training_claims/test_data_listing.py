"""Attack: a manifest names the digest of another data set than the one whose files its run lists, and used."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from program_projects import TRAIN, Project
from script_runs import ScriptRun, sign_again

from ndrepro.execution.verification.checks_by_kind import checks_of
from provenance.attestation.manifest import Resource
from provenance.attestation.trust import TrustPolicy
from provenance.attestation.verdict import Verdict
from provenance.attestation.verify import verify
from provenance.formats.digest import file_digest

OTHER = "ab" * 32


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> ScriptRun:
    """A program that declared the folder ``data`` of two files."""
    top = tmp_path_factory.mktemp("declared")
    project = Project.make(top / "project", TRAIN.replace("data.txt", "data/0.txt"))
    (project.root / "data").mkdir()
    for number in range(2):
        (project.root / "data" / f"{number}.txt").write_text(f"{number + 1}.5")
    folder = project.record(top / "runs", top / "home", data=(Path("data"),))
    return ScriptRun(top, folder.root.relative_to(top))


@pytest.fixture
def run(recorded: ScriptRun, tmp_path: Path) -> ScriptRun:
    shutil.copytree(recorded.top, tmp_path / "copy")
    return replace(recorded, top=tmp_path / "copy")


def verified(run: ScriptRun) -> Verdict:
    return verify(run.folder, trust=TrustPolicy.load(run.home), extra_checks=checks_of)


def test_the_honest_listing_passes(run: ScriptRun) -> None:
    check = next(each for each in verified(run).checks if each.name == "files")
    assert check.status == "pass" and check.message.endswith("data: 2 files")


def with_data(**changes: Any) -> Callable[[Resource], Resource]:
    return lambda data: replace(data, annotations={**(data.annotations or {}), **changes})


LIES: Mapping[str, tuple[Callable[[Resource], Resource], str]] = {
    "another digest": (lambda data: replace(data, digest={"sha256": OTHER}), "digest"),
    "more files": (with_data(files=60_000), "files"),
    "no listing": (with_data(listing=None), "listing: None"),
    "a listing outside of its folder": (with_data(listing="data/../metrics.jsonl"), "no listing"),
    "another file as its listing": (with_data(listing="inputs.json"), "no listing"),
}


@pytest.mark.parametrize("lie", LIES)
def test_data_that_the_listing_contradicts_do_not_verify(lie: str, run: ScriptRun) -> None:
    change, said = LIES[lie]
    changed = (change(item) if item.name.startswith("dataset:") else item for item in run.manifest.dependencies)
    sign_again(run, dependencies=tuple(changed))
    failure = verified(run).failure
    assert failure is not None and failure.name in ("files", "request") and said in failure.message


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        # whoever reads the first digest sees other data than whoever reads the last
        (lambda lines: [f"{OTHER}  0.txt", *lines], "listed twice"),
        # what neither order nor spelling means may mean something to who reads the file
        (lambda lines: lines[::-1], "not as a recorder writes it"),
        (lambda lines: [f"\\{lines[0]}", *lines[1:]], "not as a recorder writes it"),
    ],
)
def test_a_listing_that_no_recorder_writes(run: ScriptRun, edit: Callable[[list[str]], list[str]], said: str) -> None:
    listing = run.folder / "data" / "0.sha256"
    listing.write_text("\n".join(edit(listing.read_text().splitlines())) + "\n")
    lie = {"sha256": file_digest(listing).sha256}
    changed = (
        replace(item, digest=lie) if item.name.startswith("dataset:") else item for item in run.manifest.dependencies
    )
    sign_again(run, dependencies=tuple(changed))
    failure = verified(run).failure
    assert failure is not None and failure.name == "files" and said in failure.message
