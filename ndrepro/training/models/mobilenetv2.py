"""MobileNetV2 for 32x32 images (Sandler et al., Inverted Residuals and Linear Bottlenecks, CVPR 2018).

Blocks that widen, filter each channel by itself, and narrow again. Two strides of the ImageNet network are 1
here, and a shortcut that changes channels at stride 1 has a 1x1 convolution, as in the released code.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch.nn.functional as F
from torch import Tensor, nn

from ndrepro.training.models.blocks import conv1x1, conv3x3, global_average_pool, projection

# (expansion, out_channels, depth, stride of the first block)
STAGES = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


class InvertedResidual(nn.Module):
    """1x1 to ``expansion`` x in_channels, 3x3 on each channel, 1x1 to out_channels; a shortcut at stride 1."""

    def __init__(self, in_channels: int, out_channels: int, expansion: int, stride: int) -> None:
        super().__init__()
        width = expansion * in_channels
        self.conv1 = conv1x1(in_channels, width)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width, stride, groups=width)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = conv1x1(width, out_channels)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module | None = None
        if stride == 1:
            same = in_channels == out_channels
            self.shortcut = nn.Identity() if same else projection(in_channels, out_channels, 1)

    def branch(self, x: Tensor) -> Tensor:
        """The branch beside the shortcut: (N, in_channels, H, W) -> (N, out_channels, H / stride, W / stride)."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        return self.bn3(self.conv3(out))

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, H / stride, W / stride)."""
        out = self.branch(x)
        return out if self.shortcut is None else out + self.shortcut(x)


def inverted_residuals(
    kind: type[InvertedResidual], stages: Iterable[tuple[int, int, int, int]], channels: int = 32
) -> nn.Sequential:
    """Blocks of such a kind for (expansion, out_channels, depth, stride of the first block)."""
    blocks = []
    for expansion, out_channels, depth, stride in stages:
        for step in (stride, *[1] * (depth - 1)):
            blocks.append(kind(channels, out_channels, expansion, step))
            channels = out_channels
    return nn.Sequential(*blocks)


class MobileNetV2(nn.Module):
    """Input (N, in_channels, H, W), output (N, num_classes)."""

    def __init__(self, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, 32)
        self.bn1 = nn.BatchNorm2d(32)
        self.layers = inverted_residuals(InvertedResidual, STAGES)
        self.conv2 = conv1x1(STAGES[-1][1], 1280)
        self.bn2 = nn.BatchNorm2d(1280)
        self.linear = nn.Linear(1280, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, num_classes)."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(self.layers(out))))
        return self.linear(global_average_pool(out))
