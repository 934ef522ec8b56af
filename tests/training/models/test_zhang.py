"""The networks of Zhang et al. (2017) have the parameters that its table 1 counts, and the shapes of its figure 3."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ndrepro.protocol.errors import UsageError
from ndrepro.protocol.experiment.catalogue import DESIGNS
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.training.initialise import initialise
from ndrepro.training.layers.census import census, summary
from ndrepro.training.layers.dropout import StreamDropout
from ndrepro.training.models import build
from ndrepro.training.models.small_inception import Downsample

CROP = {"image_size": 28}


@pytest.mark.parametrize(
    ("name", "method", "parameters"),
    [
        ("small_inception", "bn", 1_649_402),
        ("small_inception", "none", 1_649_402),  # "Inception w/o BatchNorm"
        ("small_alexnet", "none", 1_387_786),
        ("mlp512", "none", 1_209_866),
    ],
)
def test_parameters_are_those_of_table_1(name: str, method: str, parameters: int) -> None:
    assert summary(build(name, method, 10, **CROP)).trainable_parameters == parameters


def test_other_methods_keep_the_count() -> None:
    for method in ("bn_downsample", "nd", "nd_full"):
        assert summary(build("small_inception", method, 10, **CROP)).trainable_parameters == 1_649_402


def test_inception_has_the_shapes_of_figure_3() -> None:
    rows = [
        row for row in census(build("small_inception", "none", 10, **CROP), (2, 3, 28, 28)) if row.layer == "conv2d"
    ]
    wide = [(row.out_channels_or_features, row.output_shape[-1]) for row in rows if row.kernel == (3, 3)]
    narrow = [row.out_channels_or_features for row in rows if row.kernel == (1, 1)]
    assert wide == [
        (96, 28),
        (32, 28),
        (48, 28),
        (80, 14),
        (48, 14),
        (64, 14),
        (80, 14),
        (96, 14),
        (96, 7),
        (160, 7),
        (160, 7),
    ]
    assert narrow == [32, 32, 112, 96, 80, 48, 176, 176]


def test_batch_norm_can_be_everywhere_in_downsampling_or_nowhere() -> None:
    counts = {
        method: summary(build("small_inception", method, 10, **CROP)) for method in ("bn", "bn_downsample", "none")
    }
    assert {method: count.batchnorm2d_layers for method, count in counts.items()} == {
        "bn": 19,
        "bn_downsample": 2,
        "none": 0,
    }
    net = build("small_inception", "bn_downsample", 10, **CROP)
    inside = [module for each in net.modules() if isinstance(each, Downsample) for module in each.modules()]
    assert sum(isinstance(module, nn.BatchNorm2d) for module in inside) == 2
    assert all((layer.bias is None) == (layer in inside) for layer in net.modules() if isinstance(layer, nn.Conv2d))


def test_the_norms_shift_and_do_not_scale_even_after_training() -> None:
    net = build("small_inception", "bn", 10, **CROP)
    initialise(net, Experiment.from_name("small_inception_bn_1"))
    norms = [layer for layer in net.modules() if isinstance(layer, nn.BatchNorm2d)]
    net(torch.randn(4, 3, 28, 28)).square().sum().backward()
    assert all(norm.weight.grad is None and bool((norm.weight == 1).all()) for norm in norms)
    assert all(norm.bias.grad is not None for norm in norms), "the control"


def test_local_response_norm_is_that_of_the_tutorial() -> None:
    norm = build("small_alexnet", "none", 10, **CROP).norm
    x = torch.rand(1, 64, 2, 2, dtype=torch.float64) * 50
    squares = torch.nn.functional.pad(x.square(), (0, 0, 0, 0, 4, 4))
    around = torch.stack([squares[:, first : first + 64] for first in range(9)]).sum(0)
    torch.testing.assert_close(norm(x), x / (1 + 0.001 / 9 * around) ** 0.75)


@pytest.mark.parametrize("size", [8, 9, 27, 28, 29, 31, 32])
def test_alexnet_takes_even_and_odd_sizes(size: int) -> None:
    net = build("small_alexnet", "nd", 10, image_size=size, block=4, n_iter=1)
    assert net(torch.randn(2, 3, size, size)).shape == (2, 10)


def test_a_network_without_batch_norm_refuses_it() -> None:
    for name, method in (("mlp512", "bn"), ("small_alexnet", "bn_downsample"), ("resnet18", "bn_downsample")):
        with pytest.raises(UsageError, match=f"{method} for {name}"):
            build(name, method, 10)


def test_dropout_is_off_unless_asked_for() -> None:
    for name, layers in (("small_inception", 1), ("small_alexnet", 2), ("mlp512", 1)):
        for asked, expected in ((None, 0.0), (0.05, 0.05)):
            found = [
                each.p
                for each in build(name, "none", 10, dropout=asked, **CROP).modules()
                if isinstance(each, StreamDropout)
            ]
            assert found == [expected] * layers


@pytest.mark.parametrize("name", ["vgg11", "densenet121", "lenet", "small_alexnet", "resnet18d", "pnasnet18"])
def test_what_the_catalogue_says_of_sizes_is_so(name: str) -> None:
    facts = DESIGNS["small"][name]
    net = build(name, facts.methods[0], 10, image_size=facts.smallest)
    assert net(torch.randn(2, 3, facts.smallest, facts.smallest)).shape == (2, 10)
    if facts.smallest > 1:
        with pytest.raises((UsageError, RuntimeError)):
            size = facts.smallest - 1
            build(name, facts.methods[0], 10, image_size=size)(torch.randn(2, 3, size, size))
    if facts.largest is not None:
        build(name, facts.methods[0], 10, image_size=facts.largest)
        with pytest.raises(UsageError):
            build(name, facts.methods[0], 10, image_size=facts.largest + 1)
