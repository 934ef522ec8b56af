"""Cost model of a run without recorded timings of its kind: seconds from stated rates, and bytes on disk.

Seconds. Every network's multiplications are counted (``network_costs.csv``, by ``tools/network_costs.py``): ``i`` for
an image forward, covariances included, and ``s`` for a step whatever its batch (Newton-Schulz, weight transform).
Backward costs twice forward, two operations a multiplication:

    CPU   (6 i images + 6 s steps + 2 i test images) / (threads x CPU_RATE)   + layers x steps x CPU_LAYER
    GPU   (6 i images + 2 i test images) / GPU_RATE + steps x (layers x GPU_LAYER + whitened x GPU_WHITENED)

On a GPU small kernels wait for each other, so layers count rather than products. The GPU's figures were fitted to the
training times that the replication study logged on a V100 (``table1_attempts.csv``, 100 epochs): the twenty networks
are predicted within a factor of two. The CPU's are of two cores of an AMD EPYC, torch 2.13.0; ND/BN ratios follow.

Bytes. Weights, kept checkpoints (state and momentum) and the trail have known shapes; the rest is ``ACCOUNT_BYTES``.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ndrepro.protocol.experiment.catalogue import DATASETS
from ndrepro.protocol.experiment.experiment import Experiment

TABLE = Path(__file__).with_name("network_costs.csv")
CPU_RATE = 40e9  # operations a second and thread
CPU_LAYER = 0.4e-3  # seconds a layer and step, forward and backward
GPU_RATE = 20e12
GPU_LAYER = 0.52e-3
GPU_WHITENED = 4.0e-3
START_SECONDS = 5.0  # interpreter, libraries, data, source, signature
ACCOUNT_BYTES = 400_000  # request, environment, layers, log, manifest
PIXELS = {"small": 32, "imagenet": 224}


@dataclass(frozen=True)
class Cost:
    """One network under one method. ``_macs`` are multiply-additions; ``layers`` counts calls; see the module."""

    design: str
    arch: str
    method: str
    image_macs: int
    step_macs: int
    layers: int
    whitened_layers: int
    state_tensors: int
    state_bytes: int
    parameter_bytes: int


@dataclass(frozen=True)
class Size:
    """The amount of work of a run: training and test images per epoch, steps per epoch, epochs."""

    epochs: int
    train_images: int
    test_images: int
    epoch_steps: int

    @classmethod
    def of(cls, experiment: Experiment) -> Size:
        """Sizes of the data set's catalogue entry, limited to the images that the experiment keeps."""
        facts = DATASETS[experiment.dataset]
        train = min(experiment.train_images or facts.train_images, facts.train_images)
        test = min(experiment.test_images or facts.test_images, facts.test_images)
        if experiment.validation:
            test = round(experiment.validation * train)
            train -= test
        return cls(experiment.epochs, train, test, -(-train // experiment.batch_size))


@cache
def read_costs() -> dict[tuple[str, str, str], Cost]:
    """The table of costs, by design, network and method."""
    with TABLE.open(encoding="utf-8", newline="") as stream:
        rows = [
            Cost(row.pop("design"), row.pop("arch"), row.pop("method"), **_whole(row)) for row in csv.DictReader(stream)
        ]
    return {(row.design, row.arch, row.method): row for row in rows}


def _whole(row: dict[str, str]) -> dict[str, int]:
    return {key: int(text) for key, text in row.items()}


def cost(experiment: Experiment) -> Cost:
    """The network's row, or for a network that is not in the table its middle one."""
    table, design = read_costs(), DATASETS[experiment.dataset].design
    if (design, experiment.arch, experiment.method) in table:
        return table[design, experiment.arch, experiment.method]
    alike = [row for row in table.values() if row.design == design]
    same = [row for row in alike if row.method == experiment.method] or alike
    return sorted(same, key=lambda row: row.image_macs)[len(same) // 2]


def model_seconds(experiment: Experiment, device: str) -> float:
    """Seconds on one ``device``, "cpu" or "cuda", from start to signature."""
    counted, size = cost(experiment), Size.of(experiment)
    scale = (experiment.image_size / PIXELS[counted.design]) ** 2
    steps = size.epochs * size.epoch_steps
    images = counted.image_macs * scale * size.epochs * (6 * size.train_images + 2 * size.test_images)
    if device == "cpu":
        busy = (images + 6 * counted.step_macs * steps) / (experiment.threads * CPU_RATE)
        return START_SECONDS + busy + counted.layers * steps * CPU_LAYER
    waits = counted.layers * GPU_LAYER + counted.whitened_layers * GPU_WHITENED
    return START_SECONDS + images / GPU_RATE + steps * waits


def model_bytes(experiment: Experiment) -> int:
    """Bytes that the run leaves behind."""
    counted, size = cost(experiment), Size.of(experiment)
    kept = size.epochs // experiment.checkpoint_epochs
    trail = (size.epochs * size.epoch_steps + 1) * (2 + counted.state_tensors) * 8
    checkpoints = kept * (counted.state_bytes + counted.parameter_bytes)
    return counted.state_bytes + checkpoints + trail + ACCOUNT_BYTES
