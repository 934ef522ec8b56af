"""Attack: what nobody signed beside a run, signatures by identities and the ledger, is read by some commands alone."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sigstore_instance import SigstoreInstance
from strange_programs import Stranger

from ndrepro import api
from ndrepro.execution.imports.run_import import import_runs
from ndrepro.execution.runs.run import RunOptions
from ndrepro.protocol.layout import RunFolder, RunsFolder
from ndrepro.reproduction.reproduction import NotReproduced
from ndrepro.reproduction.verified_copy import verified_copy
from provenance.attestation.dsse import read_envelope
from provenance.attestation.key_home import default_home
from provenance.attestation.trust import TrustPolicy

READERS = ("verify", "reproduce", "import", "diff")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Stranger, RunFolder]:
    author = Stranger.make(tmp_path_factory.mktemp("author"), {"train.py": "open('out.txt', 'w').write('0.5')\n"})
    author.record(sys.executable, "-c", "pass")
    return author, author.record(outputs=("out.txt",))


@pytest.fixture
def run(
    recorded: tuple[Stranger, RunFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], RunFolder]:
    """Makes a copy of the run beside its ledger, at a reviewer's who trusts its author."""
    author, honest = recorded
    monkeypatch.setenv("NDREPRO_HOME", str(author.reviewer))

    def copy() -> RunFolder:
        place = tmp_path / "runs" / "fit" / honest.root.name
        shutil.rmtree(tmp_path / "runs", ignore_errors=True)
        shutil.copytree(honest.root, place)
        shutil.copyfile(author.top / "runs" / "ledger.jsonl", tmp_path / "runs" / "ledger.jsonl")
        return RunFolder(place)

    return copy


def read(run: RunFolder, into: Path) -> dict[str, str]:
    """What each command that reads a whole run says against it: "" where it takes it."""
    return {name: _read(name, run, into / name, default_home()) for name in READERS}


def _read(name: str, run: RunFolder, into: Path, home: Path) -> str:
    shutil.rmtree(into, ignore_errors=True)
    if name == "verify":
        failure = api.verify(run.root).failure
        return failure.message if failure else ""
    if name == "import":
        (found,) = import_runs(run.root.parents[1], into, "theirs", TrustPolicy.load(home)).runs
        return found.problem
    if name == "diff":
        (problem,) = api.diff(run.root, run.root).sides[0].problems or ("",)
        return problem
    try:
        verified_copy(run, RunOptions(RunsFolder(into), home), into)
    except NotReproduced as error:
        return error.message
    return ""


def test_junk_in_the_file_of_signatures_is_refused_by_every_command(
    run: Callable[[], RunFolder], tmp_path: Path
) -> None:
    """Before: by verify and export alone; import and reproduce took the run."""
    instance = SigstoreInstance()
    folder = run()
    genuine = instance.bundle(read_envelope(folder.manifest.read_bytes())[1])
    other = instance.bundle(b"{}")
    junk = {
        "text": b"test accuracy 99.99 %\x1b[2J\xe2\x80\xae",
        "nothing": b"",
        "a line too many": json.dumps(genuine).encode() + b"\n\n",
        "JSON": b'{"accuracy": 0.9999}',
        "a further member": json.dumps({**genuine, "accuracy": 0.9999}).encode(),
        "on another statement": json.dumps(other).encode(),
        "33 lines": b"\n".join([json.dumps(genuine).encode()] * 33),
        "brackets": b"[" * 60_000,
    }
    for what, content in junk.items():
        folder.bundles.write_bytes(content)
        found = read(folder, tmp_path / "read")
        assert all("sigstore.jsonl" in problem and problem.isprintable() for problem in found.values()), (what, found)
    folder.bundles.write_bytes(json.dumps(genuine).encode() + b"\n")
    assert set(read(folder, tmp_path / "read").values()) == {""}, "the control"


def test_whom_a_reader_knows_decides_what_counts_and_not_whether_the_run_verifies(
    run: Callable[[], RunFolder], tmp_path: Path
) -> None:
    """Before: a stranger's signature made `verify` fail, so that anybody could make an honest run fail there alone."""
    folder = run()
    stranger = SigstoreInstance()
    payload = read_envelope(folder.manifest.read_bytes())[1]
    folder.bundles.write_bytes(json.dumps(stranger.bundle(payload, "eve@example.org")).encode() + b"\n")
    assert set(read(folder, tmp_path / "read").values()) == {""}
    verdict = api.verify(folder.root)
    assert verdict.ok and verdict.checks[-1].status == "skip"
    assert "not counted: its certificate is of no authority of the trusted root" in verdict.checks[-1].message
    root = stranger.write_root(tmp_path / "root.json")
    asked = api.verify(folder.root, sigstore_root=root)
    assert not asked.ok and "which is no trusted identity" in asked.checks[-1].message, "where one is required"


def test_a_ledger_without_the_run_s_entries_is_refused_by_every_command(
    run: Callable[[], RunFolder], tmp_path: Path
) -> None:
    """Before: reproduce and diff did not look at it."""
    folder = run()
    ledger = folder.root.parents[1] / "ledger.jsonl"
    kept = [line for line in ledger.read_bytes().splitlines(keepends=True) if folder.root.name.encode() not in line]
    ledger.write_bytes(b"".join(kept))
    found = read(folder, tmp_path / "read")
    assert all("ledger" in problem for problem in found.values()), found
    assert set(read(run(), tmp_path / "read").values()) == {""}, "the control"
