"""Building a network by name: methods, sizes, refusals."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ndrepro.protocol.errors import UsageError
from ndrepro.protocol.experiment.catalogue import ARCHITECTURES, DESIGNS
from ndrepro.protocol.experiment.catalogue import METHODS as NAMED_METHODS
from ndrepro.training.layers.census import census, summary
from ndrepro.training.layers.deconv import Deconv2d
from ndrepro.training.models import METHODS, NETWORKS, build
from ndrepro.training.models.released import INITIALISATION, RELEASED

# one for each family's file; the others are the same code with more layers
FAMILIES = (
    "vgg16",
    "resnet18",
    "resnet18d",
    "preact18",
    "densenet121",
    "resnext29",
    "mobilenetv2",
    "dpn92",
    "pnasnet18",
    "senet18",
    "efficientnet",
    "lenet",
    "small_inception",
    "small_alexnet",
    "mlp512",
)


def test_the_numbers_that_are_counted_are_those_of_the_tensors_but_where_weights_are_frozen() -> None:
    """By which ``verify`` compares the two."""
    others = set()
    for design, networks in DESIGNS.items():
        for arch, variant in networks.items():
            for method in variant.methods:
                with torch.device("meta"):
                    net = build(arch, method, 10, image_size=variant.smallest, design=design)
                counts, tensors = summary(net), net.state_dict().values()
                if counts.trainable_parameters + counts.buffers != sum(each.numel() for each in tensors):
                    others.add((arch, method))
                    assert variant.frozen
    assert others == {("small_inception", "bn"), ("small_inception", "bn_downsample")}


def test_names_are_those_of_the_catalogue() -> None:
    assert set(METHODS) == set(NAMED_METHODS)
    assert set(NETWORKS) == set(RELEASED) == set(INITIALISATION) == set(ARCHITECTURES)


def trained_once(name: str, method: str) -> nn.Module:
    """The network after a batch of 16x16 images where it takes them; small blocks are fast."""
    torch.manual_seed(0)
    options = {"block": 8, "linear_block": 64, "n_iter": 2} if method.startswith("nd") else {}
    size = 32 if name in ("vgg16", "lenet") else 16
    net = build(name, method, 10, image_size=size, **options)
    output = net(torch.randn(4, 3, size, size))
    assert output.shape == (4, 10)
    output.square().sum().backward()
    return net


DIFFER = ("resnet18d", "efficientnet")  # nd_full is another network than nd
# more than half of the time of all: `make test-all` has them
COSTLY = ("dpn92", "densenet121", "pnasnet18", "resnext29", "efficientnet")


@pytest.mark.parametrize(
    ("name", "method"),
    [
        pytest.param(name, method, marks=[pytest.mark.slow] if name in COSTLY else [])
        for name in FAMILIES
        for method in DESIGNS["small"][name].methods
        if method != "nd_full" or name in DIFFER
    ],
)
def test_every_method_trains_every_parameter(name: str, method: str) -> None:
    net = trained_once(name, method)
    idle = {key for key, each in net.named_parameters() if each.grad is None and each.requires_grad}
    assert idle == ({"bn1.weight", "bn1.bias"} if (name, method) == ("preact18", "bn") else set())
    assert all(each.grad.isfinite().all() for each in net.parameters() if each.grad is not None)


@pytest.mark.parametrize("name", FAMILIES)
def test_in_full_nothing_but_deconvolutions_is_left(name: str) -> None:
    counts = summary(build(name, "nd_full", 10))
    plain = summary(build(name, DESIGNS["small"][name].methods[0], 10))
    assert counts.conv2d_layers == counts.batchnorm2d_layers == counts.linear_layers == 0
    assert (counts.deconv2d_layers, counts.delinear_layers) == (plain.conv2d_layers, plain.linear_layers)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_released_form_differs_from_the_full_one_in_two_networks_only(name: str) -> None:
    released, full = summary(build(name, "nd", 10)), summary(build(name, "nd_full", 10))
    assert (released != full) == (name in DIFFER)


def test_none_has_no_norm_and_a_bias_everywhere() -> None:
    net = build("resnet18", "none", 10)
    counts = summary(net)
    assert (counts.conv2d_layers, counts.batchnorm2d_layers, counts.deconv2d_layers) == (20, 0, 0)
    assert all(layer.bias is not None for layer in net.modules() if isinstance(layer, nn.Conv2d))
    assert counts.trainable_parameters == summary(build("resnet18", "nd", 10)).trainable_parameters


def test_settings_reach_every_layer_but_those_that_the_released_code_fixes() -> None:
    net = build("resnet18d", "nd", 10, block=32, linear_block=128, n_iter=7, eps=1e-4, momentum=0.2, sampling_stride=2)
    first, second, *_ = (layer for layer in net.modules() if isinstance(layer, Deconv2d))
    assert (first.n_iter, first.freeze, first.sampling_stride) == (15, True, (6, 6))
    assert (second.block, second.n_iter, second.freeze, second.sampling_stride) == (32, 7, False, (2, 2))
    assert (second.eps, second.momentum) == (1e-4, 0.2)
    assert (net.linear.block, net.linear.n_iter, net.linear.eps) == (128, 7, 1e-4)


@pytest.mark.parametrize(("name", "channels", "size"), [("resnet18", 1, 28), ("vgg16", 1, 40), ("resnet18d", 3, 64)])
def test_other_channels_and_sizes(name: str, channels: int, size: int) -> None:
    net = build(name, "nd", 10, in_channels=channels, image_size=size)
    rows = census(net, (2, channels, size, size))
    assert rows[0].in_channels_or_features == channels and rows[-1].output_shape == (2, 10)


def test_vgg_refuses_images_that_leave_no_or_many_positions() -> None:
    for size in (28, 64):
        with pytest.raises(UsageError, match=f"{size}x{size} pixels, expected 32 to 63"):
            build("vgg16", "bn", 10, image_size=size)


def test_lenet_refuses_images_that_leave_nothing() -> None:
    with pytest.raises(UsageError, match="15x15 pixels, expected at least 16x16"):
        build("lenet", "bn", 10, image_size=15)
    build("lenet", "bn", 10, image_size=16)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("vgg11", 9_231_114),
        ("vgg19", 20_040_522),
        ("resnet101", 42_512_970),
        ("preact101", 42_501_322),
        ("densenet201", 18_104_330),
        ("lenet", 62_006),
    ],
)
def test_networks_of_the_seeds_study_have_the_parameters_of_their_families(name: str, parameters: int) -> None:
    assert summary(build(name, "bn", 10)).trainable_parameters == parameters


def test_no_network_draws_random_numbers_in_training() -> None:
    for name in FAMILIES:
        modules = build(name, DESIGNS["small"][name].methods[0], 10).modules()
        assert not any(isinstance(module, nn.modules.dropout._DropoutNd) for module in modules)


def test_an_unknown_network_or_method_gets_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown network 'resnet81'") as caught:
        build("resnet81", "bn", 10)
    assert "resnet18" in caught.value.cure
    with pytest.raises(UsageError, match="unknown method 'nd_ful'") as caught:
        build("resnet18", "nd_ful", 10)
    assert "nd_full" in caught.value.cure
    with pytest.raises(UsageError, match="num_classes=0"):
        build("resnet18", "nd", 0)
