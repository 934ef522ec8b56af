"""What the released code deconvolves in each network, and how: facts read off it, in one table.

The paper describes one recipe: every convolution deconvolved, no batch norm left. The released networks
differ from it one by one, and the published numbers are theirs. ``RELEASED`` holds the differences, for
``nd``; ``nd_full`` takes the same table without ``keep``, so that every convolution is deconvolved and no
batch norm is left.

Sources: github.com/yechengxi/deconvolution (Ye et al., ICLR 2020) and its replication, whose network files
are the same. The released code has no LeNet, nor the networks of Zhang et al.; their rows are what most others do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ndrepro.training.layers.convert import First, Override

# The study's --block-fc. The blocks that it measured under follow from it: 512 itself, the features where
# there are fewer (efficientnet 320, pnasnet18 176), or the greatest common divisor (256 of mobilenetv2's
# 1280).
LINEAR_BLOCK = 512


@dataclass(frozen=True)
class ReleasedNetwork:
    """One network. ``first`` is its first convolution; ``keep`` names what ``nd`` leaves as ``bn`` has it.

    ``linear_block`` is the block of the linear layers.
    """

    first: First | None
    keep: tuple[str, ...] = ()
    overrides: Mapping[str, Override] = field(default_factory=dict)
    linear_block: int = LINEAR_BLOCK


# of a network that the released code does not have
OWN = ReleasedNetwork(First())
# the input channels of MobileNetV2's blocks, in which its last, narrowing convolutions are whitened
_MOBILENETV2_INPUTS = (32, 16, 24, 24, 32, 32, 32, 64, 64, 64, 64, 96, 96, 96, 160, 160, 160)

RELEASED: dict[str, ReleasedNetwork] = {
    "vgg11": ReleasedNetwork(First(15)),
    "vgg16": ReleasedNetwork(First(15)),
    "vgg19": ReleasedNetwork(First(15)),
    "resnet18": ReleasedNetwork(None),  # the first layer as any other: 5 steps, never frozen
    "resnet101": ReleasedNetwork(None),
    "resnet18d": ReleasedNetwork(
        First(15),
        keep=("layer?.0.shortcut.1",),  # the three batch norms after a 1x1 shortcut
        overrides={"conv1": Override(sampling_stride=3)},  # fixed there, whatever is asked for
    ),
    "preact18": ReleasedNetwork(First(10)),
    "preact101": ReleasedNetwork(First(10)),
    "densenet121": ReleasedNetwork(None),
    "densenet201": ReleasedNetwork(None),
    "resnext29": ReleasedNetwork(First(10), overrides={"layer?.?.conv2": Override(n_iter=3)}),
    "mobilenetv2": ReleasedNetwork(
        First(10),
        overrides={
            "layers.*.conv2": Override(n_iter=1),
            **{f"layers.{i}.conv3": Override(block, 1) for i, block in enumerate(_MOBILENETV2_INPUTS)},
        },
    ),
    "dpn92": ReleasedNetwork(First(10)),
    "pnasnet18": ReleasedNetwork(First(10)),
    "senet18": ReleasedNetwork(First(15)),
    "efficientnet": ReleasedNetwork(First(10), keep=("layers",)),  # only the first convolution is deconvolved
    "lenet": ReleasedNetwork(First(15)),
    "small_inception": ReleasedNetwork(First(15)),
    "small_alexnet": ReleasedNetwork(First(15)),
    "mlp512": ReleasedNetwork(None),  # no convolution
}

# The networks for ImageNet (its main_imagenet.py: --block-fc 64, the first layer's sampling stride fixed but in
# DenseNet, the batch norms after ResNet's 1x1 shortcuts kept).
RELEASED_IMAGENET: dict[str, ReleasedNetwork] = {
    "vgg11": ReleasedNetwork(First(15), overrides={"features.0": Override(sampling_stride=3)}, linear_block=64),
    "resnet18": ReleasedNetwork(
        First(15), keep=("layer?.0.downsample.1",), overrides={"conv1": Override(sampling_stride=3)}, linear_block=64
    ),
    "densenet121": ReleasedNetwork(First(15), linear_block=64),
}

# How parameters start, by rule and kind of layer: (weight, bias), each one of
#   uniform  PyTorch's own: uniform in +-1/sqrt(fan_in) (He et al. with a = sqrt 5)
#   fan_out  normal with standard deviation sqrt(2 / (out_channels x kernel area)) (He et al. 2015)
#   fan_in   normal with standard deviation sqrt(2 / (in_channels x kernel area))
#   small    normal with standard deviation 0.01
#   zero     zero
# What a rule does not name is uniform in both; batch norms start at 1 and 0, none of them at zero
# (zero_init_residual is off). The rules for ImageNet are torchvision's for the networks with batch norm; the released
# networks follow them in their convolutions but for DenseNet, and leave their linear layers uniform.
STARTS: dict[str, Mapping[str, tuple[str, str]]] = {
    "default": {},
    "imagenet_resnet": {"Conv2d": ("fan_out", "uniform"), "Deconv2d": ("fan_out", "uniform")},
    "imagenet_vgg": {"Conv2d": ("fan_out", "zero"), "Deconv2d": ("fan_out", "zero"), "Linear": ("small", "zero")},
    "imagenet_densenet": {"Conv2d": ("fan_in", "uniform"), "Linear": ("uniform", "zero")},
}
INITIALISATION: dict[str, str] = {**{name: "default" for name in RELEASED}, "resnet18d": "imagenet_resnet"}
INITIALISATION_IMAGENET: dict[str, str] = {
    "vgg11": "imagenet_vgg",
    "resnet18": "imagenet_resnet",
    "densenet121": "imagenet_densenet",
}
