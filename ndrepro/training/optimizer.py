"""The recipe's optimizer and schedule: stochastic gradient descent with momentum, learning rate set at every step.

The schedule is a plain function of the step, so that a resumed run needs no scheduler's state.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from ndrepro.spec.experiment import Experiment


def make_optimizer(net: nn.Module, experiment: Experiment) -> torch.optim.SGD:
    """SGD over every parameter; one tensor at a time, since fused updates differ between versions and devices."""
    return torch.optim.SGD(
        net.parameters(),
        lr=experiment.learning_rate,
        momentum=experiment.momentum,
        weight_decay=experiment.weight_decay,
        foreach=False,
    )


def learning_rate(experiment: Experiment, step: int, total_steps: int) -> float:
    """The learning rate of the step after ``step`` steps: cosine from the start value to 0 over the whole run
    (Loshchilov and Hutter 2017, eq. 5, without restarts), or constant.
    """
    if experiment.schedule == "constant":
        return experiment.learning_rate
    return 0.5 * experiment.learning_rate * (1.0 + math.cos(math.pi * step / total_steps))


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Set it for every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = value
