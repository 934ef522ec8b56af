from __future__ import annotations

import csv
import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from network_costs import cost_of
from real_runs import Bench

from ndrepro.execution.runs.run import Finished
from ndrepro.execution.studies.cost_model import (
    ACCOUNT_BYTES,
    START_SECONDS,
    cost,
    model_bytes,
    model_memory,
    model_seconds,
    read_costs,
)
from ndrepro.execution.studies.estimates import MODEL, RECORDED, Estimator
from ndrepro.protocol.experiment.catalogue import DESIGNS
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.image_reference import MAIN
from ndrepro.protocol.layout import RunsFolder
from ndrepro.protocol.messages import Request, Result, Timing, write_json
from ndrepro.protocol.study.study import StudyRun

AGAIN = "run: python tools/network_costs.py "


def run_of(experiment: Experiment) -> StudyRun:
    return StudyRun("main", experiment, MAIN)


@pytest.mark.parametrize(("arch", "method"), [("lenet", "nd"), ("resnext29", "bn"), ("mobilenetv2", "nd_full")])
def test_the_table_is_what_the_networks_count(arch: str, method: str) -> None:
    assert read_costs()["small", arch, method] == cost_of("small", arch, method), AGAIN + arch


def test_the_table_has_every_network() -> None:
    known = set(read_costs())
    for design, networks in DESIGNS.items():
        for arch, facts in networks.items():
            assert known >= {(design, arch, method) for method in facts.methods}, AGAIN + arch


@pytest.mark.parametrize(
    ("name", "batch", "peak_mib"),
    [
        ("lenet_bn_1_digits", 128, 574),
        ("vgg16_bn_1_digits", 128, 1155),
        ("vgg16_nd_1_digits", 128, 1416),
        ("resnet18_nd_1_digits", 64, 1244),
        ("densenet121_bn_1_digits", 32, 2110),
        ("mobilenetv2_nd_1_digits", 64, 1408),
        ("dpn92_nd_1_digits", 16, 2667),
    ],
)
def test_the_memory_of_a_process_is_enough_and_at_most_twice_what_was_measured(
    name: str, batch: int, peak_mib: int
) -> None:
    """Peaks of two steps on two cores, torch 2.13.0."""
    estimate = model_memory(Experiment.from_name(name, {"batch_size": str(batch)}), "cpu") / 2**20
    assert peak_mib < estimate < 2 * peak_mib


def test_the_counts_are_those_of_the_reference_structures() -> None:
    """4 bytes a parameter, as the layers of the released networks add up."""
    listed = Path(__file__).parents[2] / "training/models/structures/vgg16_nd.csv"
    with listed.open(newline="") as stream:
        parameters = sum(int(row["parameters"]) for row in csv.DictReader(stream))
    assert read_costs()["small", "vgg16", "nd"].parameter_bytes == 4 * parameters
    assert read_costs()["small", "vgg16", "bn"].image_macs == 313_201_664


def test_imagenet_has_networks_of_its_own() -> None:
    """ResNet-18 takes 1.8 giga multiply-additions for a photograph (He et al. 2016, table 1)."""
    assert cost(Experiment.of("resnet18", "bn", 90, "imagenet")).image_macs == pytest.approx(1.8e9, rel=0.02)


def test_a_network_that_was_never_counted_is_taken_for_the_middle_one() -> None:
    known = Experiment("lenet", "bn", 1)
    middle = cost(replace(known, arch="vgg16"))
    stranger = replace(known)
    object.__setattr__(stranger, "arch", "never_counted")
    rows = sorted(row.image_macs for row in read_costs().values() if (row.design, row.method) == ("small", "bn"))
    assert cost(stranger).image_macs == rows[len(rows) // 2] != middle.image_macs


def test_the_model_grows_with_what_there_is_to_do() -> None:
    once = Experiment("vgg16", "nd", 1)
    assert model_seconds(replace(once, epochs=100), "cuda") > 90 * (model_seconds(once, "cuda") - START_SECONDS)
    assert model_seconds(replace(once, threads=1), "cpu") > model_seconds(once, "cpu")
    assert model_seconds(replace(once, batch_size=16), "cpu") > 2 * model_seconds(once, "cpu")
    assert model_seconds(replace(once, train_images=500), "cpu") < model_seconds(once, "cpu") / 10
    assert model_seconds(replace(once, epochs=0), "cuda") == START_SECONDS


@pytest.mark.parametrize(
    ("arch", "method", "published"),
    [("vgg16", "bn", 990), ("vgg16", "nd", 3357), ("densenet121", "nd", 23525), ("preact18", "bn", 1357)],
)
def test_on_a_v100_the_model_is_within_a_factor_of_two_of_the_published_seconds(
    arch: str, method: str, published: float
) -> None:
    assert published / 2 < model_seconds(Experiment(arch, method, 100), "cuda") < 2 * published


def test_bytes_are_those_that_a_run_leaves(finished: Finished) -> None:
    """Weights, kept checkpoints and the trail to the byte, but for their headers."""
    folder = finished.folder
    experiment = Experiment.from_json(json.loads(folder.request.read_text())["experiment"])
    heavy = [folder.weights, folder.trail, *(folder.checkpoint(step) for step in folder.checkpoint_steps())]
    measured = sum(path.stat().st_size for path in heavy)
    assert measured == pytest.approx(model_bytes(experiment) - ACCOUNT_BYTES, rel=0.05)
    rest = sum(path.stat().st_size for path in folder.root.rglob("*") if path.is_file()) - measured
    assert rest < 2 * ACCOUNT_BYTES


def test_recorded_timings_are_taken_before_the_model_and_scaled_to_what_is_left(bench: Bench) -> None:
    asked = bench.experiment(train_images="90", test_images="30", epochs="4")
    empty = Estimator(bench.options.runs, [run_of(asked)])
    assert empty.estimate(run_of(asked)).source == MODEL

    record_timing(bench.options.runs, replace(asked, epochs=2, seed=5), train=9.0, test=1.0)
    known = Estimator(bench.options.runs, [run_of(asked)])
    estimate = known.estimate(run_of(asked))
    assert estimate.source == RECORDED
    assert estimate.seconds == pytest.approx(START_SECONDS + 4 * 10.0)
    assert known.estimate(run_of(asked), epochs_done=3).seconds == pytest.approx(START_SECONDS + 10.0)
    longer = replace(asked, train_images=180, test_images=60)
    assert known.estimate(run_of(longer)).seconds == pytest.approx(START_SECONDS + 4 * 20.0)
    for other in (replace(asked, batch_size=8), replace(asked, threads=2), replace(asked, method="bn")):
        assert known.estimate(run_of(other)).source == MODEL


def test_a_timing_that_cannot_be_read_is_none(bench: Bench) -> None:
    asked = bench.experiment()
    folder = record_timing(bench.options.runs, asked, train=9.0, test=1.0)
    (folder / "timing.jsonl").write_text('{"epoch": 1}\n')
    assert Estimator(bench.options.runs, [run_of(asked)]).estimate(run_of(asked)).source == MODEL


def record_timing(runs: RunsFolder, experiment: Experiment, train: float, test: float) -> Path:
    """What an earlier run of 90 and 30 images left of its clock."""
    folder = runs.run(experiment.name, "20261121T101502Z-abcdef")
    folder.root.mkdir(parents=True)
    write_json(folder.request, Request(experiment, "digits.csv.gz").to_json())
    write_json(folder.result, Result("completed", epochs=2, steps=12, device="cpu").to_json())
    write_json(folder.dataset, {"train_images": 90, "test_images": 30})
    rows = [asdict(Timing(n, train, test, 0.0, 10.0, 0, 0)) for n in (1, 2)]
    folder.timing.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder.root
