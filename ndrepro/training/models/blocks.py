"""Pieces that several families share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv3x3(in_channels: int, out_channels: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A 3x3 convolution that keeps the size at stride 1; no bias, a batch norm follows it."""
    return nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, groups=groups, bias=False)


def conv1x1(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """A 1x1 convolution without a bias."""
    return nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)


def projection(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """A 1x1 convolution and a batch norm, where a shortcut changes its shape."""
    return nn.Sequential(conv1x1(in_channels, out_channels, stride), nn.BatchNorm2d(out_channels))


class ResidualBlock(Protocol):
    """A residual block of ``expansion`` times ``width`` output channels."""

    expansion: int

    def __call__(self, in_channels: int, width: int, stride: int) -> nn.Module:
        """The block."""


def stages(block: ResidualBlock, depths: Sequence[int]) -> Iterator[nn.Sequential]:
    """Stages of 64, 128, 256 and 512 channels times the block's expansion; the first block of all but one halves the
    size."""
    channels = 64
    for width, depth, stride in zip((64, 128, 256, 512), depths, (1, 2, 2, 2), strict=True):
        blocks = []
        for step in (stride, *[1] * (depth - 1)):
            blocks.append(block(channels, width, step))
            channels = block.expansion * width
        yield nn.Sequential(*blocks)


def global_average_pool(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, C): the mean over all positions, whatever the image's size."""
    return torch.flatten(F.avg_pool2d(x, x.shape[-2:]), 1)


class SqueezeExcitation(nn.Module):
    """Channels weighted by what the whole image holds (Hu et al., Squeeze-and-Excitation Networks, CVPR
    2018).

    (N, C, H, W) -> (N, C, H, W): ``x * sigmoid(fc2(relu(fc1(mean(x)))))``, with C / 16 channels between.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // 16, 1)
        self.fc2 = nn.Conv2d(channels // 16, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        squeezed = F.avg_pool2d(x, x.shape[-2:])
        return x * torch.sigmoid(self.fc2(F.relu(self.fc1(squeezed))))
