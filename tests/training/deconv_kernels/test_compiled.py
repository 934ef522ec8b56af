"""The network is traced by torch.compile as one graph, and the graph computes what the network does.

The backend ``aot_eager`` traces forward and backward as every other, and needs no C++ compiler.
"""

from __future__ import annotations

import copy

import pytest
import torch

from ndrepro.training import models
from ndrepro.training.deconv_kernels.kernels import use_fast_kernels
from ndrepro.training.layers.deconv import Deconv2d

pytestmark = [
    pytest.mark.slow,  # the tracer takes seconds to load
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),  # of the tracer itself
]


@pytest.mark.parametrize("arch", ["lenet", "vgg16"])
def test_a_whole_network_is_one_graph(arch: str) -> None:
    torch.manual_seed(0)
    net = models.build(arch, "nd", 10).double().train()
    use_fast_kernels(net)
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
