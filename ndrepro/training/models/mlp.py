"""A perceptron with one hidden layer: "MLP 1x512" of Zhang et al. (ICLR 2017), 1,209,866 parameters on 3x28x28."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ndrepro.training.layers.dropout import StreamDropout


class MLP(nn.Module):
    """Input (N, in_channels, S, S), output (N, num_classes). Dropout, where asked for, follows the hidden layer."""

    def __init__(self, hidden: int, num_classes: int, in_channels: int = 3, image_size: int = 28) -> None:
        super().__init__()
        self.linear1 = nn.Linear(in_channels * image_size * image_size, hidden)
        self.dropout = StreamDropout()
        self.linear2 = nn.Linear(hidden, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, S, S) -> (N, num_classes)."""
        return self.linear2(self.dropout(F.relu(self.linear1(torch.flatten(x, 1)))))
