"""Trains networks for a few steps in this interpreter, as a training process does, and prints what came out as JSON.

``python few_steps.py FOLDER DIGITS IMAGENET``; the variables of the determinism level must be set. Runs in any cell
of the version matrix.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from ndrepro.protocol.errors import NdreproError
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import Request, Scores
from ndrepro.protocol.training_state import Place
from ndrepro.training import train_run
from ndrepro.training.compute import determinism
from ndrepro.training.data import run_data
from ndrepro.training.optimizer import make_optimizer
from ndrepro.training.run_logs import Unrecorded
from ndrepro.training.trainer import Trainer

SMALL = {"train_images": "8", "test_images": "4", "batch_size": "8", "threads": "1"}
PHOTOGRAPHS = {**SMALL, "size": "32", "train_images": "6", "batch_size": "6", "deconv.n_iter": "1"}
NETWORKS = {
    "small_inception_bn_1_digits": {**SMALL, "jitter": "0.1", "augment": "true", "dropout": "0.05"},
    "small_alexnet_nd_1_digits": {**SMALL, "corrupt.pixels": "gaussian"},
    "mlp512_none_1_digits": {**SMALL, "corrupt.labels": "0.5"},
    "lenet_nd_1_digits": {**SMALL, "precision": "bf16", "schedule": "step"},
    "resnet18_nd_1_imagenet": PHOTOGRAPHS,
    "lenet_bn_1_digits": {**SMALL, "compile": "true"},
}


class Kept(Unrecorded):
    """The last epoch's results."""

    scores: Scores

    def epoch(self, scores: Scores, timing: object) -> None:
        self.scores = scores


def train(request: Request, folder: RunFolder) -> Scores:
    """The parts of ``session.train`` that compute; what a run records of its environment costs seconds."""
    experiment, kept = request.experiment, Kept()
    determinism.apply(experiment)
    device = determinism.choose_device(experiment)
    data, _ = run_data.read_and_describe(request, folder, write=False)
    net = train_run.build(experiment)
    batches = run_data.make_batches(data, experiment, device)
    trainer = Trainer(experiment, folder, net, make_optimizer(net, experiment), *batches, lambda: False)
    trainer.run(Place(step=0, epoch=0, batch=0), kept, experiment.epochs)
    return kept.scores


def main(root: Path, digits: str, imagenet: str) -> None:
    found = {}
    for name, settings in NETWORKS.items():
        request = Request(Experiment.from_name(name, settings), imagenet if "imagenet" in name else digits)
        try:
            scores = train(request, RunFolder(root / name))
            found[name] = {"steps": scores.step, "loss": scores.train_loss}
        except NdreproError as error:
            found[name] = {"refused": error.message}
    print(json.dumps({"torch": torch.__version__, "flags": determinism.flags(), "networks": found}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
