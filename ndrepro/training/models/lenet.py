"""LeNet (LeCun et al., Gradient-based learning applied to document recognition, 1998), with ReLU and max-pools.

Two 5x5 convolutions and three linear layers. It has no batch norm, so ``bn`` and ``none`` are the same network.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ndrepro.protocol.errors import UsageError
from ndrepro.training.models.max_pool import max_pool2d


class LeNet(nn.Module):
    """Input (N, in_channels, S, S) with S at least 16, output (N, num_classes)."""

    def __init__(self, num_classes: int, in_channels: int = 3, image_size: int = 32) -> None:
        super().__init__()
        size = ((image_size - 4) // 2 - 4) // 2
        if size < 1:
            raise UsageError(f"LeNet: images of {image_size}x{image_size} pixels, expected at least 16x16")
        self.conv1 = nn.Conv2d(in_channels, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.linear1 = nn.Linear(16 * size * size, 120)
        self.linear2 = nn.Linear(120, 84)
        self.linear3 = nn.Linear(84, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, S, S) -> (N, num_classes)."""
        out = max_pool2d(F.relu(self.conv1(x)), 2, 2)
        out = max_pool2d(F.relu(self.conv2(out)), 2, 2)
        out = torch.flatten(out, 1)
        return self.linear3(F.relu(self.linear2(F.relu(self.linear1(out)))))
