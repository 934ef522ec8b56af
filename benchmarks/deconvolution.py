"""What deconvolution costs in a training step: fast kernels against the reference layer, batch norm, released code.

    python -m benchmarks.deconvolution [ARCH…] [--rounds 3] [--threads 1] [--wall] [--released FILE] [--json OUT]

All sides of a network are built with the same weights in one process and stepped in turn (forward, backward), so that
a drift of the machine meets all; processor seconds, medians. With several threads the ratio of wall clocks (``--wall``)
says more where the machine is idle: a thread that waits for another one uses processor time, too. FILE is the released
code's own layers (``models/deconv.py`` of its repository), which then take the place of ours in the same network.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.measure import Result, result, write_document

# batch sizes for which a step takes a second or so of one core
BATCHES = {
    "resnet18d": 64, "vgg16": 64, "densenet121": 16, "mobilenetv2": 32, "preact18": 16, "senet18": 16,
    "resnet18": 16, "resnext29": 8, "pnasnet18": 8, "dpn92": 4, "efficientnet": 16,
}  # fmt: skip
# how many times as fast as the reference layer's a step has to be
PROMISED = {
    "resnet18d": 2.5, "densenet121": 2.5, "vgg16": 1.8, "mobilenetv2": 1.25, "preact18": 2.0, "senet18": 2.0,
    "resnet18": 2.0, "pnasnet18": 1.2, "dpn92": 1.2,
}  # fmt: skip


def faster(arch: str, rounds: int = 3) -> Result:
    """A step with the fast kernels against one with the reference layer, one thread."""
    times = step_times(arch, BATCHES[arch], rounds, threads=1)
    values = [fast / reference for fast, reference in zip(times["fast"], times["reference"], strict=True)]
    return result(f"fast deconvolution, a step of {arch}_nd", values, 1 / PROMISED.get(arch, 1.0), "x the reference")


def operators(arch: str) -> list[Result]:
    """Operators that a step dispatches, a proxy for a GPU's launches, and against the batch-norm network's."""
    from benchmarks.dispatched import step_operators

    bn, nd = (sum(step_operators(arch, method).values()) for method in ("bn", "nd"))
    name = f"operators of a step of {arch}"
    counts = [result(f"{name}_bn", [bn], None, "operators"), result(f"{name}_nd", [nd], None, "operators")]
    return [*counts, result(f"{name}_nd beside {arch}_bn", [nd / bn], 4.0, "x batch norm's")]


def step_times(
    arch: str,
    images: int,
    rounds: int,
    threads: int,
    released: Path | None = None,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, list[float]]:
    """Seconds by ``clock`` of ``rounds`` steps of each side, after one that is not counted."""
    import torch

    from ndrepro.training.compute import memory

    memory.keep_freed()  # as the training process does
    torch.set_num_threads(threads)
    steps = {side: training_step(net, images) for side, net in networks(arch, released).items()}
    for step in steps.values():
        step()
    times: dict[str, list[float]] = {side: [] for side in steps}
    for _ in range(rounds):
        for side, step in steps.items():
            start = clock()
            step()
            times[side].append(clock() - start)
    return times


def networks(arch: str, released: Path | None = None) -> dict[str, Any]:
    """The network with batch norm, the reference layer, the fast kernels and, where given, the released layers."""
    import torch

    from ndrepro.training import models
    from ndrepro.training.deconv_kernels.kernels import use_fast_kernels

    nets = {}
    for side in ("bn", "reference", "fast", *(["released"] if released else [])):
        torch.manual_seed(0)
        nets[side] = models.build(arch, "bn" if side == "bn" else "nd", 10).train()
    use_fast_kernels(nets["fast"])
    if released:
        _put_in_released(nets["released"], released)
    return nets


def training_step(net: Any, images: int, device: Any = "cpu") -> Callable[[], None]:
    """Forward and backward of a batch of random 32x32 images."""
    import torch
    from torch.nn.functional import cross_entropy

    batch = torch.randn(images, 3, 32, 32, generator=torch.Generator().manual_seed(0)).to(device)
    labels = torch.arange(images, device=device) % 10

    def step() -> None:
        net.zero_grad()
        cross_entropy(net(batch), labels).backward()

    return step


def _put_in_released(net: Any, file: Path) -> None:
    """Replace every deconvolution layer by the released one with the same settings and parameters."""
    from ndrepro.training.layers.deconv import Deconv2d, Delinear

    spec = importlib.util.spec_from_file_location("released_deconv", file)
    assert spec is not None and spec.loader is not None
    code = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(code)
    for owner in list(net.modules()):
        for name, layer in list(owner.named_children()):
            common = {"eps": 1e-5, "n_iter": getattr(layer, "n_iter", 5), "momentum": 0.1}
            if isinstance(layer, Deconv2d):
                square = [pair[0] for pair in (layer.kernel_size, layer.stride, layer.padding)]
                geometry = (layer.in_channels, layer.out_channels, *square)
                more = {"groups": layer.groups, "block": layer.block, "sampling_stride": 3, "freeze": layer.freeze}
                new = code.FastDeconv(*geometry, **common, **more)
            elif isinstance(layer, Delinear):
                new = code.Delinear(layer.in_features, layer.out_features, block=layer.block, **common)
            else:
                continue
            new.weight, new.bias = layer.weight, layer.bias
            setattr(owner, name, new.train())


def main() -> None:
    """Print a line for every network, and write the medians."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.deconvolution", description=__doc__)
    parser.add_argument("arch", nargs="*", help=f"of {', '.join(BATCHES)}; all when left out")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--wall", action="store_true", help="wall-clock seconds, not the processor's")
    parser.add_argument("--released", type=Path, metavar="FILE")
    parser.add_argument("--json", type=Path, metavar="OUT")
    chosen = parser.parse_args()
    clock = time.perf_counter if chosen.wall else time.process_time
    document = {}
    gains = []
    for arch in chosen.arch or BATCHES:
        times = step_times(arch, BATCHES[arch], chosen.rounds, chosen.threads, chosen.released, clock)
        medians = {side: statistics.median(values) for side, values in times.items()}
        document[arch] = {"images": BATCHES[arch], "threads": chosen.threads, "seconds": times}
        spread = [slow / fast for slow, fast in zip(times["reference"], times["fast"], strict=True)]
        gains.append(medians["reference"] / medians["fast"])
        line = f"{arch:12} batch {BATCHES[arch]:3}  reference/fast {gains[-1]:.2f} "
        line += f"({min(spread):.2f} to {max(spread):.2f}, n={len(spread)})"
        if "released" in medians:
            line += f"  released/fast {medians['released'] / medians['fast']:.2f}"
        nd = [f"{side} {medians[side] / medians['bn']:.1f}" for side in medians if side != "bn"]
        print(f"{line}  ND/BN: {', '.join(nd)}", flush=True)
    print(f"geometric mean of {len(gains)}: {statistics.geometric_mean(gains):.2f}", flush=True)
    if chosen.json:
        write_document(chosen.json, document)


if __name__ == "__main__":
    main()
