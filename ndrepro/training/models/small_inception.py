"""The small Inception network of Zhang et al. (ICLR 2017), "Understanding deep learning requires rethinking
generalization": appendix A, figure 3, for crops of 28x28.

    conv 96 | inception 32+32, 32+48 | downsample 80 | inception 112+48, 96+64, 80+80, 48+96 | downsample 96 |
    inception 176+160, 176+160 | mean over all positions | linear

Table 1 counts 1,649,402 parameters, with batch norm and without: exactly one number a channel beside the weights. So
the batch norms shift and do not scale, and a convolution without one has a bias.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ndrepro.training.layers.dropout import StreamDropout
from ndrepro.training.models.blocks import global_average_pool
from ndrepro.training.models.max_pool import max_pool2d


class ConvModule(nn.Module):
    """Convolution, batch norm, ReLU; the size is kept at stride 1 and halved at stride 2."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)
        self.bn.weight.requires_grad_(False)  # no scale, see above: it stays 1

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, H / stride, W / stride)."""
        return F.relu(self.bn(self.conv(x)))


class Inception(nn.Module):
    """A 1x1 and a 3x3 convolution side by side, their channels one after the other."""

    def __init__(self, in_channels: int, narrow: int, wide: int) -> None:
        super().__init__()
        self.narrow = ConvModule(in_channels, narrow, 1)
        self.wide = ConvModule(in_channels, wide, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, narrow + wide, H, W)."""
        return torch.cat([self.narrow(x), self.wide(x)], 1)


class Downsample(nn.Module):
    """A 3x3 convolution and a 3x3 max-pool, both of stride 2, side by side."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.wide = ConvModule(in_channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, channels + in_channels, H / 2, W / 2)."""
        return torch.cat([self.wide(x), max_pool2d(x, 3, stride=2, padding=1)], 1)


# channels of the 1x1 and 3x3 convolutions of the inception modules between one downsample module and the next
STAGES = (((32, 32), (32, 48)), ((112, 48), (96, 64), (80, 80), (48, 96)), ((176, 160), (176, 160)))
DOWNSAMPLE = (80, 96)


def _stage(channels: int, widths: tuple[tuple[int, int], ...]) -> tuple[nn.Sequential, int]:
    """Inception modules one after the other, and the number of their output channels."""
    blocks = []
    for narrow, wide in widths:
        blocks.append(Inception(channels, narrow, wide))
        channels = narrow + wide
    return nn.Sequential(*blocks), channels


class SmallInception(nn.Module):
    """Input (N, in_channels, S, S), output (N, num_classes). Dropout, where asked for, precedes the linear layer."""

    def __init__(self, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        self.conv1 = ConvModule(in_channels, 96, 3)
        self.stage1, channels = _stage(96, STAGES[0])
        self.downsample1 = Downsample(channels, DOWNSAMPLE[0])
        self.stage2, channels = _stage(channels + DOWNSAMPLE[0], STAGES[1])
        self.downsample2 = Downsample(channels, DOWNSAMPLE[1])
        self.stage3, channels = _stage(channels + DOWNSAMPLE[1], STAGES[2])
        self.dropout = StreamDropout()
        self.linear = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, S, S) -> (N, num_classes)."""
        out = self.downsample1(self.stage1(self.conv1(x)))
        out = self.stage3(self.downsample2(self.stage2(out)))
        return self.linear(self.dropout(global_average_pool(out)))
