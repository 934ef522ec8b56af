"""Every network has the layers of the released one, in the order of the calls, and as many parameters."""

from __future__ import annotations

import csv
from dataclasses import asdict
from functools import cache
from pathlib import Path

import pytest

from ndrepro.training.layers.census import Row, census, summary
from ndrepro.training.models import NETWORKS, build

STRUCTURES = Path(__file__).parent / "structures"
BATCH = (2, 3, 32, 32)


def read(name: str) -> list[dict[str, str]]:
    with (STRUCTURES / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


SUMMARIES = {f"{row['architecture']}_{row['method']}": row for row in read("summary_num_classes_10")}
NAMES = [name for name in SUMMARIES if name.rpartition("_")[0] in NETWORKS]


@cache
def built(name: str, num_classes: int) -> tuple[tuple[Row, ...], dict[str, int]]:
    arch, _, method = name.rpartition("_")
    net = build(arch, method, num_classes)
    return census(net, BATCH), asdict(summary(net))


def as_text(row: Row) -> dict[str, str]:
    """A row as the CSV files have it: shapes as 2x3x32x32, nothing where there is nothing."""
    record = {key: "" if value is None else str(value) for key, value in asdict(row).items()}
    shapes = {key: "x".join(map(str, getattr(row, key))) for key in ("input_shape", "output_shape")}
    return {**record, **shapes}


@pytest.mark.parametrize("name", NAMES)
def test_layers_and_calls_are_the_released_ones(name: str) -> None:
    assert [as_text(row) for row in built(name, 10)[0]] == read(name)


@pytest.mark.parametrize("name", NAMES)
def test_counts_are_the_released_ones(name: str) -> None:
    expected = {key: int(value) for key, value in SUMMARIES[name].items() if key not in ("architecture", "method")}
    found = built(name, 10)[1]
    assert {key: found[key] for key in expected} == expected


@pytest.mark.parametrize("name", NAMES)
def test_with_100_classes_only_the_classifier_differs(name: str) -> None:
    ten, hundred = built(name, 10)[0], built(name, 100)[0]
    assert [(a, b) for a, b in zip(ten, hundred, strict=True) if a != b] == [(ten[-1], hundred[-1])]
    features = hundred[-1].in_channels_or_features
    assert hundred[-1].parameters == 100 * (features + 1)
    difference = built(name, 100)[1]["trainable_parameters"] - built(name, 10)[1]["trainable_parameters"]
    assert difference == 90 * (features + 1)


def test_control_another_method_or_network_is_seen() -> None:
    rows = [as_text(row) for row in built("resnet18_nd", 10)[0]]
    assert rows != read("resnet18_bn") and rows != read("resnet18d_nd") and rows != read("preact18_nd")
