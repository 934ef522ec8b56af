"""Replicates differ in nothing but their seeds, are signed by somebody trusted, and have a result to count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from signed_runs import SignedRuns, rows

from ndrepro.analysis.results.replicates import Replicates, replicates_of
from ndrepro.analysis.results.result_row import NoScore, experiment_of
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.layout import RunFolder, RunsFolder
from provenance.attestation.dsse import read_envelope
from provenance.attestation.key_home import KeyRing
from provenance.attestation.manifest import Manifest
from provenance.attestation.statement import Statement
from provenance.attestation.trust import TrustPolicy


def experiment(**settings: str) -> Experiment:
    return Experiment.from_name("lenet_nd_2_digits", settings)


def manifest_in(folder: Path) -> Manifest:
    return Statement.from_bytes(read_envelope((folder / "manifest.dsse.json").read_bytes())[1]).manifest


class WholeRuns(SignedRuns):
    """Runs whose folders have the request that makes them a run's."""

    def add(self, *arguments: Any, **options: Any) -> Path:
        folder = super().add(*arguments, **options)
        RunFolder(folder).request.write_text("{}", encoding="utf-8")
        return folder


@pytest.fixture
def made(tmp_path: Path) -> SignedRuns:
    return WholeRuns(tmp_path)


def found(made: SignedRuns, original: Path, home: Path | None = None) -> Replicates:
    trust = TrustPolicy.load(home or made.home)
    return replicates_of(manifest_in(original), RunsFolder(made.close()), trust)


def test_other_seeds_of_the_same_experiment_are_counted_once_each(made: SignedRuns, tmp_path: Path) -> None:
    original = made.add(experiment(), rows(2, 0.8))
    made.add(experiment(), rows(2, 0.8))
    for seed in ("1", "2", "2"):
        made.add(experiment(seed=seed), rows(2, 0.5))
    made.add(experiment(seed="3", learning_rate="0.2"), rows(2, 0.9))
    made.add(experiment(seed="4"), rows(2, 0.9), outcome="failed")
    made.add(experiment(seed="5"), rows(2, 0.9), data_files="d" * 64)
    assert found(made, original) == Replicates((0.5, 0.5), 0)
    assert found(made, original, tmp_path / "a stranger's") == Replicates((), 8), "the control: nobody is believed"


def test_an_author_s_own_replicates_judge_nothing(made: SignedRuns, tmp_path: Path) -> None:
    """Two invented results, far apart, would make an interval that takes any result in."""
    original = made.add(experiment(), rows(2, 0.99))
    for seed, accuracy in (("1", 0.5), ("2", 0.9)):
        made.add(experiment(seed=seed), rows(2, accuracy))
    reviewer = TrustPolicy.load(tmp_path / "reviewer")
    reviewer.add(KeyRing(made.home).public_key().pem, "author")
    runs = RunsFolder(made.close())
    assert replicates_of(manifest_in(original), runs, reviewer) == Replicates((), 3)
    assert replicates_of(manifest_in(original), runs, TrustPolicy.load(made.home)).accuracies == (
        0.5,
        0.9,
    ), "the control"


@pytest.mark.parametrize("strange", [{}, [], "x", None, "nan"])
def test_a_result_in_another_form_is_no_replicate(made: SignedRuns, strange: object) -> None:
    original = made.add(experiment(), rows(2, 0.8))
    made.add(experiment(seed="1"), rows(2, 0.5))
    made.add(experiment(seed="2"), [*rows(2, 0.5)[:1], {**rows(2, 0.5)[1], "test_accuracy": strange}])
    assert found(made, original) == Replicates((0.5,), 0)


def test_a_run_of_no_experiment_has_no_replicates(made: SignedRuns) -> None:
    original = manifest_in(made.add(experiment(), rows(2, 0.8)))
    original.external_parameters["experiment"] = []  # type: ignore[index]
    with pytest.raises(NoScore):
        experiment_of(original)
    assert replicates_of(original, RunsFolder(made.close()), TrustPolicy.load(made.home)) == Replicates((), 0)
