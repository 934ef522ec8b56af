"""First weights, every tensor drawn from its own part of the "init" stream by its name.

So a convolution that has the same name and shape in the batch-norm and in the deconvolved network starts with the same
weights in both, on every device and version. Rules are those of the released code:

* default: PyTorch's own for convolutions and linear layers, weight and bias uniform in ±1/sqrt(fan_in) (LeCun et al.
  1998; ``kaiming_uniform_`` with a = sqrt 5);
* imagenet_resnet: convolutions normal with standard deviation sqrt(2/fan_out) (He et al. 2015, eq. 14), the rest as
  by default;
* others of torchvision's networks for ImageNet: ``models.released.STARTS`` has the table.

Batch norms start at 1 and 0, running statistics as their layers make them.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.training.compute.randomness import stream
from ndrepro.training.models.released import INITIALISATION, INITIALISATION_IMAGENET, STARTS

_NORMS = (nn.BatchNorm2d, nn.BatchNorm1d)


def initialise(net: nn.Module, experiment: Experiment) -> None:
    """Draw every parameter in place. Raises TypeError for a layer with parameters that no rule covers."""
    imagenet = experiment.facts.design == "imagenet"
    starts = STARTS[(INITIALISATION_IMAGENET if imagenet else INITIALISATION)[experiment.arch]]
    with torch.no_grad():
        for name, module in net.named_modules():
            own = dict(module.named_parameters(recurse=False))
            if not own:
                continue
            if isinstance(module, _NORMS):
                module.weight.fill_(1.0)
                module.bias.zero_()
            elif set(own) <= {"weight", "bias"} and own["weight"].dim() in (2, 4):
                _draw_layer(name, own, starts.get(type(module).__name__, ("uniform", "uniform")), experiment)
            else:
                raise TypeError(f"{name}: no rule to initialise {type(module).__name__}")


def _draw_layer(name: str, own: dict[str, nn.Parameter], start: tuple[str, str], experiment: Experiment) -> None:
    """Weight (out, in[, h, w]) and bias (out) of a convolution or linear layer, by the names of their starts."""
    weight = own["weight"]
    fan_in = weight[0].numel()
    fans = {"fan_in": fan_in, "fan_out": weight.numel() // weight.shape[1]}
    for part, kind in zip(("weight", "bias"), start, strict=True):
        if part not in own:
            continue
        shape = tuple(own[part].shape)
        generator = stream(experiment, "init", f"{name}.{part}")
        if kind == "uniform":
            bound = 1.0 / math.sqrt(fan_in)
            drawn = generator.uniform(-bound, bound, shape)
        elif kind == "zero":
            drawn = np.zeros(shape)
        else:
            deviation = 0.01 if kind == "small" else math.sqrt(2.0 / fans[kind])
            drawn = generator.standard_normal(shape) * deviation
        own[part].copy_(torch.from_numpy(drawn.astype(np.float32)))
