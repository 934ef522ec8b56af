"""Trains networks for a few steps in this interpreter, as a training process does, and prints what came out as JSON.

``python few_steps.py FOLDER DIGITS IMAGENET``; the variables of the determinism level must be set. Runs in any cell
of the version matrix.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ndrepro.spec.errors import NdreproError
from ndrepro.spec.exchange import Request, read_json
from ndrepro.spec.experiment import Experiment
from ndrepro.spec.layout import RunFolder
from ndrepro.training import session

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


def main(root: Path, digits: str, imagenet: str) -> None:
    found = {}
    for name, settings in NETWORKS.items():
        folder = RunFolder(root / name)
        folder.root.mkdir(parents=True)
        request = Request(Experiment.from_name(name, settings), imagenet if "imagenet" in name else digits)
        try:
            outcome = session.train(request, folder, lambda: False, {})
            row = json.loads(folder.metrics.read_text().splitlines()[-1])
            found[name] = {"outcome": outcome, "steps": row["step"], "loss": row["train_loss"]}
            found[name]["weights"] = folder.weights.stat().st_size > 0
            found[name]["torch"] = read_json(folder.environment)["end"]["libraries"]["torch"]
        except NdreproError as error:
            found[name] = {"refused": error.message}
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
