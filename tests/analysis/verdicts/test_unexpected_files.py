"""Files that no recorder writes are named; of the kept runs, made by every release so far, none has any."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from compared_runs import manifest

from ndrepro.analysis.verdicts.unexpected_files import unexpected_claim, unexpected_files
from provenance.attestation.dsse import read_envelope
from provenance.attestation.manifest import Artifact, Manifest, Resource
from provenance.attestation.statement import Statement

KEPT = Path(__file__).resolve().parents[3] / "docs" / "runs"


def signed(*paths: str, processes: int = 1, epochs: int | None = None, network: str = "") -> Manifest:
    """A manifest of these files, that names a network of one file and one listing of data."""
    segment = None if epochs is None else {"fromStep": 1, "epochs": epochs}
    files = {network: "0" * 64} if network else {}
    return replace(
        manifest(),
        artifacts=tuple(Artifact(path, 1, "0" * 64) for path in paths),
        external_parameters={"experiment": {"processes": processes}, "segment": segment},
        dependencies=(
            Resource("network source", annotations={"files": files}),
            Resource("dataset:d", annotations={"listing": "data/0.sha256"}),
        ),
    )


def envelopes(into: Path) -> Iterator[Path]:
    for number, archive in enumerate(sorted(KEPT.rglob("*.tar.xz"))):
        with tarfile.open(archive) as packed:
            packed.extractall(into / str(number), filter="data")
    yield from sorted([*KEPT.rglob("manifest.dsse.json"), *into.rglob("manifest.dsse.json")])


def test_no_kept_run_has_any(tmp_path: Path) -> None:
    found = {}
    for path in envelopes(tmp_path):
        found[path] = unexpected_files(Statement.from_bytes(read_envelope(path.read_bytes())[1]).manifest)
    assert len(found) > 300 and not any(found.values()), [paths for paths in found.values() if paths][:3]


TRAINING, PROGRAM = "request.json", "program.json"


@pytest.mark.parametrize(
    ("paths", "named"),
    [
        ((TRAINING, "result.json", "checkpoints/step-000000001.safetensors"), ""),
        ((TRAINING, "untracked/a/b.py", "submodules/m/source.patch"), "submodules/m/source.patch, untracked/a/b.py"),
        ((PROGRAM, "untracked/a/b.py"), "untracked/a/b.py"),
        ((TRAINING, "attempts/1/manifest.dsse.json"), "compared with nothing: attempts/1/manifest.dsse.json"),
        ((TRAINING, "RESULTS.md", "review/verdict.dsse.json", "metrics.jsonl"), "RESULTS.md, review/verdict.dsse"),
        ((TRAINING, "outputs/best.json", "result-rank-x.json"), "outputs/best.json, result-rank-x.json"),
        ((TRAINING, "checkpoints/RESULTS.md"), "checkpoints/RESULTS.md"),
        ((TRAINING, "attempts/RESULTS.md"), "attempts/RESULTS.md"),
        ((TRAINING, "network/RESULTS.py"), "network/RESULTS.py"),
        ((TRAINING, "result-rank-1.json"), "result-rank-1.json"),
        ((TRAINING, "evaluation.json"), "evaluation.json"),
        ((PROGRAM, "outputs/best.json", "inputs/a.py", "trail/trail-1-2-0.bin", "data/0.sha256"), ""),
        ((PROGRAM, "trail/1-1.bin", "trail/trail-1-2-0.bin/a"), "trail/1-1.bin, trail/trail-1-2-0.bin/a"),
        ((PROGRAM, "data/RESULTS.md"), "data/RESULTS.md"),
        ((PROGRAM, "results.json", "artifacts/results.json"), "artifacts/results.json, results.json"),
        (("environment.json", "artifacts/net.pt", "trail"), "trail"),
    ],
)
def test_they_are_named_by_kind_of_run(paths: tuple[str, ...], named: str) -> None:
    claims = unexpected_claim(signed(*paths))
    assert bool(claims) == bool(named)
    assert not named or (claims[0].status == "not checked" and named in claims[0].evidence)


def test_names_of_a_purpose_are_known_to_the_runs_that_have_it() -> None:
    assert not unexpected_claim(signed(TRAINING, "result-rank-1.json", processes=2))
    assert not unexpected_claim(signed(TRAINING, "network/nets.py", network="nets.py"))
    assert not unexpected_claim(signed(TRAINING, "evaluation.json", "evaluated.safetensors", epochs=0))
    assert unexpected_claim(signed(TRAINING, "evaluation.json", epochs=1))
