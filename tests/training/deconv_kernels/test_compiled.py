"""Training steps are traced by torch.compile as whole graphs, and the graphs compute what the steps do, to the bit.

``python -m benchmarks.compiled`` does the same for every network in full depth, minutes of tracing.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from benchmarks.compiled import traced_step
from ndrepro.protocol.errors import NonFiniteStatistics
from ndrepro.training import models
from ndrepro.training.deconv_kernels.conversion import deconvolve
from ndrepro.training.deconv_kernels.kernels import finite_check_of, use_fast_kernels
from ndrepro.training.layers.deconv import Deconv2d, Delinear
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


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
@pytest.mark.parametrize(("live", "backend"), [(1, "eager"), (100, "aot_eager")], ids=["frozen", "live"])
def test_a_compiled_step_ends_with_the_error_of_the_plain_one(value: float, live: int, backend: str) -> None:
    """The plain one raises within a layer; a graph cannot, nor may it fail at eigenvalues of what is not finite."""
    first = Deconv2d(4, 24, 3, freeze=True, freeze_iter=live)
    net = nn.Sequential(first, Deconv2d(24, 3, 3), nn.Flatten(), Delinear(3 * 16, 4))
    use_fast_kernels(net)
    twin = copy.deepcopy(net)
    compiled, check = torch.compile(twin, fullgraph=True, backend=backend), finite_check_of(twin)
    x = torch.randn(5, 4, 8, 8)
    for step in range(3):
        net(x)
        compiled(x)
        check.end_step(step)
        check.raise_if_any()
    x[3, 2, 1, 1] = value
    with pytest.raises(NonFiniteStatistics, match=r"^layer [01] \(Deconv2d\)") as plain:
        net(x)
    compiled(x).sum().backward()
    check.end_step(4)
    with pytest.raises(NonFiniteStatistics) as found:
        check.raise_if_any()
    assert (str(found.value), found.value.cure) == (f"step 4: {plain.value}", plain.value.cure)


def test_a_compiled_layer_takes_equal_channels_as_the_plain_one() -> None:
    plain = nn.Sequential(Deconv2d(24, 3, 3, eps=0.0)).double()
    use_fast_kernels(plain)
    twin = copy.deepcopy(plain)
    x = torch.randn(5, 1, 8, 8, dtype=torch.float64).expand(-1, 24, -1, -1).contiguous()
    assert torch.allclose(torch.compile(twin, fullgraph=True, backend="eager")(x), plain(x), rtol=0, atol=1e-10)
    finite_check_of(twin).raise_if_any()
