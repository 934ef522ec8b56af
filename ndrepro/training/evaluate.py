"""Loss and accuracy of a network on a split, without touching the network's state."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from ndrepro.training.batches import BatchSource


def evaluate(net: nn.Module, batches: BatchSource) -> tuple[float, float]:
    """Mean cross-entropy and accuracy (a fraction) over every image, in evaluation mode."""
    was_training = net.training
    net.eval()
    loss_sum, correct = 0.0, 0
    with torch.no_grad():
        for images, labels in batches.in_order():
            logits = net(images)
            loss_sum += float(cross_entropy(logits, labels, reduction="sum"))
            correct += int((logits.argmax(dim=1) == labels).sum())
    net.train(was_training)
    return loss_sum / batches.count, correct / batches.count
