"""A network after EfficientNet-B0 (Tan and Le, ICML 2019) for 32x32 images, as the released code has it.

Not the paper's: ReLU in place of swish, 3x3 kernels only, a squeeze after the narrowing convolution, no last
1x1 convolution, no dropout or stochastic depth. A block of stride 2 has no shortcut and adds its own output
instead.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ndrepro.training.models.blocks import SqueezeExcitation, conv3x3, global_average_pool
from ndrepro.training.models.mobilenetv2 import InvertedResidual, inverted_residuals

# (expansion, out_channels, depth, stride of the first block)
STAGES = ((1, 16, 1, 2), (6, 24, 2, 1), (6, 40, 2, 2), (6, 80, 3, 2), (6, 112, 3, 1), (6, 192, 4, 2), (6, 320, 1, 2))


class SqueezedInvertedResidual(InvertedResidual):
    """An inverted residual whose branch is weighted by squeeze and excitation; at stride 2 it adds itself."""

    def __init__(self, in_channels: int, out_channels: int, expansion: int, stride: int) -> None:
        super().__init__(in_channels, out_channels, expansion, stride)
        self.excitation = SqueezeExcitation(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, H / stride, W / stride)."""
        out = self.branch(x)
        shortcut = out if self.shortcut is None else self.shortcut(x)
        return self.excitation(out) + shortcut


class EfficientNet(nn.Module):
    """Input (N, in_channels, H, W), output (N, num_classes)."""

    def __init__(self, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, 32)
        self.bn1 = nn.BatchNorm2d(32)
        self.layers = inverted_residuals(SqueezedInvertedResidual, STAGES)
        self.linear = nn.Linear(STAGES[-1][1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, num_classes). 32x32 images leave one position to pool over."""
        out = F.relu(self.bn1(self.conv1(x)))
        return self.linear(global_average_pool(self.layers(out)))
