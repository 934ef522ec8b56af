"""Training steps are traced by torch.compile as whole graphs, and the graphs compute what the steps do, to the bit.

``python -m benchmarks.compiled`` does the same for every network in full depth, minutes of tracing.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from benchmarks.compiled import traced_step
from ndrepro.training import models
from ndrepro.training.deconv_kernels.conversion import deconvolve
from ndrepro.training.deconv_kernels.kernels import use_fast_kernels
from ndrepro.training.layers.deconv import Deconv2d
from ndrepro.training.models.densenet import DenseLayer, Transition
from ndrepro.training.models.dpn import DpnStage, DualPathBlock
from ndrepro.training.models.max_pool import MaxPool2d
from ndrepro.training.models.mobilenetv2 import InvertedResidual
from ndrepro.training.models.pnasnet import PNASCell
from ndrepro.training.models.resnet import Bottleneck
from ndrepro.training.models.senet import SEBlock

pytestmark = [
    pytest.mark.slow,  # the tracer takes seconds to load
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),  # of the tracer itself
]


def every_block() -> nn.Module:
    """One block of each kind of network, for every form of the root, and patches that are whitened themselves."""
    blocks = (
        nn.Conv2d(3, 8, 3, padding=1), DenseLayer(8, 8), Transition(16), InvertedResidual(8, 16, 6, 1),
        SEBlock(16, 16, 1), PNASCell(16, 32, 2), DualPathBlock(32, DpnStage(32, 32, 16, 1, 1), first=True),
        Bottleneck(64, 32, 1, groups=32), MaxPool2d(2, 2), nn.Conv2d(128, 300, 3, padding=1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(300, 10),
    )  # fmt: skip
    net = nn.Sequential(*blocks)
    deconvolve(net)
    return net


def lenet() -> nn.Module:
    net = models.build("lenet", "nd", 10)
    use_fast_kernels(net)
    return net


@pytest.mark.parametrize("network", [lenet, every_block])
def test_a_training_step_is_traced_whole_and_keeps_its_bits(network: object) -> None:
    torch.manual_seed(0)
    assert traced_step("", network().train()).same_bits


class Otherwise(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return self.compiled(x) if torch.compiler.is_compiling() else x

    def compiled(self, x: Tensor) -> Tensor:
        return 2 * x


class Reading(Otherwise):
    def compiled(self, x: Tensor) -> Tensor:
        return x if float(x.sum()) > 0 else -x


def test_control_a_step_that_differs_or_reads_a_number_is_seen() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10), Otherwise())
    assert not traced_step("", net).same_bits
    net[2] = Reading()
    with pytest.raises(Exception, match="data-dependent"):
        traced_step("", net)


def test_forward_and_backward_are_one_graph_each() -> None:
    """The backend ``aot_eager`` traces the backward pass too, and needs no C++ compiler."""
    torch.manual_seed(0)
    net = lenet().double().train()
    plain = copy.deepcopy(net)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    for _ in range(2):
        images = torch.randn(9, 3, 32, 32, dtype=torch.float64)
        found, expected = compiled(images), plain(images)
        assert torch.allclose(found, expected, rtol=1e-8, atol=1e-8)
    found.square().sum().backward()
    expected.square().sum().backward()
    for one, other in zip(net.parameters(), plain.parameters(), strict=True):
        assert (one.grad - other.grad).norm() <= 1e-7 * other.grad.norm() + 1e-10
    for one, other in zip(net.buffers(), plain.buffers(), strict=True):
        assert torch.allclose(one, other, rtol=1e-8, atol=1e-9)


def test_a_compiled_layer_freezes_at_the_step_of_the_plain_one() -> None:
    torch.manual_seed(0)
    plain = Deconv2d(2, 3, 3, freeze=True, freeze_iter=2).double()
    twin = copy.deepcopy(plain)
    compiled = torch.compile(twin, fullgraph=True, backend="aot_eager")
    for x in torch.randn(23, 4, 2, 6, 6, dtype=torch.float64):
        assert torch.allclose(compiled(x), plain(x), rtol=0, atol=1e-10)
        assert torch.allclose(twin.running_deconv, plain.running_deconv, rtol=0, atol=1e-10)
    assert int(twin.step) == int(plain.step) == 3
