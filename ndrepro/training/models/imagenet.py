"""The networks for ImageNet, torchvision's own: VGG-11 with batch norm, ResNet-18, DenseNet-121.

They are made without torchvision's random start, which is drawn elsewhere, and their dropout layers take their
numbers from the stream "dropout". VGG-11 without batch norm is this one under the method "none": the same layers,
numbered as those of torchvision's ``vgg11_bn``.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from ndrepro.protocol.errors import UsageError
from ndrepro.training.layers.dropout import StreamDropout
from ndrepro.training.layers.rewrite import exchange

_NAMES: dict[str, tuple[str, dict[str, Any]]] = {
    "vgg11": ("vgg11_bn", {"init_weights": False}),
    "resnet18": ("resnet18", {}),
    "densenet121": ("densenet121", {}),
}


def imagenet_network(name: str, num_classes: int, in_channels: int) -> nn.Module:
    """torchvision's network: input (N, 3, S, S), output (N, num_classes). Raises UsageError for grey images."""
    if in_channels != 3:
        raise UsageError(f"{name} for ImageNet: images of {in_channels} channels, expected 3")
    from torchvision import models

    function, options = _NAMES[name]
    net: nn.Module = getattr(models, function)(weights=None, num_classes=num_classes, **options)
    exchange(net, lambda child: StreamDropout(child.p) if isinstance(child, nn.Dropout) else None)
    return net
