"""Cost model of a run without recorded timings of its kind: seconds from stated rates, and bytes on disk.

Seconds. Every network's multiplications are counted (``network_costs.csv``, by ``tools/network_costs.py``): ``i`` for
an image forward, covariances included, and ``s`` for a step whatever its batch (Newton-Schulz, weight transform).
Backward costs twice forward, two operations a multiplication:

    CPU   (6 i images + 6 s steps + 2 i test images) / (threads x CPU_RATE)   + layers x steps x CPU_LAYER
    GPU   (6 i images + 2 i test images) / GPU_RATE + steps x (layers x GPU_LAYER + whitened x GPU_WHITENED)

On a GPU small kernels wait for each other, so layers count rather than products. The GPU's figures were fitted to the
training times that the replication study logged on a V100 (``table1_attempts.csv``, 100 epochs): the twenty networks
are predicted within a factor of two. The CPU's are of two cores of an AMD EPYC, torch 2.13.0; ND/BN ratios follow.

Memory of the machine, of each process. On a CPU the libraries, weights, gradients and momentum, two copies of the
state, and the activations of a batch as often as they were seen to be held; with deconvolutions more often, for the
copies of patches. On a GPU the host has the driver's share instead. The data come on top, as often as reading them
needs. Ten networks measured on two cores (batches of 16 to 128) stayed below, by a factor of two at most.

Bytes. Weights, kept checkpoints (state and momentum) and the trail have known shapes; the rest is ``ACCOUNT_BYTES``.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

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
PROCESS_BYTES = 600 * 2**20  # of a training process before it has a network
GPU_PROCESS_BYTES = 4 * 2**30  # and where CUDA and its libraries are loaded
RECORDER_BYTES = 400 * 2**20  # the process that records and signs, and what started it
ACTIVATION_COPIES, DECONV_ACTIVATION_COPIES = 2.2, 3.6
DATA_COPIES = 3  # the archive, the images, and the images on the device
PHOTOGRAPH_BYTES = 2 * 2**30  # photographs are read as they are needed


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
    activation_bytes: int


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
        facts = experiment.facts
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
        costs = [
            Cost(row.pop("design"), row.pop("arch"), row.pop("method"), **{key: int(text) for key, text in row.items()})
            for row in csv.DictReader(stream)
        ]
    return {(each.design, each.arch, each.method): each for each in costs}


def cost(experiment: Experiment) -> Cost:
    """The network's row, or for a network that is not in the table its middle one."""
    table, design = read_costs(), experiment.facts.design
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


def data_memory(experiment: Experiment) -> int:
    """Bytes of memory that the images take, in reading and in training."""
    facts, size = experiment.facts, Size.of(experiment)
    if facts.design == "imagenet":
        return PHOTOGRAPH_BYTES
    pixels = facts.channels * max(facts.size, experiment.image_size) ** 2
    # what an archive holds is read whole, however few images are kept
    return DATA_COPIES * pixels * max(facts.train_images + facts.test_images, size.train_images + size.test_images)


def model_memory(experiment: Experiment, device: str) -> int:
    """Bytes of the machine's memory that each training process of a run needs, without its recorder."""
    counted = cost(experiment)
    if device != "cpu":
        return GPU_PROCESS_BYTES + 2 * counted.state_bytes + data_memory(experiment)
    scale = (experiment.image_size / PIXELS[counted.design]) ** 2
    copies = DECONV_ACTIVATION_COPIES if counted.whitened_layers else ACTIVATION_COPIES
    batch = -(-experiment.batch_size // experiment.processes)
    activations = copies * counted.activation_bytes * scale * batch
    weights = 3 * counted.parameter_bytes + 2 * counted.state_bytes
    return round(PROCESS_BYTES + weights + activations) + data_memory(experiment)


def model_bytes(experiment: Experiment) -> int:
    """Bytes that the run leaves behind."""
    counted, size = cost(experiment), Size.of(experiment)
    kept = size.epochs // experiment.checkpoint_epochs
    trail = (size.epochs * size.epoch_steps + 1) * (2 + counted.state_tensors) * 8
    checkpoints = kept * (counted.state_bytes + counted.parameter_bytes)
    return counted.state_bytes + checkpoints + trail + ACCOUNT_BYTES
