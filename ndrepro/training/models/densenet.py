"""DenseNet for 32x32 images (Huang et al., Densely Connected Convolutional Networks, CVPR 2017).

Every layer adds ``growth`` channels to all that came before it; between two dense blocks a transition halves
the channels and the size. The bottleneck variant with compression 1/2 (DenseNet-BC), a 3x3 first convolution.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ndrepro.training.models.blocks import conv1x1, conv3x3, global_average_pool


class DenseLayer(nn.Module):
    """A 1x1 convolution to 4 x growth channels, then a 3x3 one; its output is put before its input."""

    def __init__(self, in_channels: int, growth: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = conv1x1(in_channels, 4 * growth)
        self.bn2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = conv3x3(4 * growth, growth)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, growth + C, H, W)."""
        out = self.conv1(F.relu(self.bn1(x)))
        out = self.conv2(F.relu(self.bn2(out)))
        return torch.cat([out, x], 1)


class Transition(nn.Module):
    """Half the channels by a 1x1 convolution, half the size by an average pool."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(in_channels)
        self.conv = conv1x1(in_channels, in_channels // 2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C / 2, H / 2, W / 2)."""
        return F.avg_pool2d(self.conv(F.relu(self.bn(x))), 2)


class DenseNet(nn.Module):
    """Input (N, in_channels, H, W), output (N, num_classes)."""

    def __init__(self, depths: tuple[int, ...], growth: int, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        channels = 2 * growth
        self.conv1 = conv3x3(in_channels, channels)
        stages: list[nn.Module] = []
        for depth in depths:
            if stages:
                stages.append(Transition(channels))
                channels //= 2
            stages.append(nn.Sequential(*(DenseLayer(channels + i * growth, growth) for i in range(depth))))
            channels += depth * growth
        self.stages = nn.Sequential(*stages)  # dense block, transition, dense block, ...
        self.bn = nn.BatchNorm2d(channels)
        self.linear = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, num_classes)."""
        out = F.relu(self.bn(self.stages(self.conv1(x))))
        return self.linear(global_average_pool(out))
