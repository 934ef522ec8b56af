"""The networks for ImageNet are torchvision's, deconvolved where the released ones are, and start as those do."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from called_layers import never_called
from torch import nn
from torchvision import models as theirs

from ndrepro.protocol.errors import UsageError
from ndrepro.protocol.experiment.catalogue import DESIGNS
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.training.dropout_streams import Dropouts
from ndrepro.training.initialise import initialise
from ndrepro.training.layers.census import census, summary
from ndrepro.training.layers.deconv import Deconv2d, Delinear
from ndrepro.training.layers.dropout import StreamDropout
from ndrepro.training.models import IMAGENET, build
from ndrepro.training.models.released import INITIALISATION_IMAGENET, RELEASED_IMAGENET

FAST = {"block": 8, "linear_block": 64, "n_iter": 1}


def made(name: str, method: str, classes: int = 1000, **options: object) -> nn.Module:
    return build(name, method, classes, image_size=224, design="imagenet", **options)  # type: ignore[arg-type]


def shape_only(name: str, method: str) -> nn.Module:
    return on_no_device(lambda: made(name, method))


def on_no_device(make: Callable[[], nn.Module]) -> nn.Module:
    """Made without memory for its numbers."""
    with torch.device("meta"):
        return make()


def test_names_are_those_of_the_catalogue() -> None:
    assert set(IMAGENET) == set(RELEASED_IMAGENET) == set(INITIALISATION_IMAGENET) == set(DESIGNS["imagenet"])


@pytest.mark.parametrize(
    ("name", "their_name"), [("vgg11", "vgg11_bn"), ("resnet18", "resnet18"), ("densenet121", "densenet121")]
)
def test_with_batch_norm_it_is_torchvisions_own(name: str, their_name: str) -> None:
    net, reference = shape_only(name, "bn"), on_no_device(getattr(theirs, their_name))
    assert {key: each.shape for key, each in net.state_dict().items()} == {
        key: each.shape for key, each in reference.state_dict().items()
    }
    kinds = [
        [
            (key, type(layer))
            for key, layer in each.named_modules()
            if not isinstance(layer, (nn.Dropout, StreamDropout))
        ]
        for each in (net, reference)
    ]
    assert kinds[0] == kinds[1]


def test_it_computes_what_torchvisions_own_does() -> None:
    net, reference = made("resnet18", "bn", 10).eval(), theirs.resnet18(num_classes=10).eval()
    reference.load_state_dict(net.state_dict())
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(net(x), reference(x))


@pytest.mark.parametrize(
    ("name", "method", "parameters", "norms"),
    [
        ("resnet18", "bn", 11_689_512, 20),  # torchvision's documentation has these for "bn" and vgg11
        ("densenet121", "bn", 7_978_856, 121),
        ("vgg11", "bn", 132_868_840, 8),
        ("vgg11", "none", 132_863_336, 0),
        ("vgg11", "nd", 132_863_336, 0),
        ("resnet18", "nd", 11_689_512 - 4_800 + 2 * 896, 3),
        ("resnet18", "nd_full", 11_689_512 - 4_800, 0),
    ],
)
def test_parameters_and_batch_norms(name: str, method: str, parameters: int, norms: int) -> None:
    counts = summary(shape_only(name, method))
    assert (counts.trainable_parameters, counts.batchnorm2d_layers) == (parameters, norms)
    assert method in ("bn", "none") or counts.conv2d_layers == counts.linear_layers == 0


def test_every_method_trades_scale_and_shift_for_a_bias() -> None:
    plain = shape_only("densenet121", "bn")
    scales = sum(2 * layer.num_features for layer in plain.modules() if isinstance(layer, nn.BatchNorm2d))
    biases = sum(layer.out_channels for layer in plain.modules() if isinstance(layer, nn.Conv2d))
    expected = summary(plain).trainable_parameters - scales + biases
    for method in ("none", "nd", "nd_full"):
        assert summary(shape_only("densenet121", method)).trainable_parameters == expected


def test_vgg11_without_batch_norm_is_torchvisions_vgg11() -> None:
    net, reference = made("vgg11", "none", 10).eval(), theirs.vgg11(num_classes=10).eval()
    ours = [each for each in net.modules() if isinstance(each, (nn.Conv2d, nn.Linear))]
    others = [each for each in reference.modules() if isinstance(each, (nn.Conv2d, nn.Linear))]
    for layer, other in zip(ours, others, strict=True):
        other.load_state_dict(layer.state_dict())
    x = torch.randn(2, 3, 48, 48)
    with torch.no_grad():
        assert torch.equal(net(x), reference(x))


def test_the_released_settings_are_in_the_layers() -> None:
    for name, first_name in (("resnet18", "conv1"), ("densenet121", "features.conv0")):
        net = made(name, "nd", 10, sampling_stride=2)
        layers = {key: layer for key, layer in net.named_modules() if isinstance(layer, Deconv2d)}
        first = layers.pop(first_name)
        assert (first.n_iter, first.freeze) == (15, True)
        assert first.sampling_stride == ((6, 6) if name == "resnet18" else (4, 4)), "fixed at 3, but in DenseNet"
        assert {(layer.n_iter, layer.freeze) for layer in layers.values()} == {(5, False)}
        (linear,) = [layer for layer in net.modules() if isinstance(layer, Delinear)]
        assert linear.block == 64
    kept = {key for key, layer in made("resnet18", "nd", 10).named_modules() if isinstance(layer, nn.BatchNorm2d)}
    assert kept == {f"layer{stage}.0.downsample.1" for stage in (2, 3, 4)}


@pytest.mark.parametrize(("name", "method"), [("resnet18", "nd"), ("densenet121", "none")])
def test_it_trains_every_parameter(name: str, method: str) -> None:
    torch.manual_seed(0)
    net = made(name, method, 10, **(FAST if method == "nd" else {}))
    net(torch.randn(2, 3, 32, 32)).square().sum().backward()
    assert all(each.grad is not None and bool(each.grad.isfinite().all()) for each in net.parameters())
    assert never_called(net, (2, 3, 32, 32)) == ()


def test_dropout_comes_from_the_stream() -> None:
    net = made("vgg11", "none", 10).train()
    assert [layer.p for layer in net.modules() if isinstance(layer, StreamDropout)] == [0.5, 0.5]
    assert not any(isinstance(layer, nn.Dropout) for layer in net.modules())
    experiment = Experiment.from_name("vgg11_none_1_imagenet")
    dropouts, x, outputs = Dropouts(net, experiment), torch.randn(2, 3, 32, 32), []
    with torch.no_grad():
        for step in (1, 1, 2):
            dropouts.seed(step)
            torch.manual_seed(torch.seed())
            outputs.append(net(x))
    assert torch.equal(outputs[0], outputs[1]) and not torch.equal(outputs[0], outputs[2])


class OneOfEach(nn.Module):
    """Every kind of layer that the networks have, small."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.deconv = nn.Conv2d(64, 32, 3), Deconv2d(64, 32, 3)
        self.linear, self.delinear = nn.Linear(512, 64), Delinear(512, 64)
        self.norm = nn.BatchNorm2d(3)


def kind(tensor: torch.Tensor, fan_in: int, fan_out: int) -> str:
    """How it was drawn."""
    values = tensor.detach()
    deviations = {
        "uniform": 1 / math.sqrt(3 * fan_in),
        "fan_in": math.sqrt(2 / fan_in),
        "fan_out": math.sqrt(2 / fan_out),
        "small": 0.01,
        "zero": 0.0,
    }
    (found,) = [name for name, each in deviations.items() if float(values.std()) == pytest.approx(each, rel=0.25)]
    bounded = float(values.abs().max()) <= 1 / math.sqrt(fan_in)
    assert bounded == (found in ("uniform", "zero", "small")), "a normal one goes further"
    return found


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # torchvision's, then what main_imagenet.py leaves of them in the deconvolving layers
        (
            "vgg11",
            {"conv": "fan_out zero", "linear": "small zero", "deconv": "fan_out zero", "delinear": "uniform uniform"},
        ),
        (
            "resnet18",
            {
                "conv": "fan_out uniform",
                "linear": "uniform uniform",
                "deconv": "fan_out uniform",
                "delinear": "uniform uniform",
            },
        ),
        (
            "densenet121",
            {
                "conv": "fan_in uniform",
                "linear": "uniform zero",
                "deconv": "uniform uniform",
                "delinear": "uniform uniform",
            },
        ),
    ],
)
def test_layers_start_as_torchvisions_and_the_released_ones(name: str, expected: dict[str, str]) -> None:
    net = OneOfEach()
    initialise(net, Experiment.from_name(f"{name}_nd_1_imagenet"))
    found = {}
    for key in expected:
        layer = getattr(net, key)
        fan_in, fan_out = layer.weight[0].numel(), layer.weight.numel() // layer.weight.shape[1]
        found[key] = f"{kind(layer.weight, fan_in, fan_out)} {kind(layer.bias, fan_in, fan_out)}"
    assert found == expected
    assert bool((net.norm.weight == 1).all()) and not net.norm.bias.any()


def test_grey_images_and_other_networks_are_refused() -> None:
    with pytest.raises(UsageError, match="expected 3"):
        build("resnet18", "bn", 10, in_channels=1, design="imagenet")
    with pytest.raises(UsageError, match="unknown network 'vgg16'"):
        made("vgg16", "bn")


def test_on_whole_crops_the_census_ends_at_the_classes() -> None:
    assert census(made("resnet18", "nd"), (2, 3, 224, 224))[-1].output_shape == (2, 1000)
