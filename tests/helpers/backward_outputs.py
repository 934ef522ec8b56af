"""Backward operations of layers, and the gradients that autograd says they gave: ``python backward_outputs.py``.

Prints JSON: the operations as ``ndrepro.training.replay.operation_recorder`` records them, and for each layer the
fingerprints of the gradients of its input, weight and bias, which were taken from autograd and not from the operations.
Runs in any environment of the version matrix.
"""

from __future__ import annotations

import json
from dataclasses import asdict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ndrepro.training.optimizer import SGD
from ndrepro.training.replay.operation_recorder import StepObserver, bits_of


class Layers(nn.Module):
    """Every layer whose backward operation gives several gradients, with and without each of them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleDict(
            {
                "first": nn.Conv2d(3, 4, 3, padding=1, bias=False),  # no gradient of its input, nor of a bias
                "norm": nn.BatchNorm2d(4),
                "unbiased": nn.Conv2d(4, 6, 1, bias=False),
                "plain norm": nn.BatchNorm2d(6, affine=False),
                "grouped": nn.Conv2d(6, 6, 3, padding=1, groups=6),
                "layer norm": nn.LayerNorm([4, 4]),
                "group norm": nn.GroupNorm(2, 6),
            }
        )

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        inputs = {}
        for name, layer in self.layers.items():
            inputs[name] = x
            x = layer(x)
        return x, inputs


def main() -> None:
    """One step, watched."""
    net = Layers()
    optimizer = SGD(net, 0.9, 1e-3)
    images = torch.arange(6 * 3 * 16, dtype=torch.float32).view(6, 3, 4, 4).sin()
    observer = StepObserver(net, optimizer)
    observer.open()
    out, inputs = net(images)
    for tensor in inputs.values():
        if tensor.requires_grad:
            tensor.retain_grad()
    F.cross_entropy(out.flatten(1), torch.arange(6)).backward()
    optimizer.step(0.1)
    observer.close()
    operations = [asdict(each) for each in observer.operations() if each.name.endswith("_backward")]
    gradients = {name: {"input": tensor.grad} for name, tensor in inputs.items() if tensor.grad is not None}
    for name, layer in net.layers.items():
        gradients.setdefault(name, {}).update({kind: each.grad for kind, each in layer.named_parameters()})
    bits = {name: {kind: each.bits for kind, each in bits_of(of).items()} for name, of in gradients.items()}
    print(json.dumps({"torch": torch.__version__, "operations": operations, "gradients": bits}))


if __name__ == "__main__":
    main()
