"""What is there of Table 1's first column: every signature holds, and the page's tables are of the manifests."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import table1_page
from kept_runs import ended_ledger
from table1_page import PAGE, keep, kept_results, tables, with_tables

from ndrepro.analysis.results.results import Results
from ndrepro.protocol.layout import RunsFolder
from provenance.attestation.key_home import KeyRing
from provenance.attestation.ledger import Ledger


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return kept_results(tmp_path_factory.mktemp("table1"))


def test_the_tables_are_of_the_manifests(results: Results) -> None:
    assert not results.refused and {row.seed for row in results.rows} == {0}
    page = PAGE.read_text(encoding="utf-8")
    assert with_tables(page, results) == page
    *others, last = results.rows
    changed = replace(results, rows=(*others, replace(last, test_accuracy_percent=last.test_accuracy_percent + 1)))
    assert tables(changed) != tables(results)


def test_a_run_that_is_under_way_is_published_later(results: Results, tmp_path: Path) -> None:
    runs = RunsFolder(results.folders[0])
    assert Ledger(runs.ledger).verify() == [] and ended_ledger(runs) == runs.ledger.read_bytes()
    lines = runs.ledger.read_bytes().splitlines(keepends=True)
    while b'"event":"ended"' in lines[-1]:  # of runs side by side the last ends follow one another
        lines.pop()
    (tmp_path / "ledger.jsonl").write_bytes(b"".join(lines))
    assert len(ended_ledger(RunsFolder(tmp_path)).splitlines()) < len(lines)


def test_another_machine_adds_its_archive(results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = shutil.copytree(table1_page.KEPT, tmp_path / "kept")
    monkeypatch.setattr(table1_page, "KEPT", kept)
    runs = RunsFolder(results.folders[0])
    for _ in range(2):  # published again, it replaces its own
        keep(runs, KeyRing(tmp_path / "home").public_key())
    assert len(list(kept.glob("*.tar.xz"))) == len(results.folders) + 1
    both = kept_results(tmp_path / "unpacked")
    assert not both.refused and len(both.folders) == len(results.folders) + 1
    assert {row.signer for row in both.distinct()[0]} <= {f"author {folder.name}" for folder in results.folders}
