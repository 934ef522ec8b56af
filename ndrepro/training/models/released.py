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
class Recipe:
    """One network. ``first`` is its first convolution; ``keep`` names what ``nd`` leaves as ``bn`` has it."""

    first: First | None
    keep: tuple[str, ...] = ()
    overrides: Mapping[str, Override] = field(default_factory=dict)


# the input channels of MobileNetV2's blocks, in which its last, narrowing convolutions are whitened
_MOBILENETV2_INPUTS = (32, 16, 24, 24, 32, 32, 32, 64, 64, 64, 64, 96, 96, 96, 160, 160, 160)

RELEASED: dict[str, Recipe] = {
    "vgg11": Recipe(First(15)),
    "vgg16": Recipe(First(15)),
    "vgg19": Recipe(First(15)),
    "resnet18": Recipe(None),  # the first layer as any other: 5 steps, never frozen
    "resnet101": Recipe(None),
    "resnet18d": Recipe(
        First(15),
        keep=("layer?.0.shortcut.1",),  # the three batch norms after a 1x1 shortcut
        overrides={"conv1": Override(sampling_stride=3)},  # fixed there, whatever is asked for
    ),
    "preact18": Recipe(First(10)),
    "preact101": Recipe(First(10)),
    "densenet121": Recipe(None),
    "densenet201": Recipe(None),
    "resnext29": Recipe(First(10), overrides={"layer?.?.conv2": Override(n_iter=3)}),
    "mobilenetv2": Recipe(
        First(10),
        overrides={
            "layers.*.conv2": Override(n_iter=1),
            **{f"layers.{i}.conv3": Override(block, 1) for i, block in enumerate(_MOBILENETV2_INPUTS)},
        },
    ),
    "dpn92": Recipe(First(10)),
    "pnasnet18": Recipe(First(10)),
    "senet18": Recipe(First(15)),
    "efficientnet": Recipe(First(10), keep=("layers",)),  # only the first convolution is deconvolved
    "lenet": Recipe(First(15)),
    "small_inception": Recipe(First(15)),
    "small_alexnet": Recipe(First(15)),
    "mlp512": Recipe(None),  # no convolution
}

# How parameters start, by rule:
#   default          PyTorch's: weights of convolutions and linear layers uniform in +-1/sqrt(fan_in) (He et
#                    al. with a = sqrt 5), their biases likewise; batch norms 1 and 0
#   imagenet_resnet  as default, but weights of Conv2d and Deconv2d normal with standard deviation
#                    sqrt(2 / (out_channels x kernel area)): kaiming_normal, fan_out. Biases and the linear
#                    layer as default; no batch norm starts at zero (zero_init_residual is off)
INITIALISATION: dict[str, str] = {
    **{name: "default" for name in RELEASED},
    "resnet18d": "imagenet_resnet",
}
