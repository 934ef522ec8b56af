"""Which layers of a network a batch calls."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


def never_called(net: nn.Module, input_shape: Sequence[int]) -> tuple[str, ...]:
    """The names of layers with parameters of their own that one batch of ``input_shape`` does not call."""
    called: set[nn.Module] = set()

    def note(layer: nn.Module, inputs: object, output: object) -> None:
        called.add(layer)

    handles = [layer.register_forward_hook(note) for layer in net.modules()]
    mode, like = net.training, next(net.parameters())
    with torch.no_grad():
        net.eval()(torch.zeros(tuple(input_shape), dtype=like.dtype, device=like.device))
    net.train(mode)
    for handle in handles:
        handle.remove()
    own = ((name, layer) for name, layer in net.named_modules() if any(True for _ in layer.parameters(recurse=False)))
    return tuple(name for name, layer in own if layer not in called)
