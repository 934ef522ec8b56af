"""Files that no recorder writes are named; of the kept runs, made by every release so far, none has any."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ndrepro.analysis.unexpected_files import unexpected_claim, unexpected_files
from provenance.attestation.dsse import read_envelope
from provenance.attestation.manifest import Artifact
from provenance.attestation.statement import Statement

KEPT = Path(__file__).resolve().parents[2] / "docs" / "runs"


def artifacts(*paths: str) -> tuple[Artifact, ...]:
    return tuple(Artifact(path, 1, "0" * 64) for path in paths)


def envelopes(into: Path) -> Iterator[Path]:
    for number, archive in enumerate(sorted(KEPT.rglob("*.tar.xz"))):
        with tarfile.open(archive) as packed:
            packed.extractall(into / str(number), filter="data")
    yield from sorted([*KEPT.rglob("manifest.dsse.json"), *into.rglob("manifest.dsse.json")])


def test_no_kept_run_has_any(tmp_path: Path) -> None:
    found = {}
    for path in envelopes(tmp_path):
        manifest = Statement.from_bytes(read_envelope(path.read_bytes())[1]).manifest
        found[path] = unexpected_files(manifest.artifacts)
    assert len(found) > 300 and not any(found.values()), [paths for paths in found.values() if paths][:3]


@pytest.mark.parametrize(
    ("paths", "named"),
    [
        (("request.json", "result.json", "result-rank-1.json", "network/nets.py", "untracked/a/b.py"), ""),
        (
            ("request.json", "RESULTS.md", "review/verdict.dsse.json", "metrics.jsonl"),
            "RESULTS.md, review/verdict.dsse",
        ),
        (("request.json", "outputs/best.json", "result-rank-x.json"), "outputs/best.json, result-rank-x.json"),
        (("program.json", "outputs/best.json", "inputs/a.py", "trail/1-1.bin", "data/0.sha256"), ""),
        (("program.json", "results.json", "artifacts/results.json"), "artifacts/results.json, results.json"),
        (("environment.json", "artifacts/net.pt", "trail"), "trail"),
    ],
)
def test_they_are_named_by_kind_of_run(paths: tuple[str, ...], named: str) -> None:
    claims = unexpected_claim(artifacts(*paths))
    assert bool(claims) == bool(named)
    assert not named or (claims[0].status == "not checked" and named in claims[0].evidence)
