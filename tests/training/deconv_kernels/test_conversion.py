"""``ndrepro.deconvolve`` gives fast layers, the reference's where asked, and the same function with both."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import ndrepro
from ndrepro.protocol.errors import NonFiniteStatistics, UsageError
from ndrepro.training.deconv_kernels.kernels import FastKernel, finite_check_of
from ndrepro.training.layers.deconv import Deconv2d


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.Flatten(), nn.Linear(64, 5)
    return nn.Sequential(*layers).double()


def test_both_kernels_train_alike_and_convert_alike() -> None:
    fast, reference = network(), network()
    conversions = ndrepro.deconvolve(fast), ndrepro.deconvolve(reference, kernel="reference")
    assert conversions[0] == conversions[1] and str(conversions[0]).startswith("3 replaced, 1 removed")
    assert all(isinstance(layer.kernel, FastKernel) for layer in fast if isinstance(layer, Deconv2d))
    assert all(layer.kernel is None for layer in reference if isinstance(layer, Deconv2d))
    images = torch.randn(9, 3, 6, 6, dtype=torch.float64)
    for net in (fast, reference):
        net(images).square().sum().backward()
    for one, other in zip(fast.parameters(), reference.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, rtol=1e-9, atol=1e-10)
    assert torch.allclose(copy.deepcopy(fast).eval()(images), reference.eval()(images), rtol=1e-9, atol=1e-10)


def test_another_kernel_is_refused_and_nothing_is_changed() -> None:
    net = network()
    with pytest.raises(UsageError, match="kernel='fastest', expected fast or reference"):
        ndrepro.deconvolve(net, kernel="fastest")
    assert isinstance(net[0], nn.Conv2d) and not isinstance(net[0], Deconv2d)


def test_what_a_training_loop_of_ones_own_did_on_a_device_is_reported_in_the_next_evaluation() -> None:
    net = network()
    ndrepro.deconvolve(net)
    check = finite_check_of(net)
    check.collect("0 (Deconv2d)", torch.tensor([[[1.0]]]))
    check.collect("3 (Deconv2d)", torch.tensor([[[float("nan")]]]))
    with pytest.raises(NonFiniteStatistics, match=r"^layer 3 \(Deconv2d\)"), torch.no_grad():
        net.eval()(torch.randn(2, 3, 6, 6, dtype=torch.float64))


def test_norms_that_nobody_asks_for_are_not_kept_for_ever() -> None:
    net = network()
    ndrepro.deconvolve(net)
    check = finite_check_of(net)
    for _ in range(9000):
        check.collect("0 (Deconv2d)", torch.ones(1))
    assert len(check._norms) < 5000
