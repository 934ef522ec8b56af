"""Pre-activation ResNet for 32x32 images (He et al., Identity Mappings in Deep Residual Networks, ECCV 2016).

Batch norm and ReLU stand before each convolution, and the sum of branch and shortcut passes on as it is. As
in the released code the network ends without a last norm, and the norm after the first convolution is
registered but never called: its parameters count, and never change.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ndrepro.training.models.blocks import ResidualBlock, conv1x1, conv3x3, global_average_pool, stages


class PreActBlock(nn.Module):
    """Two 3x3 convolutions, each after norm and ReLU; gives ``width`` channels."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = conv3x3(in_channels, width, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width)
        keeps_shape = stride == 1 and in_channels == width
        self.shortcut = None if keeps_shape else conv1x1(in_channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, width, H / stride, W / stride)."""
        out = F.relu(self.bn1(x))
        shortcut = x if self.shortcut is None else self.shortcut(out)
        out = self.conv1(out)
        out = self.conv2(F.relu(self.bn2(out)))
        return self.weighted(out) + shortcut

    def weighted(self, branch: Tensor) -> Tensor:
        """The branch as it is added to the shortcut."""
        return branch


class PreActBottleneck(nn.Module):
    """A 3x3 convolution between two 1x1 ones, each after norm and ReLU; gives 4 x ``width`` channels."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        out_channels = self.expansion * width
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = conv1x1(in_channels, width)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width, stride)
        self.bn3 = nn.BatchNorm2d(width)
        self.conv3 = conv1x1(width, out_channels)
        keeps_shape = stride == 1 and in_channels == out_channels
        self.shortcut = None if keeps_shape else conv1x1(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, 4 width, H / stride, W / stride)."""
        out = F.relu(self.bn1(x))
        shortcut = x if self.shortcut is None else self.shortcut(out)
        out = self.conv1(out)
        out = self.conv2(F.relu(self.bn2(out)))
        out = self.conv3(F.relu(self.bn3(out)))
        return out + shortcut


class PreActResNet(nn.Module):
    """Input (N, in_channels, H, W), output (N, num_classes)."""

    def __init__(self, block: ResidualBlock, depths: tuple[int, ...], num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, 64)
        self.bn1 = nn.BatchNorm2d(64)  # never called, see above
        self.layer1, self.layer2, self.layer3, self.layer4 = stages(block, depths)
        self.linear = nn.Linear(512 * block.expansion, num_classes)

    def stem(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, 64, H, W)."""
        return self.conv1(x)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, num_classes)."""
        out = self.layer4(self.layer3(self.layer2(self.layer1(self.stem(x)))))
        return self.linear(global_average_pool(out))
