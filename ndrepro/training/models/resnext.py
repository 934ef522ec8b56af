"""ResNeXt-29 (32x4d) for 32x32 images (Xie et al., Aggregated Residual Transformations, CVPR 2017).

A bottleneck whose 3x3 convolution has 32 groups; three stages whose groups are 4, 8 and 16 channels wide. As
in the released code the first convolution is 1x1.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ndrepro.training.models.blocks import conv1x1, global_average_pool
from ndrepro.training.models.resnet import Bottleneck


class GroupedBlock(Bottleneck):
    """A bottleneck whose 3x3 convolution has ``cardinality`` groups; gives 2 x ``width`` channels."""

    expansion = 2

    def __init__(self, in_channels: int, width: int, stride: int, cardinality: int) -> None:
        super().__init__(in_channels, width, stride, groups=cardinality)


class ResNeXt(nn.Module):
    """Input (N, in_channels, H, W), output (N, num_classes)."""

    def __init__(
        self, depths: tuple[int, int, int], cardinality: int, group_width: int, num_classes: int, in_channels: int = 3
    ) -> None:
        super().__init__()
        self.conv1 = conv1x1(in_channels, 64)
        self.bn1 = nn.BatchNorm2d(64)
        channels = 64
        stages = []
        for index, depth in enumerate(depths):
            width = cardinality * group_width << index
            blocks = []
            for step in (2 if index else 1, *[1] * (depth - 1)):
                blocks.append(GroupedBlock(channels, width, step, cardinality))
                channels = GroupedBlock.expansion * width
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3 = stages
        self.linear = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, num_classes)."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.layer3(self.layer2(self.layer1(out)))
        return self.linear(global_average_pool(out))
