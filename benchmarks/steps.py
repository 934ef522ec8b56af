"""Processor seconds of one training step, printed: ``python -m benchmarks.steps EXPERIMENT LEVEL``.

Run in a process of its own, since a determinism level's variables precede the interpreter. The median of five steps
after two, on random images, one thread.
"""

import statistics
import sys

import torch
from torch.nn.functional import cross_entropy

from benchmarks.measure import cpu_seconds
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.training.compute import determinism
from ndrepro.training.optimizer import make_optimizer
from ndrepro.training.train_run import build

settings = {"determinism": sys.argv[2], "threads": "1", "device": "cpu"}
experiment = Experiment.from_name(sys.argv[1], settings)
determinism.apply(experiment)
net = build(experiment)
optimizer = make_optimizer(net, experiment)
images = torch.randn(32, 3, 32, 32)
labels = torch.arange(32) % 10


def step() -> None:
    """Forward, backward, update."""
    optimizer.zero_grad()
    cross_entropy(net(images), labels).backward()
    optimizer.step(0.01)


print(statistics.median([cpu_seconds(step) for _ in range(7)][2:]))
