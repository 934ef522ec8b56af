"""The small AlexNet of Zhang et al. (ICLR 2017, appendix A), for crops of 28x28.

Two modules of a 5x5 convolution, a 3x3 max-pool and local response normalisation, then linear layers of 384 and 192
hidden units. Table 1 counts 1,387,786 parameters, which gives 64 channels and pools of stride 2. The constants of the
normalisation are not in the paper; they are those of the TensorFlow tutorial that the sizes come from: the sum over 9
channels, k 1, alpha 0.001 / 9, beta 0.75.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ndrepro.protocol.errors import UsageError
from ndrepro.training.layers.dropout import StreamDropout

_CHANNELS = 64


def _pooled(size: int) -> int:
    """The side after the pool below."""
    return -(-(size - 3) // 2) + 1


class SmallAlexNet(nn.Module):
    """Input (N, in_channels, S, S) with S at least 8, output (N, num_classes).

    Dropout, where asked for, follows each hidden linear layer.
    """

    def __init__(self, num_classes: int, in_channels: int = 3, image_size: int = 28) -> None:
        super().__init__()
        if image_size < 8:
            raise UsageError(f"small_alexnet: images of {image_size}x{image_size} pixels, expected at least 8x8")
        self.conv1 = nn.Conv2d(in_channels, _CHANNELS, 5, padding=2)
        self.conv2 = nn.Conv2d(_CHANNELS, _CHANNELS, 5, padding=2)
        # torch divides alpha by the number of channels
        self.norm = nn.LocalResponseNorm(9, alpha=0.001, beta=0.75, k=1.0)
        # half the size, a window hanging over the far edge, as TensorFlow pads
        self.pool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        size = _pooled(_pooled(image_size))
        self.linear1 = nn.Linear(_CHANNELS * size * size, 384)
        self.linear2 = nn.Linear(384, 192)
        self.linear3 = nn.Linear(192, num_classes)
        self.dropout1 = StreamDropout()
        self.dropout2 = StreamDropout()

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, S, S) -> (N, num_classes)."""
        out = self.norm(self.pool(F.relu(self.conv1(x))))
        out = self.norm(self.pool(F.relu(self.conv2(out))))
        out = self.dropout1(F.relu(self.linear1(torch.flatten(out, 1))))
        return self.linear3(self.dropout2(F.relu(self.linear2(out))))
