"""Runs that verify and would be left out of an import are refused. Before, they were lost, and counted as imported."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_runs import SmallRun

from ndrepro.cli.app import invoke
from ndrepro.execution.imports.run_import import import_runs
from ndrepro.protocol.errors import UsageError
from provenance.attestation.ledger import Ledger
from provenance.attestation.trust import TrustPolicy


def recorded(runs: Path, home: Path, name: str) -> SmallRun:
    folder = runs / "small" / name
    folder.mkdir(parents=True)
    (folder / "out.txt").write_text(name)
    run = SmallRun(folder, Ledger(runs / "ledger.jsonl"), home)
    run.record()
    return run


def test_two_folders_of_runs_are_imported_one_by_one(tmp_path: Path) -> None:
    home, source = tmp_path / "home", tmp_path / "source"
    for name in ("a", "b"):
        recorded(source / name, home, name)
    trust = TrustPolicy.load(home)
    with pytest.raises(UsageError, match="is beside a, which has a ledger of its own"):
        import_runs(source, tmp_path / "imported", "both", trust)
    assert not (tmp_path / "imported" / "both").exists()
    for name in ("a", "b"):
        found = import_runs(source / name, tmp_path / "imported", name, trust)
        assert found.folder is not None and (found.folder / "small" / name / "out.txt").is_file(), "the control"


def test_two_sources_of_one_name_are_not_collected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second was taken for one that had been collected before."""
    home = tmp_path / "home"
    monkeypatch.setenv("NDREPRO_HOME", str(home))
    sources = [recorded(tmp_path / name / "runs", home, name).ledger.path.parent for name in ("n1", "n2")]
    with pytest.raises(UsageError, match="runs: two sources have this name"):
        invoke(["study", "collect", "smoke", *map(str, sources), "--into", str(tmp_path / "imported")])
    assert not (tmp_path / "imported").exists()
