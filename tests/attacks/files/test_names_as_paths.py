"""A signed run's name or identifier is a path that leads elsewhere: no export writes there.

Before, ``export --format ro-crate`` wrote the run's files to any path of the reviewer's, under names of the author's
choice, and an archive had members that lead out of the folder that it is unpacked in.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from small_runs import SmallRun

from ndrepro.cli.app import invoke
from ndrepro.exports.members import Member
from ndrepro.exports.run_facts import NotExported, RunFacts
from provenance.attestation.dsse import read_envelope, sign_envelope
from provenance.attestation.key_home import KeyRing
from provenance.attestation.ledger import Ledger
from provenance.errors import UsageError
from provenance.formats.canonical_json import canonical_bytes, parse

ELSEWHERE = ("../../evil", "/evil", "a/../../evil", "..", ".", "a/b", "evil\0")


def recorded(root: Path, name: str = "small") -> SmallRun:
    folder = root / "author" / "runs" / "small" / "one"
    folder.mkdir(parents=True)
    (folder / "evil.pth").write_text("import evil\n")
    run = SmallRun(folder, Ledger(root / "author" / "runs" / "ledger.jsonl"), root / "home")
    run.close(run.open(external_parameters={"name": name}))
    return run


def renamed(run: SmallRun, identifier: str) -> None:
    """Sign the manifest with another identifier; without its list of runs no entry speaks against it."""
    statement = parse(read_envelope(run.manifest.read_bytes())[1])
    statement["predicate"]["runDetails"]["metadata"]["invocationId"] = identifier
    signed = sign_envelope(canonical_bytes(statement), KeyRing(run.home).signer())
    run.manifest.write_bytes(signed)
    run.ledger.path.unlink()


@pytest.mark.parametrize("identifier", ELSEWHERE)
def test_an_identifier_is_the_name_of_a_folder(
    tmp_path: Path, identifier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, out = recorded(tmp_path), tmp_path / "reviewer" / "deep" / "crate"
    monkeypatch.setenv("NDREPRO_HOME", str(run.home))
    out.parent.mkdir(parents=True)
    renamed(run, identifier)
    check = run.verify().failure
    assert check is not None and check.name == "statement" and "expected the name of a folder" in check.message
    with pytest.raises(NotExported, match="does not verify"):
        invoke(["export", str(run.folder), "--format", "ro-crate", "-o", str(out)])
    assert list(tmp_path.rglob("evil.pth")) == [run.folder / "evil.pth"], "nothing was written"
    with pytest.raises(UsageError, match="the name of a folder"):
        run.open(run_id=identifier)


@pytest.mark.parametrize("name", [*ELSEWHERE[:5], "small"])
def test_a_name_leads_no_export_elsewhere(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last one is the control."""
    run = recorded(tmp_path, name)
    monkeypatch.setenv("NDREPRO_HOME", str(run.home))
    run.ledger.path.unlink()  # without one an archive names the folders by what is in the manifest
    facts = RunFacts.of(run.folder, run.verify())
    assert facts.path == ("small/one" if name == "small" else "one")
    archive = tmp_path / "runs.tar"
    assert invoke(["archive", str(run.folder), "-o", str(archive)]) == 0
    with tarfile.open(archive) as packed:
        assert f"runs/runs/{facts.path}/evil.pth" in packed.getnames()
        assert not any(".." in Path(each).parts or each.startswith("/") for each in packed.getnames())


def test_nothing_is_written_for_a_path_that_leads_out() -> None:
    for path in ("../evil", "/evil", "a/../../evil", "a//evil", "a/.git/config"):
        with pytest.raises(NotExported, match="leads out"):
            Member(path, b"")
