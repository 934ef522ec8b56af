"""The same work as a recorded run of no epochs, unrecorded: ``python -m benchmarks.bare EXPERIMENT WEIGHTS``.

It imports what training needs, reads the data, builds and initialises the network, makes the optimizer and writes
the weights. What a recorded run costs beyond this is recording.
"""

import gc
import sys
from pathlib import Path


def main(name: str, weights: Path) -> None:
    """Everything once; no garbage is looked for in what is imported, as the training process does."""
    gc.disable()
    from ndrepro.execution.runs.data_check import locate
    from ndrepro.protocol.experiment.experiment import Experiment
    from ndrepro.training.checkpoint import save_weights
    from ndrepro.training.compute import determinism
    from ndrepro.training.data import DATASETS
    from ndrepro.training.data.batches import Batches
    from ndrepro.training.optimizer import make_optimizer
    from ndrepro.training.train_run import build

    gc.freeze()
    gc.enable()
    experiment = Experiment.from_name(name)
    determinism.apply(experiment)
    device = determinism.choose_device(experiment)
    images = DATASETS[experiment.dataset](locate(experiment, None))
    net = build(experiment).to(device)
    make_optimizer(net, experiment)
    Batches(images.train, experiment, device, training=True)
    Batches(images.test, experiment, device, training=False)
    save_weights(weights, net, {})


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
