"""VGG for 32x32 images (Simonyan and Zisserman, ICLR 2015): the convolutions of the paper, one linear layer.

Five max-pools leave one position; the ImageNet network's three wide linear layers are replaced by a single
one, as is usual on CIFAR and as the study has it. Batch norm after every convolution.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ndrepro.protocol.errors import UsageError
from ndrepro.training.models.max_pool import MaxPool2d

# channels of the convolutions between one max-pool and the next
STAGES = {
    "vgg11": ((64,), (128,), (256, 256), (512, 512), (512, 512)),
    "vgg16": ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)),
    "vgg19": ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4),
}


class VGG(nn.Module):
    """Input (N, in_channels, S, S) with S from 32 to 63, output (N, num_classes)."""

    def __init__(
        self, stages: tuple[tuple[int, ...], ...], num_classes: int, in_channels: int = 3, image_size: int = 32
    ) -> None:
        super().__init__()
        if image_size >> len(stages) != 1:
            low, high = 1 << len(stages), (2 << len(stages)) - 1
            raise UsageError(
                f"VGG: images of {image_size}x{image_size} pixels, expected {low} to {high}",
                f"resize the images to {low}x{low}, or choose a network that pools over any size",
            )
        layers: list[nn.Module] = []
        channels = in_channels
        for stage in stages:
            for width in stage:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
                channels = width
            layers.append(MaxPool2d(2, 2))
        layers.append(nn.AvgPool2d(1, 1))  # changes nothing; the released network has it
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, S, S) -> (N, num_classes)."""
        return self.classifier(torch.flatten(self.features(x), 1))
