"""A small network of cells like PNASNet's (Liu et al., Progressive Neural Architecture Search, ECCV 2018).

Each cell adds a 7x7 convolution of every channel by itself and a 3x3 max-pool; three times six cells, with a
cell of stride 2 between that doubles the channels. It is the released code's reduction ("A"), named pnasnet18
in the study.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ndrepro.training.models.blocks import conv1x1, conv3x3, global_average_pool
from ndrepro.training.models.max_pool import max_pool2d


class PNASCell(nn.Module):
    """Norm of a depthwise 7x7 convolution, plus a max-pool (brought to the same channels at stride 2), ReLU."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.depthwise = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 7, stride, padding=3, groups=in_channels, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.widen: nn.Module = nn.Identity()
        if stride == 2:
            self.widen = nn.Sequential(conv1x1(in_channels, out_channels), nn.BatchNorm2d(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, H / stride, W / stride)."""
        filtered = self.depthwise(x)
        pooled = self.widen(max_pool2d(x, 3, stride=self.stride, padding=1))
        return F.relu(filtered + pooled)


class PNASNet(nn.Module):
    """Input (N, in_channels, H, W), output (N, num_classes)."""

    def __init__(self, width: int, num_classes: int, in_channels: int = 3, cells: int = 6) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, width)
        self.bn1 = nn.BatchNorm2d(width)
        layers = [PNASCell(width, width, 1) for _ in range(cells)]
        for channels in (width, 2 * width):
            layers.append(PNASCell(channels, 2 * channels, 2))
            layers += [PNASCell(2 * channels, 2 * channels, 1) for _ in range(cells)]
        self.layers = nn.Sequential(*layers)
        self.linear = nn.Linear(4 * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, num_classes)."""
        out = F.relu(self.bn1(self.conv1(x)))
        return self.linear(global_average_pool(self.layers(out)))
