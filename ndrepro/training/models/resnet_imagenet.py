"""ResNet with the stem for ImageNet: a 7x7 convolution of stride 2, then a max-pool (He et al., CVPR 2016).

On 32x32 images the stages work on 8x8 positions down to 1x1. It is the network that the replication ran under
the name of ResNet-18, while the original's parameter count is that of ``resnet.py``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ndrepro.training.models.blocks import ResidualBlock, stages
from ndrepro.training.models.max_pool import MaxPool2d


class ImageNetResNet(nn.Module):
    """Input (N, in_channels, H, W), output (N, num_classes)."""

    def __init__(self, block: ResidualBlock, depths: tuple[int, ...], num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = MaxPool2d(3, stride=2, padding=1)
        self.layer1, self.layer2, self.layer3, self.layer4 = stages(block, depths)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.linear = nn.Linear(512 * block.expansion, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, num_classes)."""
        out = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        out = self.layer4(self.layer3(self.layer2(self.layer1(out))))
        return self.linear(torch.flatten(self.avgpool(out), 1))
