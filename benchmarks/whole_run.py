"""What a whole run takes beside its bare steps: data, augmentation, accuracies, trail, evaluation, logs, state digests.

    python -m benchmarks.whole_run [EXPERIMENT…] [--rounds 3] [--threads 1]

Epochs of the trainer, with every log that a run writes, against as many bare steps (forward, backward, update) of the
same network on one batch that is there already. Images are random, of CIFAR-10's shape, one of the test data for every
five of the training data, as CIFAR-10 has them; an epoch is shorter than CIFAR-10's, so what is done once an epoch
weighs more here than there. Not in it: starting, reading the data, and the recorder's own process, once a run each.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.measure import Result, cpu_seconds, result
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.layout import RunFolder

# enough images for some steps, and batches as in ``benchmarks.deconvolution``
SIZES = {"lenet_nd_1": (10240, 128), "vgg16_nd_1": (384, 64), "resnet18_nd_1": (384, 64)}
_EPOCHS = 1000  # of the schedule; one of them is measured in every round


def whole_run(name: str, rounds: int = 3, threads: int = 1) -> Result:
    """The time of an epoch of a recorded run against its bare steps; 1 / 1.053 is 95 % of their images per second."""
    import torch

    torch.set_num_threads(threads)
    images, batch_size = SIZES[name]
    settings = {"batch_size": str(batch_size), "device": "cpu", "threads": str(threads)}
    experiment = replace(Experiment.from_name(name, settings), epochs=_EPOCHS)
    with tempfile.TemporaryDirectory() as folder:
        epoch, close = _recorded_epochs(experiment, images, RunFolder(Path(folder)))
        steps = _bare_steps(experiment, images // batch_size)
        epoch(), steps()
        values = [cpu_seconds(epoch) / cpu_seconds(steps) for _ in range(rounds)]
        close()
    return result(f"an epoch of {name.rpartition('_')[0]}, recorded", values, 1 / 0.95, "x its bare steps")


def _recorded_epochs(experiment: Experiment, images: int, folder: RunFolder) -> tuple[Any, Any]:
    """One epoch after the other as the training process does it, and what closes its files."""
    from ndrepro.protocol.training_state import Place
    from ndrepro.training.data.readers.images import Images
    from ndrepro.training.optimizer import make_optimizer
    from ndrepro.training.run_logs import Recording
    from ndrepro.training.train_run import build, choose_device, make_batches
    from ndrepro.training.trainer import Trainer

    data = Images("random", _split(images), _split(images // 5), (), (), None, "random")
    net = build(experiment)
    optimizer = make_optimizer(net, experiment)
    batches = make_batches(data, experiment, choose_device("cpu"))
    trainer = Trainer(experiment, folder, net, optimizer, *batches, stop_asked=lambda: False)
    places = [Place(step=0, epoch=0, batch=0)]
    recording = Recording(folder, net, places[0], resumed=False)

    def epoch() -> None:
        places.append(trainer.run(places[-1], recording, places[-1].epoch + 1))

    return epoch, recording.close


def _bare_steps(experiment: Experiment, count: int) -> Any:
    import torch
    from torch.nn.functional import cross_entropy

    from ndrepro.training.optimizer import make_optimizer
    from ndrepro.training.train_run import build

    net = build(experiment).train()
    optimizer = make_optimizer(net, experiment)
    images = torch.randn(experiment.batch_size, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(experiment.batch_size) % 10

    def steps() -> None:
        for _ in range(count):
            optimizer.zero_grad()
            cross_entropy(net(images), labels).backward()
            optimizer.step(experiment.learning_rate)

    return steps


def _split(count: int) -> Any:
    import numpy as np

    from ndrepro.training.data.readers.images import Split

    draws = np.random.default_rng(0)
    return Split(draws.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8), np.arange(count, dtype=np.int64) % 10)


def main() -> None:
    """Print a line for every experiment."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.whole_run", description=__doc__)
    parser.add_argument("name", nargs="*", help=f"of {', '.join(SIZES)}; all when left out")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    for name in chosen.name or SIZES:
        row = whole_run(name, chosen.rounds, chosen.threads)
        print(f"{row.name}: {row.median:.3f} {row.unit} ({row.low:.3f} to {row.high:.3f}, n={row.n})", flush=True)


if __name__ == "__main__":
    main()
