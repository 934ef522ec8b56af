"""First weights, every tensor drawn from its own part of the "init" stream by its name.

So a convolution that has the same name and shape in the batch-norm and in the deconvolved network starts with the same
weights in both, on every device and version. Rules are those of the released code:

* default: PyTorch's own for convolutions and linear layers, weight and bias uniform in ±1/sqrt(fan_in) (LeCun et al.
  1998; ``kaiming_uniform_`` with a = sqrt 5);
* imagenet_resnet: convolutions normal with standard deviation sqrt(2/fan_out) (He et al. 2015, eq. 14), the rest as
  by default.

Batch norms start at 1 and 0, running statistics as their layers make them.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from ndrepro.spec.experiment import Experiment
from ndrepro.training.models.released import INITIALISATION
from ndrepro.training.randomness import stream

_NORMS = (nn.BatchNorm2d, nn.BatchNorm1d)


def initialise(net: nn.Module, experiment: Experiment) -> None:
    """Draw every parameter in place. Raises TypeError for a layer with parameters that no rule covers."""
    rule = INITIALISATION[experiment.arch]
    with torch.no_grad():
        for name, module in net.named_modules():
            own = dict(module.named_parameters(recurse=False))
            if not own:
                continue
            if isinstance(module, _NORMS):
                module.weight.fill_(1.0)
                module.bias.zero_()
            elif set(own) <= {"weight", "bias"} and own["weight"].dim() in (2, 4):
                _draw_layer(name, own, rule, experiment)
            else:
                raise TypeError(f"{name}: no rule to initialise {type(module).__name__}")


def _draw_layer(name: str, own: dict[str, nn.Parameter], rule: str, experiment: Experiment) -> None:
    """Weight (out, in[, h, w]) and bias (out) of a convolution or linear layer."""
    weight = own["weight"]
    bound = 1.0 / math.sqrt(weight[0].numel())
    generator = stream(experiment, "init", f"{name}.weight")
    if rule == "imagenet_resnet" and weight.dim() == 4:
        fan_out = weight.shape[0] * weight.shape[2] * weight.shape[3]
        drawn = generator.standard_normal(tuple(weight.shape)) * math.sqrt(2.0 / fan_out)
    else:
        drawn = generator.uniform(-bound, bound, tuple(weight.shape))
    weight.copy_(torch.from_numpy(drawn.astype(np.float32)))
    if "bias" in own:
        generator = stream(experiment, "init", f"{name}.bias")
        drawn = generator.uniform(-bound, bound, tuple(own["bias"].shape))
        own["bias"].copy_(torch.from_numpy(drawn.astype(np.float32)))
