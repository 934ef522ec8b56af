"""Counts the operators that a training step dispatches, on tensors without memory: each would be a launch on a GPU.

On torch's ``meta`` device every operator is dispatched and nothing is computed, so whatever asks for a number
(``.item()``, a branch on a value) fails. Views and allocations are not counted.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode

from ndrepro.training import models
from ndrepro.training.deconv_kernels.kernels import use_fast_kernels
from ndrepro.training.optimizer import SGD

# views, which only describe memory anew, and memory that nothing is written to
_NO_KERNEL = {
    "_unsafe_view", "alias", "as_strided", "detach", "diagonal", "empty", "empty_like", "empty_strided", "expand",
    "new_empty", "permute", "select", "slice", "split", "split_with_sizes", "squeeze", "t", "transpose", "unbind",
    "unfold", "unsqueeze", "view",
}  # fmt: skip


class OperatorCount(TorchDispatchMode):
    """``counts`` of every operator by name, while open."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count and run."""
        name = func._schema.name.partition("::")[2]
        if name not in _NO_KERNEL:
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))


def step_operators(arch: str, method: str, *, fast: bool = True, images: int = 128) -> Counter[str]:
    """The operators of one training step, the second, of a network for 32x32 colour images."""
    with torch.device("meta"):
        net = models.build(arch, method, 10).train()
        if fast:
            use_fast_kernels(net)
        optimizer = SGD(net, 0.9, 1e-3)
        batch, labels = torch.empty(images, 3, 32, 32), torch.empty(images, dtype=torch.int64)

    def step() -> None:
        optimizer.zero_grad()
        cross_entropy(net(batch), labels).backward()
        optimizer.step(0.1)

    step()
    with OperatorCount() as seen:
        step()
    return seen.counts
