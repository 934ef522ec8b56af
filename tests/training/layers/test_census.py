"""The census sees what is called, and leaves no trace."""

from __future__ import annotations

import torch
from called_layers import never_called
from torch import nn

from ndrepro.training.layers.census import Row, census, summary
from ndrepro.training.layers.convert import deconvolve


class Net(nn.Module):
    """Calls layers in another order than it registers them, one twice, one never; draws random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Linear(4, 2)
        self.unused = nn.Linear(4, 2)
        self.pool = nn.MaxPool2d((2, 1))
        self.conv = nn.Conv2d(4, 4, 3, padding="same", stride=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.start = nn.Conv2d(3, 4, 1, stride=(2, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.pool(self.conv(self.conv(self.start(x)))))
        return self.classifier(x.mean((2, 3)) + torch.rand(4))


def test_rows_stand_in_the_order_of_the_calls() -> None:
    rows = census(Net(), (2, 3, 8, 8))
    assert [row.layer for row in rows] == ["conv2d", "conv2d", "conv2d", "maxpool2d", "batchnorm2d", "linear"]
    assert [row.call for row in rows] == list(range(6))
    assert rows[0] == Row(
        *(0, "conv2d", 3, 4, (1, 1), (2, 1), (0, 0), 1, True),
        *(None, None, None, None, (2, 3, 8, 8), (2, 4, 4, 8), 16),
    )
    assert (rows[1].padding, rows[1].bias, rows[3].kernel, rows[3].stride) == ("same", False, (2, 1), (2, 1))


def test_deconvolved_layers_show_their_settings() -> None:
    net = Net()
    deconvolve(net)
    start, conv, *_, classifier = census(net, (2, 3, 8, 8))
    assert (start.layer, start.block, start.n_iter, start.freeze) == ("deconv2d", 3, 5, False)
    assert start.sampling_stride == (6, 3)
    assert (conv.block, conv.n_iter, conv.freeze, conv.sampling_stride) == (
        4,
        15,
        True,
        3,
    )  # registered first
    assert (classifier.layer, classifier.block, classifier.freeze) == ("delinear", 4, None)


def test_it_leaves_no_trace() -> None:
    net = Net()
    deconvolve(net, keep=["norm"])
    net.train()
    net.norm.eval()
    state = {name: value.clone() for name, value in net.state_dict().items()}
    random = torch.get_rng_state()
    modes = [module.training for module in net.modules()]
    census(net, (2, 3, 8, 8))
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert [module.training for module in net.modules()] == modes
    assert not any(module._forward_hooks for module in net.modules())
    net(torch.zeros(2, 3, 8, 8))  # control: a training batch leaves both
    assert not torch.equal(torch.get_rng_state(), random)
    assert not all(torch.equal(value, state[name]) for name, value in net.state_dict().items())


def test_it_leaves_no_trace_when_the_batch_does_not_fit() -> None:
    net = Net()
    try:
        census(net, (2, 5, 8, 8))
    except RuntimeError:
        assert net.training and not any(module._forward_hooks for module in net.modules())
    else:
        raise AssertionError("five channels into three")


def test_a_layer_that_is_never_called_is_named() -> None:
    assert never_called(Net(), (2, 3, 8, 8)) == ("unused",)


def test_a_weight_that_is_read_without_calling_its_layer_is_found() -> None:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.qkv = nn.Conv2d(3, 4, 1), nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.linear(self.conv(x).mean((2, 3)), self.qkv.weight)

    net = Reads()
    assert "qkv" in [change.name for change in deconvolve(net).replaced]
    assert never_called(net, (2, 3, 4, 4)) == ("qkv",)


def test_the_summary_counts_numbers_and_layers() -> None:
    net = Net()
    net.start.weight.requires_grad_(False)
    counts = summary(net)
    assert counts.trainable_parameters == 10 + 10 + 144 + 8 + 4
    assert (counts.conv2d_layers, counts.batchnorm2d_layers, counts.linear_layers) == (2, 1, 2)
    assert (counts.deconv2d_layers, counts.delinear_layers) == (0, 0)
    assert counts.buffers == 4 + 4 + 1
