"""The networks of the studies, plain, and ``build``, which gives them a method.

Each family's file holds ordinary torch networks with batch norms; none knows of deconvolution. ``build``
makes one and applies the method to it: ``bn`` leaves it as it is; ``nd`` deconvolves exactly what the
released code does (``released.py``); ``nd_full`` every convolution, leaving no batch norm; ``none`` takes the
batch norms out; ``bn_downsample`` all but those of the modules named so.

``NETWORKS``  name -> function of (num_classes, in_channels, image_size): the design "small"
``IMAGENET``  the same for the design "imagenet": torchvision's networks under their short names
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from ndrepro.protocol.errors import UsageError, suggestion
from ndrepro.protocol.experiment.catalogue import DESIGNS, METHODS
from ndrepro.training.layers.convert import deconvolve, remove_batch_norm
from ndrepro.training.layers.dropout import StreamDropout
from ndrepro.training.models.densenet import DenseNet
from ndrepro.training.models.dpn import DPN, DPN92
from ndrepro.training.models.efficientnet import EfficientNet
from ndrepro.training.models.imagenet import imagenet_network
from ndrepro.training.models.lenet import LeNet
from ndrepro.training.models.mlp import MLP
from ndrepro.training.models.mobilenetv2 import MobileNetV2
from ndrepro.training.models.pnasnet import PNASNet
from ndrepro.training.models.preact import PreActBlock, PreActBottleneck, PreActResNet
from ndrepro.training.models.released import OWN, RELEASED, RELEASED_IMAGENET, ReleasedNetwork
from ndrepro.training.models.resnet import BasicBlock, Bottleneck, ResNet
from ndrepro.training.models.resnet_imagenet import ImageNetResNet
from ndrepro.training.models.resnext import ResNeXt
from ndrepro.training.models.senet import SENet
from ndrepro.training.models.small_alexnet import SmallAlexNet
from ndrepro.training.models.small_inception import SmallInception
from ndrepro.training.models.vgg import STAGES, VGG

NETWORKS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "vgg11": lambda classes, channels, size: VGG(STAGES["vgg11"], classes, channels, size),
    "vgg16": lambda classes, channels, size: VGG(STAGES["vgg16"], classes, channels, size),
    "vgg19": lambda classes, channels, size: VGG(STAGES["vgg19"], classes, channels, size),
    "resnet18": lambda classes, channels, _: ResNet(BasicBlock, (2, 2, 2, 2), classes, channels),
    "resnet101": lambda classes, channels, _: ResNet(Bottleneck, (3, 4, 23, 3), classes, channels),
    "resnet18d": lambda classes, channels, _: ImageNetResNet(BasicBlock, (2, 2, 2, 2), classes, channels),
    "preact18": lambda classes, channels, _: PreActResNet(PreActBlock, (2, 2, 2, 2), classes, channels),
    "preact101": lambda classes, channels, _: PreActResNet(PreActBottleneck, (3, 4, 23, 3), classes, channels),
    "densenet121": lambda classes, channels, _: DenseNet((6, 12, 24, 16), 32, classes, channels),
    "densenet201": lambda classes, channels, _: DenseNet((6, 12, 48, 32), 32, classes, channels),
    "resnext29": lambda classes, channels, _: ResNeXt((3, 3, 3), 32, 4, classes, channels),
    "mobilenetv2": lambda classes, channels, _: MobileNetV2(classes, channels),
    "dpn92": lambda classes, channels, _: DPN(DPN92, classes, channels),
    "pnasnet18": lambda classes, channels, _: PNASNet(44, classes, channels),
    "senet18": lambda classes, channels, _: SENet((2, 2, 2, 2), classes, channels),
    "efficientnet": lambda classes, channels, _: EfficientNet(classes, channels),
    "lenet": lambda classes, channels, size: LeNet(classes, channels, size),
    "small_inception": lambda classes, channels, _: SmallInception(classes, channels),
    "small_alexnet": lambda classes, channels, size: SmallAlexNet(classes, channels, size),
    "mlp512": lambda classes, channels, size: MLP(512, classes, channels, size),
}


IMAGENET: dict[str, Callable[[int, int, int], nn.Module]] = {
    "vgg11": lambda classes, channels, _: imagenet_network("vgg11", classes, channels),
    "resnet18": lambda classes, channels, _: imagenet_network("resnet18", classes, channels),
    "densenet121": lambda classes, channels, _: imagenet_network("densenet121", classes, channels),
}


def build(
    name: str,
    method: str,
    num_classes: int,
    *,
    in_channels: int = 3,
    image_size: int = 32,
    design: str = "small",
    dropout: float | None = None,
    own: nn.Module | None = None,
    **options: Any,
) -> nn.Module:
    """The network ``name`` under ``method``, for images (N, in_channels, image_size, image_size).

    ``design`` is the form of it that is meant for a data set's images: "small" or "imagenet".
    ``dropout`` is the fraction that its dropout layers drop, ``None`` their own (``catalogue.NetworkVariant``).
    ``own`` is a plain network that takes the place of the one of that name, and keeps its dropout.
    ``options`` are those of ``deconvolve`` that an experiment may set: block, linear_block (``None``: what
    the released code has), eps, n_iter, momentum, sampling_stride; ``bn`` and ``none`` have no use for them.
    Parameters hold PyTorch's own start. Raises UsageError for an unknown name or method, and for images that
    the network cannot take.
    """
    plain = (
        (own, OWN) if own is not None else _plain(name, method, num_classes, in_channels, image_size, design, dropout)
    )
    return _with_method(*plain, method, **options)


def _plain(
    name: str, method: str, num_classes: int, in_channels: int, image_size: int, design: str, dropout: float | None
) -> tuple[nn.Module, ReleasedNetwork]:
    """The network before it is given ``method``, and its recipe."""
    network = _known("network", name, IMAGENET if design == "imagenet" else NETWORKS)
    if num_classes < 1 or in_channels < 1:
        raise UsageError(f"num_classes={num_classes}, in_channels={in_channels}: expected at least 1 of each")
    _known("method", method, METHODS)
    facts = DESIGNS[design][name]
    if method not in facts.methods:
        raise UsageError(f"{method} for {name}", f"methods of {name} are {', '.join(facts.methods)}")
    net = network(num_classes, in_channels, image_size)
    for layer in net.modules():
        if isinstance(layer, StreamDropout):
            layer.p = (facts.dropout or 0.0) if dropout is None else dropout
    return net, (RELEASED_IMAGENET if design == "imagenet" else RELEASED)[name]


def _with_method(
    net: nn.Module, recipe: ReleasedNetwork, method: str, *, linear_block: int | None = None, **options: Any
) -> nn.Module:
    """The plain network, given its method in place: ``nd`` and ``nd_full`` by its recipe."""
    if method in ("none", "bn_downsample"):
        remove_batch_norm(net, keep=("downsample?",) if method == "bn_downsample" else ())
    elif method != "bn":
        deconvolve(
            net,
            linear_block=recipe.linear_block if linear_block is None else linear_block,
            first=recipe.first,
            keep=recipe.keep if method == "nd" else (),
            overrides=recipe.overrides,
            **options,
        )
    return net


def _known(what: str, name: str, table: Mapping[str, Any]) -> Any:
    if name not in table:
        raise UsageError(f"unknown {what} '{name}'", suggestion(name, table))
    return table[name]
