"""The recipe's optimizer: stochastic gradient descent with momentum, learning rate set at every step.

The update is written out here, in the order of operations of ``torch.optim.SGD`` (a test holds the two equal bit for
bit): it stays the same whatever a version of torch fuses, and making one of torch's would load its compiler, seconds
before every run.
"""

from __future__ import annotations

import torch
from torch import nn

from ndrepro.protocol.experiment.experiment import Experiment


class SGD:
    """w <- w - lr * v with v <- momentum * v + (gradient + weight_decay * w); v starts as the first gradient.

    ``momentum_buffers`` maps a parameter's name to v; it is empty before the first step.
    """

    def __init__(self, net: nn.Module, momentum: float, weight_decay: float) -> None:
        self._parameters = dict(net.named_parameters())
        self._momentum = momentum
        self._weight_decay = weight_decay
        self.momentum_buffers: dict[str, torch.Tensor] = {}

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self._parameters.values():
            parameter.grad = None

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Update every parameter that has a gradient."""
        for name, parameter in self._parameters.items():
            gradient = parameter.grad
            if gradient is None:
                continue
            if self._weight_decay:
                gradient = gradient.add(parameter, alpha=self._weight_decay)
            if self._momentum:
                if name in self.momentum_buffers:
                    gradient = self.momentum_buffers[name].mul_(self._momentum).add_(gradient)
                else:
                    gradient = self.momentum_buffers[name] = gradient.clone()
            parameter.add_(gradient, alpha=-learning_rate)


def make_optimizer(net: nn.Module, experiment: Experiment) -> SGD:
    """SGD over every parameter, with the experiment's momentum and weight decay."""
    return SGD(net, experiment.momentum, experiment.weight_decay)
