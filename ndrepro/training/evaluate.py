"""Loss and accuracies of a network on a split, without touching the network's state."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from ndrepro.training.compute.precision import Forward
from ndrepro.training.data.batches import BatchSource
from ndrepro.training.process_group import ALONE, Alone

TOP = 5


@dataclass(frozen=True)
class Evaluation:
    """Mean cross-entropy, and the fractions of images whose class has the highest score, or one of the five highest."""

    loss: float
    accuracy: float
    top5_accuracy: float


def evaluate(net: nn.Module, batches: BatchSource, forward: Forward | None = None, group: Alone = ALONE) -> Evaluation:
    """The network's results over every image, in evaluation mode, as ``forward`` computes it (``None``: as it is).

    Several processes take the batches in turn; sums are over batches in their order, whoever had them.
    """
    was_training = net.training
    net.eval()
    found = torch.zeros(len(batches), 3, dtype=torch.float64)  # loss, right answers, right among five
    compute = net if forward is None else forward
    with torch.no_grad():
        for batch, (images, labels) in zip(group.share.whole(len(batches)), batches.in_order(), strict=True):
            logits = compute(images)
            found[batch, 0] = float(cross_entropy(logits, labels, reduction="sum"))
            found[batch, 1:] = right_answers(logits, labels).cpu()
    net.train(was_training)
    loss_sum, correct, correct_top5 = 0.0, 0, 0
    for loss, first, among_five in group.sum(found).tolist():
        loss_sum += loss
        correct += int(first)
        correct_top5 += int(among_five)
    return Evaluation(loss_sum / batches.count, correct / batches.count, correct_top5 / batches.count)


def right_answers(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Of scores (B, C) and labels (B,): in how many rows the label comes first, and among the first five; int64 (2,).

    Equal scores stand in the order of the classes, and NaN before every number, as ``argmax`` has both: a network
    whose scores are all the same is not right five times as often as it is.
    """
    ranking = logits.sort(dim=1, descending=True, stable=True).indices[:, :TOP]
    hits = ranking == labels.unsqueeze(1)
    return torch.stack([hits[:, 0].sum(), hits.sum()])
