"""Writes ndrepro/execution/studies/network_costs.csv: what each network costs, counted off the network itself.

    python tools/network_costs.py [ARCH ...]     the rows of these (default: of all); other rows stay

One row a design, network and method, for colour images of 32x32 and 10 classes, or of 224x224 and 1000; the columns
are ``ndrepro.execution.studies.cost_model.Cost``.
Run it after a network or a method was added or changed; a test says when that was forgotten.
"""

from __future__ import annotations

import csv
import math
import sys
from dataclasses import asdict

from ndrepro.execution.studies.cost_model import PIXELS, TABLE, Cost, read_costs
from ndrepro.protocol.experiment.catalogue import ARCHITECTURES, DESIGNS
from ndrepro.training import models
from ndrepro.training.checkpoint import state_tensors
from ndrepro.training.layers.census import Row, census

_CLASSES = {"small": 10, "imagenet": 1000}
_CONVOLUTIONS, _LINEAR = ("conv2d", "deconv2d"), ("linear", "delinear")


def cost_of(design: str, arch: str, method: str) -> Cost:
    """Count one network."""
    net = models.build(arch, method, _CLASSES[design], design=design, image_size=PIXELS[design])
    rows = census(net, (1, 3, PIXELS[design], PIXELS[design]))
    state = state_tensors(net)
    return Cost(
        design=design,
        arch=arch,
        method=method,
        image_macs=sum(_image_macs(row) for row in rows),
        step_macs=sum(_step_macs(row) for row in rows),
        layers=len(rows),
        whitened_layers=sum(row.block is not None for row in rows),
        state_tensors=len(state),
        state_bytes=sum(tensor.numel() * tensor.element_size() for tensor in state.values()),
        parameter_bytes=sum(parameter.numel() * parameter.element_size() for parameter in net.parameters()),
        activation_bytes=4 * sum(_activations(row) for row in rows),
    )


def _activations(row: Row) -> int:
    """Numbers that one image leaves for the backward pass: a layer's output, and the patches that it whitens."""
    outputs = math.prod(row.output_shape[1:])
    if row.block is None or row.layer not in _CONVOLUTIONS:
        return outputs
    height, width = _sampled(row)
    kernel = math.prod(_both(row.kernel or 1))
    return outputs + (row.in_channels_or_features or 0) * kernel * height * width


def _sampled(row: Row) -> tuple[int, int]:
    """How many patches of an image go into the covariance, in both directions."""
    stride = _both(row.sampling_stride)
    height, width = (max(1, size // extent) for size, extent in zip(row.input_shape[2:], stride, strict=True))
    return height, width


def _image_macs(row: Row) -> int:
    """Multiplications of one image forward, with those of its part in the covariance."""
    if row.layer in _CONVOLUTIONS:
        macs = row.output_shape[2] * row.output_shape[3] * _weights(row)
        if row.block is None:
            return macs
        height, width = _sampled(row)
        blocks = (row.in_channels_or_features or 0) // row.block
        return macs + blocks * height * width * _features(row) ** 2
    if row.layer in _LINEAR:
        blocks = 0 if row.block is None else (row.in_channels_or_features or 0) // row.block
        return _weights(row) + blocks * _features(row) ** 2
    return 0


def _step_macs(row: Row) -> int:
    """Multiplications once a step, however large the batch: Newton-Schulz (three products each) and W D."""
    if row.block is None or row.n_iter is None:
        return 0
    features = _features(row)
    return (row.groups or 1) * row.n_iter * 3 * features**3 + _weights(row) * features


def _weights(row: Row) -> int:
    height, width = _both(row.kernel or 1)
    inputs, outputs = row.in_channels_or_features or 0, row.out_channels_or_features or 0
    return inputs * outputs // (row.groups or 1) * height * width


def _features(row: Row) -> int:
    """F, the columns that one covariance has."""
    height, width = _both(row.kernel or 1)
    return (row.block or 0) * height * width


def _both(extent: int | tuple[int, ...] | None) -> tuple[int, int]:
    if isinstance(extent, tuple):
        return extent[0], extent[1]
    return (extent or 1, extent or 1)


def write(wanted: list[str]) -> None:
    """Count ``wanted`` again and write the table, in the catalogue's order."""
    kept = read_costs() if TABLE.exists() else {}
    names = [
        (design, arch, method)
        for design, networks in DESIGNS.items()
        for arch, facts in networks.items()
        for method in facts.methods
    ]
    rows = [cost_of(*name) if name[1] in wanted or name not in kept else kept[name] for name in names]
    with TABLE.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(asdict(rows[0])), lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


if __name__ == "__main__":
    write(sys.argv[1:] or list(ARCHITECTURES))
