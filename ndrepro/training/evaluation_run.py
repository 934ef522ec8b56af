"""A run that trains nothing: given weights are evaluated on the test data, to compare with signed results."""

from __future__ import annotations

from torch import nn

from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import Evaluated, Request, write_json
from ndrepro.protocol.training_state import Place
from ndrepro.training.checkpoint import load_weights
from ndrepro.training.evaluate import Evaluation


def is_evaluation(request: Request) -> bool:
    """Whether nothing is to be trained."""
    return request.segment_epochs == 0


def load_given_weights(request: Request, folder: RunFolder, net: nn.Module, steps_per_epoch: int) -> Place:
    """Give the network the weights in the folder; returns where in the run they are. Raises CheckpointError."""
    load_weights(folder.evaluated_weights, net)
    return Place(request.resume_step, request.resume_step // steps_per_epoch, batch=0)


def write_evaluation(found: Evaluation, images: int, folder: RunFolder) -> None:
    """Write the results of the weights on so many images."""
    document = Evaluated(found.loss, found.accuracy, found.top5_accuracy, images).to_json()
    write_json(folder.evaluation, document)
