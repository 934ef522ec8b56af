"""What a whole run takes beside its bare steps: data, augmentation, accuracies, trail, logs, evaluation.

    python -m benchmarks.whole_run [EXPERIMENT…] [--rounds 3] [--threads 1]

An epoch of the trainer with every log that a run writes, less one of a single step, against as many bare steps
(forward, backward, update) of the same network on one batch that is there already. Images are random, of CIFAR-10's
shape, and one is evaluated for every five that are trained on, as CIFAR-10 has them. Not in it is what is done once an
epoch (state digests, folding weights for evaluation: some hundredths of a per cent of CIFAR-10's epochs), and once a
run: starting, reading the data, and the recorder's own process.
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

# images of a batch, and steps, of which there are five for every batch of the evaluation
SIZES = {"lenet_nd_1": (128, 40), "vgg16_nd_1": (64, 5), "resnet18_nd_1": (32, 5)}
_EPOCHS = 1000  # of the schedule; two of them are measured in every round


def whole_run(name: str, rounds: int = 3, threads: int = 1) -> Result:
    """The time of a recorded run against its bare steps; 1 / 0.95 is 95 % of their images per second."""
    import torch

    from ndrepro.training.compute import memory

    memory.keep_freed()  # as the training process does
    torch.set_num_threads(threads)
    batch_size, count = SIZES[name]
    settings = {"batch_size": str(batch_size), "device": "cpu", "threads": str(threads)}
    experiment = replace(Experiment.from_name(name, settings), epochs=_EPOCHS)
    with tempfile.TemporaryDirectory() as folder:
        long = _RecordedRun(experiment, Path(folder, "long"), steps=count + 1, evaluated=count // 5 + 1)
        short = _RecordedRun(experiment, Path(folder, "short"), steps=1, evaluated=1)
        steps = _bare_steps(experiment, count)
        for action in (long.epoch, short.epoch, steps):  # not counted
            action()
        values = [(cpu_seconds(long.epoch) - cpu_seconds(short.epoch)) / cpu_seconds(steps) for _ in range(rounds)]
        long.close()
        short.close()
    return result(f"a run of {name.rpartition('_')[0]}, recorded", values, 1 / 0.95, "x its bare steps")


class _RecordedRun:
    """Epochs of ``steps`` batches, and ``evaluated`` batches of test data, as the training process does them."""

    def __init__(self, experiment: Experiment, folder: Path, steps: int, evaluated: int) -> None:
        import torch

        from ndrepro.protocol.training_state import Place
        from ndrepro.training.data.readers.images import Images
        from ndrepro.training.data.run_data import make_batches
        from ndrepro.training.optimizer import make_optimizer
        from ndrepro.training.run_logs import Recording
        from ndrepro.training.train_run import build
        from ndrepro.training.trainer import Trainer

        folder.mkdir()
        train, test = (_split(count * experiment.batch_size) for count in (steps, evaluated))
        data = Images("random", train, test, (), (), None, "random")
        net = build(experiment)
        optimizer = make_optimizer(net, experiment)
        batches = make_batches(data, experiment, torch.device("cpu"))
        self._trainer = Trainer(experiment, RunFolder(folder), net, optimizer, *batches, stop_asked=lambda: False)
        self._place = Place(step=0, epoch=0, batch=0)
        self._recording = Recording(RunFolder(folder), net, self._place, resumed=False)
        self.close = self._recording.close

    def epoch(self) -> None:
        """The next one."""
        self._place = self._trainer.run(self._place, self._recording, self._place.epoch + 1)


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
