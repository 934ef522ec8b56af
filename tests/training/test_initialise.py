"""First weights follow the released rules, are the same for both methods, and change one name, one seed at a time."""

import math

import pytest
import torch

from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.training import models
from ndrepro.training.initialise import initialise


def started(name: str, **settings: str) -> dict[str, torch.Tensor]:
    experiment = Experiment.from_name(name, settings)
    net = models.build(experiment.arch, experiment.method, 10)
    torch.manual_seed(torch.seed())  # PyTorch's own generator has no say
    initialise(net, experiment)
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def test_the_same_experiment_starts_with_the_same_bits() -> None:
    first, second, other = started("vgg16_nd_1"), started("vgg16_nd_1"), started("vgg16_nd_1", **{"seeds.init": "1"})
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first if name.endswith("weight"))


def test_both_methods_start_with_the_same_convolutions() -> None:
    bn, nd = started("resnet18_bn_1"), started("resnet18_nd_1")
    shared = [name for name in bn if name in nd and nd[name].shape == bn[name].shape and bn[name].dim() == 4]
    assert len(shared) == 20
    assert all(torch.equal(bn[name], nd[name]) for name in shared)


def test_default_is_uniform_within_one_over_the_root_of_fan_in() -> None:
    weight = started("vgg16_bn_1")["features.3.weight"]
    bound = 1 / math.sqrt(weight[0].numel())
    assert bound * 0.999 < float(weight.abs().max()) <= bound
    assert float(weight.std()) == pytest.approx(bound / math.sqrt(3), rel=0.02)


def test_imagenet_resnets_convolutions_are_normal_by_fan_out() -> None:
    state = started("resnet18d_nd_1")
    weight = state["layer4.1.conv2.weight"]
    assert float(weight.std()) == pytest.approx(math.sqrt(2 / (512 * 9)), rel=0.02)
    assert float(weight.abs().max()) > 4 * float(weight.std()), "no uniform reaches that far"


def test_batch_norms_start_at_one_and_zero() -> None:
    state = started("resnet18d_bn_1")
    assert bool((state["bn1.weight"] == 1).all()) and bool((state["bn1.bias"] == 0).all())
    assert bool((state["bn1.running_var"] == 1).all())


def test_a_layer_that_no_rule_covers_is_refused() -> None:
    net = torch.nn.Sequential(torch.nn.PReLU())
    with pytest.raises(TypeError, match="PReLU"):
        initialise(net, Experiment.from_name("vgg16_bn_1"))
