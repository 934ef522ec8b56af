"""The same work as a recorded run of no epochs, unrecorded: ``python -m benchmarks.bare EXPERIMENT WEIGHTS``.

It imports what training needs, reads the data, builds and initialises the network, makes the optimizer and writes
the weights. What a recorded run costs beyond this is recording.
"""

import sys
from pathlib import Path

from ndrepro.execution.runs.data_check import locate
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.training.checkpoint import save_weights
from ndrepro.training.compute import determinism
from ndrepro.training.compute.determinism import choose_device
from ndrepro.training.data import DATASETS
from ndrepro.training.data.batches import Batches
from ndrepro.training.optimizer import make_optimizer
from ndrepro.training.train_run import build

experiment = Experiment.from_name(sys.argv[1])
determinism.apply(experiment)
device = choose_device(experiment)
images = DATASETS[experiment.dataset](locate(experiment, None))
net = build(experiment).to(device)
make_optimizer(net, experiment)
Batches(images.train, experiment, device, training=True)
Batches(images.test, experiment, device, training=False)
save_weights(Path(sys.argv[2]), net, {})
