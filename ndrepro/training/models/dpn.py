"""DPN-92 for 32x32 images (Chen et al., Dual Path Networks, NIPS 2017).

Each block adds some channels to what came before (the residual path) and appends others to it (the dense
path).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ndrepro.training.models.blocks import conv1x1, conv3x3, global_average_pool, projection


@dataclass(frozen=True)
class DpnStage:
    """``width`` of the grouped convolution, channels of the residual path, channels that each block appends."""

    width: int
    residual: int
    growth: int
    depth: int
    stride: int


DPN92 = (
    DpnStage(width=96, residual=256, growth=16, depth=3, stride=1),
    DpnStage(width=192, residual=512, growth=32, depth=4, stride=2),
    DpnStage(width=384, residual=1024, growth=24, depth=20, stride=2),
    DpnStage(width=768, residual=2048, growth=128, depth=3, stride=2),
)


class DualPathBlock(nn.Module):
    """A 3x3 convolution of 32 groups between two 1x1 ones, its output split between the two paths."""

    def __init__(self, in_channels: int, stage: DpnStage, first: bool) -> None:
        super().__init__()
        out_channels = stage.residual + stage.growth
        stride = stage.stride if first else 1
        self.residual = stage.residual
        self.conv1 = conv1x1(in_channels, stage.width)
        self.bn1 = nn.BatchNorm2d(stage.width)
        self.conv2 = conv3x3(stage.width, stage.width, stride, groups=32)
        self.bn2 = nn.BatchNorm2d(stage.width)
        self.conv3 = conv1x1(stage.width, out_channels)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.shortcut = projection(in_channels, out_channels, stride) if first else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, residual + dense so far + growth, H / stride, W / stride)."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        x = self.shortcut(x)
        added = x[:, : self.residual] + out[:, : self.residual]
        return F.relu(torch.cat([added, x[:, self.residual :], out[:, self.residual :]], 1))


class DPN(nn.Module):
    """Input (N, in_channels, H, W), output (N, num_classes)."""

    def __init__(self, stages: tuple[DpnStage, ...], num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, 64)
        self.bn1 = nn.BatchNorm2d(64)
        channels = 64
        layers = []
        for stage in stages:
            blocks = []
            for index in range(stage.depth):
                blocks.append(DualPathBlock(channels, stage, first=index == 0))
                channels = stage.residual + (index + 2) * stage.growth
            layers.append(nn.Sequential(*blocks))
        self.layers = nn.Sequential(*layers)
        self.linear = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, num_classes)."""
        out = F.relu(self.bn1(self.conv1(x)))
        return self.linear(global_average_pool(self.layers(out)))
