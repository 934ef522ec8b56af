"""Whether torch.compile takes a whole training step as one graph, with the bits of the step as it stands.

    python -m benchmarks.compiled [ARCH…] [--json FILE]

``fullgraph=True`` makes a graph break an error. Forward pass and loss are one graph, the optimizer's update another;
between them autograd runs. The backend "eager" computes a graph by the operators that were traced, so that equal bits
show that nothing was lost or exchanged in tracing; what a backend makes of the graph is its own matter.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.deconvolution import BATCHES

_STEPS = 2  # the second has momentum, and running averages that have moved


@dataclass(frozen=True)
class TracedStep:
    """Of one network: processor seconds of its compiled first steps, and of the same steps as they stand; whether
    losses, parameters and buffers have the same bits after them.
    """

    network: str
    compiled_seconds: float
    plain_seconds: float
    same_bits: bool


def traced_step(name: str, net: Any, images: int = 2) -> TracedStep:
    """Train ``net`` (32x32 colour images) and a compiled copy of it side by side. Raises torch's error for a break."""
    import torch

    torch._dynamo.reset()
    twin = copy.deepcopy(net)
    compiled, plain = _Training(twin, lambda part: torch.compile(part, fullgraph=True, backend="eager")), _Training(net)
    batch = torch.randn(images, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    seconds, losses = zip(*(_timed(lambda each=each: each.steps(batch)) for each in (compiled, plain)), strict=True)
    pairs = [*zip(*losses, strict=True), *zip(twin.state_dict().values(), net.state_dict().values(), strict=True)]
    return TracedStep(name, *seconds, same_bits=all(torch.equal(one, other) for one, other in pairs))


class _Training:
    """Steps of a network whose parts are ``made`` of what computes them."""

    def __init__(self, net: Any, made: Callable[[Any], Any] = lambda part: part) -> None:
        from torch.nn.functional import cross_entropy

        from ndrepro.training.optimizer import SGD

        self._optimizer = SGD(net, momentum=0.9, weight_decay=1e-3)
        self._loss = made(lambda images, labels: cross_entropy(net(images), labels))
        self._update = made(self._optimizer.step)

    def steps(self, images: Any) -> list[Any]:
        """The losses of ``_STEPS`` steps on one batch."""
        import torch

        losses = []
        for _ in range(_STEPS):
            self._optimizer.zero_grad()
            losses.append(self._loss(images, torch.arange(len(images)) % 10))
            losses[-1].backward()
            self._update(0.1)
        return losses


def _timed(action: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = action()
    return time.process_time() - start, result


def main() -> None:
    """Print a line for every network."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compiled", description=__doc__)
    parser.add_argument("arch", nargs="*", help=f"of lenet, {', '.join(BATCHES)}; all when left out")
    parser.add_argument("--json", type=Path, metavar="FILE")
    chosen = parser.parse_args()
    import torch

    from ndrepro.training import models
    from ndrepro.training.deconv_kernels.kernels import use_fast_kernels

    rows = []
    for arch in chosen.arch or ("lenet", *BATCHES):
        torch.manual_seed(0)
        net = models.build(arch, "nd", 10).train()
        use_fast_kernels(net)
        rows.append(traced_step(arch, net))
        print(rows[-1], flush=True)
    if chosen.json:
        chosen.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
