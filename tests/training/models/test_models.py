"""Building a network by name: methods, sizes, refusals."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ndrepro.spec.catalogue import ARCHITECTURES
from ndrepro.spec.catalogue import METHODS as NAMED_METHODS
from ndrepro.spec.errors import UsageError
from ndrepro.training.layers.census import census, summary
from ndrepro.training.layers.deconv import Deconv2d
from ndrepro.training.models import METHODS, NETWORKS, build
from ndrepro.training.models.released import INITIALISATION, RELEASED

SMALL = ("vgg16", "resnet18", "resnet18d")


def test_methods_are_those_of_the_catalogue() -> None:
    assert set(METHODS) == set(NAMED_METHODS)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", SMALL)
def test_every_method_trains(name: str, method: str) -> None:
    torch.manual_seed(0)
    options = {"block": 8, "linear_block": 64} if method.startswith("nd") else {}  # small blocks are fast
    net = build(name, method, 10, **options)
    output = net(torch.randn(4, 3, 32, 32))
    assert output.shape == (4, 10)
    output.square().sum().backward()
    assert all(each.grad is not None and each.grad.isfinite().all() for each in net.parameters())


@pytest.mark.parametrize("name", SMALL)
def test_in_full_nothing_but_deconvolutions_is_left(name: str) -> None:
    counts = summary(build(name, "nd_full", 10))
    assert counts.conv2d_layers == counts.batchnorm2d_layers == counts.linear_layers == 0
    assert counts.deconv2d_layers == summary(build(name, "nd", 10)).deconv2d_layers


def test_none_has_no_norm_and_a_bias_everywhere() -> None:
    net = build("resnet18", "none", 10)
    counts = summary(net)
    assert (counts.conv2d_layers, counts.batchnorm2d_layers, counts.deconv2d_layers) == (20, 0, 0)
    assert all(layer.bias is not None for layer in net.modules() if isinstance(layer, nn.Conv2d))
    assert counts.trainable_parameters == summary(build("resnet18", "nd", 10)).trainable_parameters


def test_settings_reach_every_layer_but_those_that_the_released_code_fixes() -> None:
    net = build(
        "resnet18d", "nd", 10, block=32, linear_block=128, n_iter=7, eps=1e-4, momentum=0.2, sampling_stride=2
    )
    first, second, *_ = (layer for layer in net.modules() if isinstance(layer, Deconv2d))
    assert (first.n_iter, first.freeze, first.sampling_stride) == (15, True, (6, 6))
    assert (second.block, second.n_iter, second.freeze, second.sampling_stride) == (32, 7, False, (2, 2))
    assert (second.eps, second.momentum) == (1e-4, 0.2)
    assert (net.linear.block, net.linear.n_iter, net.linear.eps) == (128, 7, 1e-4)


@pytest.mark.parametrize(
    ("name", "channels", "size"), [("resnet18", 1, 28), ("vgg16", 1, 40), ("resnet18d", 3, 64)]
)
def test_other_channels_and_sizes(name: str, channels: int, size: int) -> None:
    net = build(name, "nd", 10, in_channels=channels, image_size=size)
    rows = census(net, (2, channels, size, size))
    assert rows[0].in_channels_or_features == channels and rows[-1].output_shape == (2, 10)


def test_vgg_refuses_images_that_leave_no_or_many_positions() -> None:
    for size in (28, 64):
        with pytest.raises(UsageError, match=f"{size}x{size} pixels, expected 32 to 63"):
            build("vgg16", "bn", 10, image_size=size)


def test_an_unknown_network_or_method_gets_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown network 'resnet81'") as caught:
        build("resnet81", "bn", 10)
    assert "resnet18" in caught.value.cure
    with pytest.raises(UsageError, match="unknown method 'nd_ful'") as caught:
        build("resnet18", "nd_ful", 10)
    assert "nd_full" in caught.value.cure
    with pytest.raises(UsageError, match="num_classes=0"):
        build("resnet18", "nd", 0)


def test_every_network_has_its_row_of_facts() -> None:
    assert set(NETWORKS) <= set(RELEASED) == set(INITIALISATION) == set(ARCHITECTURES)
