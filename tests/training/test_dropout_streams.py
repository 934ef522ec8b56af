"""Dropout's masks come from their own stream: the same step, the same mask; resumed or on another device alike."""

import pytest
import torch
from torch import nn

from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.training.dropout_streams import Dropouts
from ndrepro.training.layers.dropout import StreamDropout


def experiment(**settings: str) -> Experiment:
    return Experiment.from_name("small_alexnet_none_1", settings)


def masks(step: int, p: float = 0.5, **settings: str) -> list[torch.Tensor]:
    net = nn.Sequential(StreamDropout(p), nn.Identity(), StreamDropout(p))
    Dropouts(net, experiment(**settings)).seed(step)
    return [layer(torch.ones(50, 40)) for layer in (net[0], net[2])]


def test_a_step_has_its_masks_whatever_came_before() -> None:
    first, again = masks(7), masks(7)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], first[1]), "each layer its own"
    assert not torch.equal(first[0], masks(8)[0]), "each step its own"
    assert not torch.equal(first[0], masks(7, **{"seeds.dropout": "1"})[0]), "each seed its own"
    assert torch.equal(first[0], masks(7, **{"seeds.augment": "1"})[0])


@pytest.mark.parametrize("p", [0.05, 0.5, 0.9])
def test_the_fraction_is_dropped_and_the_rest_made_up_for(p: float) -> None:
    values = torch.cat([masks(step, p)[0].flatten() for step in range(25)])
    kept = values[values != 0]
    assert abs(1 - len(kept) / len(values) - p) < 0.01
    assert float((kept - 1 / (1 - p)).abs().max()) < 1e-3
    assert abs(float(values.mean()) - 1) < 0.03


def test_the_gradient_passes_where_the_number_did() -> None:
    layer = StreamDropout(0.5)
    net = nn.Sequential(layer)
    Dropouts(net, experiment()).seed(1)
    x = torch.ones(20, 20, requires_grad=True)
    y = net(x)
    y.sum().backward()
    assert x.grad is not None and torch.equal(x.grad, y.detach())


def test_evaluation_and_a_fraction_of_zero_change_nothing_and_draw_nothing() -> None:
    x = torch.randn(4, 5)
    assert StreamDropout(0.5).eval()(x) is x
    assert StreamDropout(0.0)(x) is x
    layer = StreamDropout(1.0)
    Dropouts(nn.Sequential(layer), experiment()).seed(1)
    assert not layer(x).any()


def test_without_random_numbers_it_says_so() -> None:
    with pytest.raises(RuntimeError, match="set its source"):
        StreamDropout(0.5)(torch.ones(3))
    with pytest.raises(ValueError, match=r"p=1\.5"):
        StreamDropout(1.5)
