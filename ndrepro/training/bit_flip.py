"""Flips one bit of one first weight, where an experiment asks for it (``ndrepro.protocol.experiment.bit_flip``)."""

from __future__ import annotations

import torch
from torch import nn

from ndrepro.protocol.errors import UsageError, suggestion
from ndrepro.protocol.experiment.bit_flip import Nudge
from ndrepro.protocol.experiment.experiment import Experiment


def nudge(net: nn.Module, experiment: Experiment) -> None:
    """Flip the bit that the experiment names, in place, in a network that has its first weights; none where it is none.

    Raises UsageError for a parameter or an element that the network has not, for a parameter that is not float32,
    and for a flip that leaves no finite number.
    """
    asked = Nudge.parse(experiment.nudge)
    if asked is None:
        return
    parameters = dict(net.named_parameters())
    if asked.parameter not in parameters:
        raise UsageError(
            f"nudge={asked}: {experiment.arch} with {experiment.method} has no parameter '{asked.parameter}'",
            suggestion(asked.parameter, parameters, f"it has {', '.join(list(parameters)[:3])} and others"),
        )
    _flip(parameters[asked.parameter].data, asked)


def _flip(weights: torch.Tensor, asked: Nudge) -> None:
    """Flip the bit in a tensor of any shape, float32."""
    if weights.dtype != torch.float32:
        raise UsageError(f"nudge={asked}: the parameter is {weights.dtype}, expected torch.float32")
    if asked.element >= weights.numel():
        raise UsageError(
            f"nudge={asked}: element {asked.element} of {weights.numel()}", f"it is 0 to {weights.numel() - 1}"
        )
    bits = weights.view(-1).view(torch.int32)
    # the sign bit as int32 has it
    mask = 1 << asked.bit if asked.bit < 31 else -(1 << 31)
    bits[asked.element] ^= mask
    if not bool(torch.isfinite(weights.view(-1)[asked.element])):
        raise UsageError(
            f"nudge={asked}: the flipped weight is no finite number", "flip a bit of the fraction: 0 to 22"
        )
