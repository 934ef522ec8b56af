"""How a deconvolution layer's time and memory grow with batch, width, image side and block.

    python -m benchmarks.growth [--rounds 3] [--plot FILE.svg] [--json FILE]

One 3x3 layer, forward and backward, one thread, processor milliseconds, medians; of memory, what the layer keeps for
its backward pass, counted once for every storage. One setting is varied at a time.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.measure import cpu_seconds, write_document


@dataclass(frozen=True)
class Setting:
    """A layer with as many outputs as inputs, ``width``, and its batch of square images."""

    batch: int = 32
    width: int = 64
    side: int = 16
    block: int = 64


VARIED = {"batch": (8, 16, 32, 64, 128), "width": (64, 128, 256, 512), "side": (4, 8, 16, 32), "block": (8, 16, 32, 64)}


def measured(setting: Setting, rounds: int) -> dict[str, tuple[float, float]]:
    """Processor milliseconds of a step, and MiB that are kept for its backward pass, of each kernel."""
    import torch
    from torch import nn

    from ndrepro.training.deconv_kernels.kernels import use_fast_kernels
    from ndrepro.training.layers.deconv import Deconv2d

    torch.manual_seed(0)
    x = torch.relu(torch.randn(setting.batch, setting.width, setting.side, setting.side)).requires_grad_()
    layers = {}
    for kernel in ("reference", "fast"):
        layers[kernel] = Deconv2d(setting.width, setting.width, 3, padding=1, block=setting.block)
        if kernel == "fast":
            use_fast_kernels(nn.Sequential(layers[kernel]))

    def step(layer: Any) -> None:
        layer(x).sum().backward()

    times: dict[str, list[float]] = {kernel: [] for kernel in layers}
    for number in range(rounds + 1):
        for kernel, layer in layers.items():
            seconds = cpu_seconds(lambda layer=layer: step(layer))
            if number:
                times[kernel].append(1000 * seconds)
    return {kernel: (statistics.median(times[kernel]), _kept(layer, x)) for kernel, layer in layers.items()}


def _kept(layer: Any, x: Any) -> float:
    import torch

    storages: dict[int, int] = {}
    tensors = []  # held, so that no address is given again

    def pack(tensor: Any) -> Any:
        tensors.append(tensor)
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        layer(x)
    return sum(storages.values()) / 2**20


def main() -> None:
    """Print a line for every setting, write them as JSON, and draw them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plot", type=Path, metavar="FILE")
    parser.add_argument("--json", type=Path, metavar="FILE")
    chosen = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for name, values in VARIED.items():
        for value in values:
            sides = measured(replace(Setting(), **{name: value}), chosen.rounds)
            rows.append({"varied": name, "value": value, "rounds": chosen.rounds})
            for kernel, (milliseconds, kept) in sides.items():
                rows[-1] |= {f"{kernel}_ms": milliseconds, f"{kernel}_mib": kept}
            print(
                f"{name} {value}: " + ", ".join(f"{kernel} {a:.1f} ms, {b:.1f} MiB" for kernel, (a, b) in sides.items())
            )
    if chosen.json:
        write_document(chosen.json, rows)
    if chosen.plot:
        _plot(rows, chosen.plot)


def _plot(rows: list[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(VARIED), figsize=(3 * len(VARIED), 2.8), layout="constrained")
    for axis, (name, values) in zip(axes, VARIED.items(), strict=True):
        points = [row for row in rows if row["varied"] == name]
        axis.loglog(values, [row["reference_ms"] for row in points], "o-", label="reference")
        axis.loglog(values, [row["fast_ms"] for row in points], "s-", label="fast")
        axis.set_xlabel(name)
        axis.set_xticks(values, [str(value) for value in values])
        axis.minorticks_off()
    axes[0].set_ylabel("processor milliseconds")
    axes[0].legend()
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
