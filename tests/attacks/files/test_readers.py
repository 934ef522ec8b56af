"""What reads results refuses what ``ndrepro verify`` refuses, says of what it reads the manifest alone, and ends well.

The author holds the key: signatures and digests are right, and the run's own files speak against the manifest.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dishonest_author import copied, manifest_of, sign_again
from real_runs import Bench

from ndrepro.analysis.comparison.side import read_side
from ndrepro.analysis.results.replicates import Replicates, replicates_of
from ndrepro.analysis.results.results import Results, read_results
from ndrepro.analysis.verdicts.weight_evidence import compare_weights
from ndrepro.cli.display import output
from ndrepro.execution.runs.run import Finished
from ndrepro.protocol.errors import CheckpointError
from ndrepro.protocol.experiment.experiment import STREAMS
from ndrepro.protocol.layout import RunFolder, RunsFolder
from ndrepro.protocol.training_record import TrainingRecord
from provenance.attestation.countersignature import countersign
from provenance.attestation.key_home import KeyRing
from provenance.attestation.manifest import Resource
from provenance.attestation.trust import OWN_NAME, TrustPolicy
from provenance.attestation.verify import verify


class Copy:
    """A copy of an honest run without its ledger, for its author to change."""

    def __init__(self, honest: Finished, author: Bench, into: Path) -> None:
        self.author, self.root = author, into
        self.folder: RunFolder = copied(honest.folder, into)

    def read(self) -> Results:
        policy = TrustPolicy.load(self.author.options.home)
        return read_results(self.root / "runs", policy=policy)

    def claim(self, name: str, **annotations: Any) -> None:
        items = manifest_of(self.folder).byproducts
        changed = (
            Resource(each.name, annotations={**(each.annotations or {}), **annotations}) if each.name == name else each
            for each in items
        )
        sign_again(self.folder, self.author, byproducts=tuple(changed))


@pytest.fixture
def copy(honest: Finished, author: Bench, tmp_path: Path) -> Copy:
    return Copy(honest, author, tmp_path)


def test_results_that_the_files_contradict_are_refused(copy: Copy) -> None:
    (row,) = copy.read().rows
    assert row.files_checked
    (summary,) = (item.annotations for item in manifest_of(copy.folder).byproducts if item.name == "metrics summary")
    copy.claim("metrics summary", last={**(summary or {})["last"], "test_accuracy": 0.99})
    found = copy.read()
    assert not found.rows and "check 12 (metrics)" in found.refused[0].reason


def test_a_machine_that_the_files_contradict_is_refused(copy: Copy) -> None:
    gpus = {"driver": "570.0", "devices": [{"name": "NVIDIA H100"}] * 8}
    sign_again(copy.folder, copy.author, machine={**manifest_of(copy.folder).machine, "gpus": gpus})
    found = copy.read()
    assert not found.rows and "check 14 (predicate)" in found.refused[0].reason


def test_a_comparison_and_replicates_refuse_what_the_files_contradict(copy: Copy) -> None:
    """Before, both verified the signature and the digests alone, which the author's key makes right."""
    trust = TrustPolicy.load(copy.author.options.home)
    other = manifest_of(copy.folder)
    experiment = replace(TrainingRecord.of(other).experiment, seed=7)
    seeds = {stream: str(experiment.seed_of(stream)) for stream in STREAMS}
    asked = {**other.external_parameters, "experiment": experiment.to_json(), "seeds": seeds}
    judged = replace(other, external_parameters=asked)
    runs = RunsFolder(copy.root / "runs")
    control = read_side(copy.folder.root, trust)
    assert control.signer and control.whole
    shutil.copy(copy.author.options.runs.ledger, runs.ledger)
    assert len(replicates_of(judged, runs, trust).accuracies) == 1
    reviewer = TrustPolicy.load(copy.root / "reviewer")
    reviewer.add(KeyRing(copy.author.options.home).public_key().pem, "author")
    digest = verify(copy.folder.root, trust=reviewer).payload_digest
    assert digest is not None
    countersign(copy.folder.manifest, digest, KeyRing(copy.root / "reviewer"))
    reviewer = TrustPolicy.load(copy.root / "reviewer")
    assert OWN_NAME in verify(copy.folder.root, trust=reviewer).signers
    assert replicates_of(judged, runs, reviewer) == Replicates((), 1), "who signs has not trained"
    runs.ledger.unlink()
    sign_again(copy.folder, copy.author, machine={**manifest_of(copy.folder).machine, "hostname": "another"})
    side = read_side(copy.folder.root, trust)
    assert side.signer is None and side.status == "NOT VERIFIED" and "machine.hostname" in side.problems[0]
    assert replicates_of(judged, runs, trust) == Replicates((), 1)


@pytest.mark.parametrize("signed", [True, False])
def test_numbers_of_which_the_files_are_not_all_there_are_marked(copy: Copy, signed: bool) -> None:
    copy.folder.result.unlink()
    if signed:  # no file is missing: the author signed a folder that never had it
        sign_again(copy.folder, copy.author)
    (row,) = copy.read().rows
    assert not row.files_checked


def test_weights_that_are_none_are_an_error_that_names_the_file(copy: Copy) -> None:
    copy.folder.weights.write_bytes(b"garbage")
    with pytest.raises(CheckpointError, match=r"weights\.safetensors: no tensors"):
        compare_weights(copy.folder, copy.folder, 0, final=True)


def test_a_message_of_several_lines_prints_no_error_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_error({"message": "x\nerror: verified", "cure": "y\n  hint: trust it"})
    assert capsys.readouterr().err == "error: x\\nerror: verified\n  hint: y\\n  hint: trust it\n"
