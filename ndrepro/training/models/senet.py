"""SENet-18 for 32x32 images: pre-activation blocks, their branch weighted by squeeze and excitation.

Hu, Shen and Sun, Squeeze-and-Excitation Networks, CVPR 2018, on the blocks of ``preact.py``; here the first
convolution's norm is called, with a ReLU.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ndrepro.training.models.blocks import SqueezeExcitation, conv3x3, global_average_pool
from ndrepro.training.models.preact import PreActBlock


class SEBlock(PreActBlock):
    """A pre-activation block whose branch is weighted by squeeze and excitation."""

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__(in_channels, width, stride)
        self.excitation = SqueezeExcitation(width)

    def weighted(self, branch: Tensor) -> Tensor:
        """(N, width, H, W), the same shape out."""
        return self.excitation(branch)


class SENet(nn.Module):
    """Input (N, in_channels, H, W), output (N, num_classes)."""

    def __init__(self, depths: tuple[int, ...], num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, 64)
        self.bn1 = nn.BatchNorm2d(64)
        channels = 64
        stages = []
        for width, depth, stride in zip((64, 128, 256, 512), depths, (1, 2, 2, 2), strict=True):
            blocks = []
            for step in (stride, *[1] * (depth - 1)):
                blocks.append(SEBlock(channels, width, step))
                channels = width
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.linear = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, num_classes)."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.layer4(self.layer3(self.layer2(self.layer1(out))))
        return self.linear(global_average_pool(out))
