"""SENet-18 for 32x32 images: pre-activation blocks, their branch weighted by squeeze and excitation.

Hu, Shen and Sun, Squeeze-and-Excitation Networks, CVPR 2018, on the blocks of ``preact.py``; here the first
convolution's norm is called, with a ReLU.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ndrepro.training.models.blocks import SqueezeExcitation
from ndrepro.training.models.preact import PreActBlock, PreActResNet


class SEBlock(PreActBlock):
    """A pre-activation block whose branch is weighted by squeeze and excitation."""

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__(in_channels, width, stride)
        self.excitation = SqueezeExcitation(width)

    def weighted(self, branch: Tensor) -> Tensor:
        """(N, width, H, W), the same shape out."""
        return self.excitation(branch)


class SENet(PreActResNet):
    """Input (N, in_channels, H, W), output (N, num_classes)."""

    def __init__(self, depths: tuple[int, ...], num_classes: int, in_channels: int = 3) -> None:
        super().__init__(SEBlock, depths, num_classes, in_channels)

    def stem(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, 64, H, W)."""
        return F.relu(self.bn1(self.conv1(x)))
