"""What training writes into a manifest is read back under the same names, and what is of another form is said."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from compared_runs import manifest, put

from ndrepro.protocol.experiment.experiment import STREAMS, Experiment
from ndrepro.protocol.experiment.settings import changed_settings
from ndrepro.protocol.messages import Container, Request, Scores
from ndrepro.protocol.training_record import (
    METRICS_SUMMARY,
    TrainingRecord,
    external_parameters,
    internal_parameters,
    metrics_summary,
)
from provenance.attestation.manifest import ERROR, Resource
from provenance.errors import ManifestError

DIGEST = "sha256:" + "ab" * 32
IMAGE = Container("podman", "5.0", "localhost/ndrepro", DIGEST, "sha256:" + "cd" * 32)
ROW = Scores(2, 12, 1.0, 0.5, float("nan"), 0.25, 0.1)


def record(request: Request) -> TrainingRecord:
    return TrainingRecord.of(
        replace(
            manifest(put("byproducts", {METRICS_SUMMARY: metrics_summary((ROW,))})),
            external_parameters=external_parameters(request, data="digits.csv.gz", command=["ndrepro", "run"]),
            internal_parameters=internal_parameters(request, flags=({"a": 1}, {"a": 2}), device="cpu"),
        )
    )


def test_what_was_written_is_what_is_read() -> None:
    experiment = Experiment.from_name("lenet_bn_2_digits", {"seeds.init": "7"})
    read = record(Request(experiment, "", "torch-2.8.0", resume_step=12, segment_epochs=3, container=IMAGE))
    assert read.is_training and read.experiment == experiment and read.name == experiment.name
    assert read.seeds == {stream: "7" if stream == "init" else "0" for stream in STREAMS}
    assert (read.data, read.command) == (Path("digits.csv.gz"), ("ndrepro", "run"))
    assert (read.environment, read.segment, read.container) == ("torch-2.8.0", (12, 3), IMAGE)
    assert read.environments == tuple(f"podman:localhost/ndrepro@sha256:{each * 32}" for each in ("cd", "ab"))
    assert (read.determinism_level, read.device, read.resumed_from_step) == (experiment.determinism, "cpu", 12)
    assert read.determinism["end"] == {"a": 2}
    assert repr(read.last_scores) == repr(ROW), "not a number included"
    assert read.distributions["torch"].version == "2.13.0" and read.distributions["torch"].digest == "70" * 32
    (data,) = read.datasets
    assert (data.name, data.files, data.train_pixels, data.official) == ("digits", "da" * 32, "aa" * 32, None)


def test_a_whole_run_outside_of_containers() -> None:
    read = record(Request(Experiment.from_name("lenet_bn_2_digits"), ""))
    assert (read.environments, read.container, read.segment, read.is_segment) == (("main",), None, None, False)


@pytest.mark.parametrize("experiment", [None, [], {}, {"arch": "lenet"}, {"epochs": -1}, {"novel": 1}])
def test_a_signed_experiment_that_is_not_known_here_is_said(experiment: object) -> None:
    known = manifest().external_parameters["experiment"]
    assert TrainingRecord.of(manifest()).experiment.name == "lenet_bn_2_digits", "the control"
    if experiment in ({"epochs": -1}, {"novel": 1}):
        experiment = {**known, **experiment}  # type: ignore[dict-item]
    with pytest.raises(ManifestError, match=r"externalParameters\.experiment"):
        _ = TrainingRecord.of(replace(manifest(), external_parameters={"experiment": experiment})).experiment


@pytest.mark.parametrize(
    "container", [1, "podman", ["podman"], {"engine": "podman"}, {**asdict(IMAGE), "digest": "x", "identifier": 3}]
)
def test_a_signed_container_that_is_none_is_said(container: object) -> None:
    with pytest.raises(ManifestError, match=r"externalParameters\.container"):
        _ = TrainingRecord.of(replace(manifest(), external_parameters={"container": container})).environments


@pytest.mark.parametrize("segment", [1, [0, 1], {"fromStep": 0}, {"fromStep": "0", "epochs": 1}])
def test_a_signed_segment_that_is_none_is_said(segment: object) -> None:
    with pytest.raises(ManifestError, match=r"externalParameters\.segment"):
        _ = TrainingRecord.of(replace(manifest(), external_parameters={"segment": segment})).segment


@pytest.mark.parametrize("change", [{"epoch": "2"}, {"step": None}, {"test_loss": None}, {"test_loss": []}, {"x": 1}])
def test_signed_results_that_are_none_are_not_read(change: dict[str, Any]) -> None:
    summary = metrics_summary((ROW,))
    strange = {**summary, "last": {**summary["last"], **change}}
    assert TrainingRecord.of(manifest(put("byproducts", {METRICS_SUMMARY: strange}))).last_scores is None


@pytest.mark.parametrize("strange", [None, 1, "x", [], {}, {"unavailable": "why"}])
def test_what_is_missing_or_of_another_form_is_empty(strange: Any) -> None:
    keys = ("name", "seeds", "data", "command", "environment")
    inner = dict.fromkeys(("determinism", "libraries", "usage", "device", "resumedFromStep"), strange)
    read = TrainingRecord.of(
        replace(
            manifest(),
            external_parameters=dict.fromkeys(keys, strange),
            internal_parameters=inner,
            machine=strange,
            dependencies=(Resource("dataset:x", annotations={"pixels_sha256": strange, "canonical": strange}),),
            byproducts=(Resource(ERROR, annotations={"message": strange}), Resource(METRICS_SUMMARY)),
        )
    )
    empty = (read.python, read.determinism_level, read.commit, read.code_digest, read.parameters, read.last_scores)
    assert not any(empty) and not read.is_training and not read.distributions
    assert read.datasets[0].train_pixels is None and read.datasets[0].official is None
    assert isinstance(read.usage, dict) and isinstance(read.seeds, dict)
    assert read.resumed_from_step == (1 if strange == 1 else 0)
    assert (read.name, read.device, read.error) == (("x",) * 3 if strange == "x" else ("",) * 3)


def test_settings_beyond_the_name_are_told() -> None:
    assert changed_settings(Experiment.from_name("vgg16_nd_100")) == {}
    settings = {"learning_rate": "0.05", "deconv.block": "32", "seeds.init": "7"}
    assert changed_settings(Experiment.from_name("resnet18_bn_20_cifar100", settings)) == {
        "learning_rate": 0.05,
        "deconv.block": 32,
        "seeds.init": 7,
    }
