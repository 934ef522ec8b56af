"""A run refers to the signed statements on its image, and to no others."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from image_statements import Build, statements
from real_runs import Bench
from stand_in_engine import write_engine, write_image

from ndrepro.execution.containers.engines import ContainerChoice, find
from ndrepro.execution.containers.image_attestation import attested, beside, kept_at, write
from ndrepro.execution.runs.run_checks import CHECKS
from ndrepro.execution.runs.run_lookup import read_recorded
from ndrepro.protocol.errors import EngineError
from provenance.attestation.ledger import Ledger
from provenance.attestation.trust import TrustPolicy
from provenance.attestation.verify import verify
from provenance.formats.digest import file_digest

BUILD = Build(
    *("ndrepro:latest", frozenset({f"sha256:{'a' * 64}"}), "b" * 40, "", "base", "", "d" * 64, "podman", "4.3.1"),
    *("amd64", "2026-11-21T09:30:00Z", "2026-11-21T09:31:00Z"),
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ContainerChoice:
    monkeypatch.setenv("PATH", f"{write_engine(tmp_path / 'bin')}{os.pathsep}{os.environ['PATH']}")
    return ContainerChoice.from_words("apptainer", write_image(tmp_path / "image.sif").image)


def test_a_runs_manifest_names_the_statements_on_its_image(bench: Bench, place: ContainerChoice) -> None:
    image = find(place, "cpu")
    path = kept_at(bench.options.home, image.identifier)
    write(path, statements(replace(BUILD, digests=image.digests), "{}"), bench.options.home)
    bench.options = replace(bench.options, container=place)
    folder = bench.run("lenet_bn_1_digits", train_images="48").folder
    manifest = read_recorded(folder).manifest
    attestation = manifest.dependency("container image attestation")
    assert attestation is not None and attestation.digest == {"sha256": file_digest(path).sha256}
    ledger = Ledger(bench.options.runs.ledger)
    assert verify(folder.root, trust=TrustPolicy.load(bench.options.home), ledger=ledger, extra_checks=CHECKS).ok


def test_statements_that_do_not_hold_stop_a_run_before_it_starts(
    bench: Bench, place: ContainerChoice, tmp_path: Path
) -> None:
    image, home = find(place, "cpu"), bench.options.home
    assert attested(image, home) == image, "none: none is named"
    path = beside(Path(image.image))
    right = statements(replace(BUILD, digests=image.digests), "{}")
    write(path, right, home)
    assert attested(image, home).attestation == f"sha256:{file_digest(path).sha256}"
    data = path.read_bytes()
    for changed, complaint in (
        (data.replace(b'"sig":"', b'"sig":"AAAA', 1), "base64|signature"),
        (data.splitlines()[1], "no statement on how the image was built"),
        (b"", "no statement on how the image was built"),
        (b"{}\n", "payload"),
    ):
        path.write_bytes(changed)
        with pytest.raises(EngineError, match=complaint) as error:
            attested(image, home)
        assert str(path) in error.value.message
    write(path, statements(BUILD, "{}"), home)
    with pytest.raises(EngineError, match="a statement on another image"):
        attested(image, home)
    write(path, right, tmp_path / "stranger")
    with pytest.raises(EngineError, match="no trusted key"):
        attested(image, home)
