"""A training step never asks the device for a number, for any network: what would stop a GPU once a layer.

Without a GPU this is checked on devices whose tensors have no memory: whole steps on ``meta`` tensors, forward passes
on fake ``cuda`` tensors (autograd of torch does not run backward there without a GPU).
"""

from __future__ import annotations

import pytest
import torch
from deconv_shapes import STUDIED
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.dispatched import step_operators
from ndrepro.training import models
from ndrepro.training.deconv_kernels.kernels import use_fast_kernels
from ndrepro.training.layers.deconv import Deconv2d
from ndrepro.training.layers.host_counter import HostCounter

ALL = [pytest.param(arch, marks=() if arch in ("vgg16", "mobilenetv2") else pytest.mark.slow) for arch in STUDIED]


@pytest.mark.parametrize("arch", ALL)
def test_a_whole_step_of_every_network_reads_nothing_back(arch: str) -> None:
    fast, reference = (sum(step_operators(arch, "nd", fast=fast).values()) for fast in (True, False))
    assert fast < reference
    assert fast < 4 * sum(step_operators(arch, "bn").values())


@pytest.mark.parametrize("arch", ALL)
def test_a_forward_pass_on_a_gpu_reads_nothing_back(arch: str) -> None:
    net = models.build(arch, "nd", 10).train()
    use_fast_kernels(net)
    with FakeTensorMode():
        _put_on_a_fake_gpu(net)
        assert net(torch.empty(16, 3, 32, 32, device="cuda")).device.type == "cuda"


def _put_on_a_fake_gpu(net: nn.Module) -> None:
    for layer in net.modules():
        for name, parameter in layer.named_parameters(recurse=False):
            layer._parameters[name] = nn.Parameter(torch.empty(parameter.shape, device="cuda"))
        for name, buffer in layer.named_buffers(recurse=False):
            layer._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device="cuda")
        if getattr(layer, "freeze", False):
            layer._counter = HostCounter(layer.step, 0)


def test_control_a_counter_that_is_read_from_the_device_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """How layers decided whether they are frozen before the host kept count."""
    monkeypatch.setattr(Deconv2d, "frozen", property(lambda self: self.freeze and int(self.step) > self.freeze_iter))
    with pytest.raises(RuntimeError, match="meta"):
        step_operators("vgg16", "nd")
