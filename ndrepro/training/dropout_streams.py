"""Gives every dropout layer its random numbers, step by step, from the stream "dropout" and the layer's name.

The numbers of a step are made from its number, so nothing of them is part of a checkpoint.
"""

from __future__ import annotations

from torch import nn

from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.training.compute.randomness import stream
from ndrepro.training.layers.dropout import StreamDropout


class Dropouts:
    """The dropout layers of a network. ``seed`` is called before every training batch."""

    def __init__(self, net: nn.Module, experiment: Experiment) -> None:
        self._experiment = experiment
        self._layers = [(name, layer) for name, layer in net.named_modules() if isinstance(layer, StreamDropout)]

    def seed(self, step: int) -> None:
        """The masks of the step after ``step`` steps."""
        for name, layer in self._layers:
            layer.source = stream(self._experiment, "dropout", f"{step}/{name}")
