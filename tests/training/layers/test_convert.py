"""Any network is converted as described, or refused as a whole."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations

from ndrepro.protocol.errors import UsageError
from ndrepro.training.layers import First, Override, deconvolve, remove_batch_norm
from ndrepro.training.layers.deconv import Deconv2d, Delinear

pytestmark = pytest.mark.numerics


class Mixed(nn.Module):
    """Grouped, dilated, strided, with and without bias, one convolution in two places, tied linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding="same", bias=False), nn.BatchNorm2d(8), nn.ReLU(True))
        self.grouped = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=4)
        self.shared = nn.Conv2d(8, 8, (1, 3), stride=(2, 1), padding=(0, 1), bias=False)
        self.again = nn.Sequential(self.shared, nn.BatchNorm2d(8))
        self.norm = nn.GroupNorm(2, 8)
        self.fc1 = nn.Linear(8, 8, bias=False)
        self.fc2 = nn.Linear(8, 8)
        self.fc2.weight = self.fc1.weight
        self.norm1 = nn.BatchNorm1d(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.grouped(self.stem(x)))
        x = self.again(F.relu(self.shared(x)))
        return self.fc2(self.norm1(self.fc1(x.mean((2, 3)))))


def without_norm(net: nn.Module) -> nn.Module:
    for owner in list(net.modules()):
        for name, child in owner.named_children():
            if isinstance(child, (nn.BatchNorm1d, nn.BatchNorm2d)):
                setattr(owner, name, nn.Identity())
    return net


def test_before_any_statistics_it_is_the_network_without_batch_norm() -> None:
    torch.manual_seed(0)
    net, plain = Mixed().double().eval(), Mixed().double().eval()
    plain.load_state_dict(net.state_dict())
    x = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    with_norm = net(x)
    deconvolve(net)
    assert torch.allclose(net(x), without_norm(plain)(x), atol=1e-12)
    assert not torch.allclose(net(x), with_norm, atol=1e-8)  # control: fresh batch norm scales by 1/sqrt(1 + 1e-5)


def test_settings_and_geometry_are_kept() -> None:
    net = Mixed()
    deconvolve(net, block=4, n_iter=3, eps=1e-3, momentum=0.3, sampling_stride=2, linear_block=2)
    stem, grouped, shared = net.stem[0], net.grouped, net.shared
    assert (stem.padding, stem.n_iter, stem.freeze, stem.block) == ((1, 1), 15, True, 3)
    assert (grouped.padding, grouped.dilation, grouped.groups, grouped.block) == ((2, 2), (2, 2), 4, 2)
    assert (grouped.n_iter, grouped.freeze, grouped.eps, grouped.momentum) == (3, False, 1e-3, 0.3)
    assert (shared.kernel_size, shared.stride, shared.padding) == ((1, 3), (2, 1), (0, 1))
    assert (shared.block, shared.sampling_stride) == (4, (4, 2))
    assert (net.fc1.block, net.fc1.bias is None, net.fc2.bias is None) == (2, True, False)
    assert stem.bias is not None and shared.bias is not None


def test_parameters_stay_the_same_objects_and_no_random_number_is_drawn() -> None:
    net = Mixed()
    before = dict(net.named_parameters(remove_duplicate=False))
    state = torch.get_rng_state()
    deconvolve(net)
    assert torch.equal(torch.get_rng_state(), state)
    after = dict(net.named_parameters(remove_duplicate=False))
    assert all(after[name] is value for name, value in before.items() if name in after)
    assert set(after) - set(before) == {"stem.0.bias", "shared.bias", "again.0.bias"}
    assert net.fc1.weight is net.fc2.weight


def test_a_shared_module_is_converted_once() -> None:
    net = Mixed()
    conversion = deconvolve(net)
    assert net.shared is net.again[0] and isinstance(net.shared, Deconv2d)
    (change,) = [each for each in conversion.replaced if each.name == "shared"]
    assert "also used as again.0" in change.why


def test_it_says_what_it_did() -> None:
    conversion = deconvolve(Mixed(), keep=["again.1", "fc?", "norm"])
    assert [(each.name, each.before, each.after) for each in conversion.replaced] == [
        ("stem.0", "Conv2d", "Deconv2d"),
        ("grouped", "Conv2d", "Deconv2d"),
        ("shared", "Conv2d", "Deconv2d"),
    ]
    assert [each.name for each in conversion.removed] == ["stem.1", "norm1"]
    assert {each.name: each.why for each in conversion.left} == {
        "again.1": "kept, as asked",
        "fc1": "kept, as asked",
        "fc2": "kept, as asked",
        "norm": "kept, as asked",
    }
    (change,) = [each for each in deconvolve(Mixed()).left if each.name == "norm"]
    assert change.why == "not a convolution, linear layer or batch norm"
    assert conversion.out_of_place == ("stem.2",)
    assert str(conversion).startswith("3 replaced, 2 removed, 4 left\n")


def test_keeping_a_container_keeps_what_is_in_it() -> None:
    net = Mixed()
    deconvolve(net, keep=["stem"])
    assert isinstance(net.stem[0], nn.Conv2d) and isinstance(net.stem[1], nn.BatchNorm2d)
    assert net.grouped.freeze  # the first that is replaced


def test_first_and_overrides() -> None:
    net = Mixed()
    deconvolve(
        net,
        first=First(9, freeze=False),
        overrides={"gr*": Override(n_iter=1, freeze=True, sampling_stride=1)},
    )
    assert (net.stem[0].n_iter, net.stem[0].freeze) == (9, False)
    assert (net.grouped.n_iter, net.grouped.freeze, net.grouped.sampling_stride) == (1, True, (1, 1))
    net = Mixed()
    deconvolve(net, first=None, linear_block=None)
    assert (net.stem[0].n_iter, net.stem[0].freeze, type(net.fc1)) == (5, False, nn.Linear)


def test_an_activation_in_place_does_not_overwrite_what_the_batch_norm_read() -> None:
    class PreActivation(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.relu, self.conv = nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.conv(self.relu(self.norm(x)))

    net = PreActivation().eval()
    x = torch.randn(2, 4, 5, 5)
    expected = x + net.conv(torch.relu(x))
    deconvolve(net)
    assert torch.allclose(net(x.clone()), expected, atol=1e-5)
    net.relu.inplace = True
    assert not torch.allclose(net(x.clone()), expected, atol=1e-2)  # control: left in place, the sum is another


def test_mode_device_and_dtype_are_kept() -> None:
    net = Mixed().double()
    net.grouped.eval()
    net.grouped.weight.requires_grad_(False)
    deconvolve(net)
    assert net.stem[0].training and not net.grouped.training
    assert not net.grouped.weight.requires_grad
    assert net.grouped.running_deconv.dtype == net.stem[0].bias.dtype == torch.float64


def test_a_converted_network_trains() -> None:
    torch.manual_seed(0)
    net = Mixed()
    deconvolve(net, keep=["norm1"])
    net(torch.randn(8, 3, 8, 8)).square().sum().backward()
    assert all(each.grad is not None for each in net.parameters())


class OwnConvolution(nn.Conv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).relu()


class OwnNorm(nn.BatchNorm2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).relu()


class RenamedConvolution(nn.Conv2d):
    """No more than a name: converted as any other."""


def hooked() -> nn.Module:
    layer = nn.Conv2d(4, 4, 3)
    layer.register_forward_hook(lambda *_: None)
    return layer


REFUSED = {
    "transposed": (lambda: nn.ConvTranspose2d(4, 4, 3), "ConvTranspose2d has no deconvolved form"),
    "one-dimensional": (lambda: nn.Conv1d(4, 4, 3), "Conv1d has no deconvolved form"),
    "three-dimensional": (lambda: nn.Conv3d(4, 4, 3), "Conv3d has no deconvolved form"),
    "reflecting": (lambda: nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), "padding_mode='reflect'"),
    "one-sided": (lambda: nn.Conv2d(4, 4, 2, padding="same"), "padding='same'"),
    "own forward": (lambda: OwnConvolution(4, 4, 3), "OwnConvolution does more than Conv2d"),
    "own norm": (lambda: OwnNorm(4), "OwnNorm does more"),
    "quantization-aware": (
        lambda: torch.ao.nn.qat.Conv2d(4, 4, 3, qconfig=torch.ao.quantization.get_default_qat_qconfig()),
        "does more than Conv2d|convolves in its own way",
    ),
    "parametrised": (lambda: parametrizations.spectral_norm(nn.Conv2d(4, 4, 3)), "parametrisation"),
    "hooked": (hooked, "hooks"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_deconvolved_form_is_refused_by_name_and_nothing_changes(case: str) -> None:
    make, words = REFUSED[case]
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), make())
    before = list(net.modules())
    with pytest.raises(UsageError, match=words) as caught:
        deconvolve(net)
    assert "2 (" in caught.value.message and "keep=" in caught.value.cure
    assert [a is b for a, b in zip(net.modules(), before, strict=True)] == [True] * len(before)
    conversion = deconvolve(net, keep=["2"])  # control: kept, the rest is converted
    assert isinstance(net[0], Deconv2d) and conversion.left[-1].why == "kept, as asked"


@pytest.mark.filterwarnings("ignore:Lazy:UserWarning")
def test_a_lazy_layer_is_refused() -> None:
    with pytest.raises(UsageError, match="lazy"):
        deconvolve(nn.Sequential(nn.LazyConv2d(4, 3)))


@pytest.mark.filterwarnings("ignore:.*quantize:UserWarning")
def test_a_quantized_layer_is_refused() -> None:
    with pytest.raises(UsageError, match="quantized"):
        deconvolve(nn.Sequential(nn.Conv2d(3, 4, 3), torch.ao.nn.quantized.Conv2d(4, 4, 3)))


def test_every_reason_is_given_at_once() -> None:
    with pytest.raises(UsageError, match=r"0 \(Conv1d\).*1 \(ConvTranspose2d\)"):
        deconvolve(nn.Sequential(nn.Conv1d(1, 1, 1), nn.ConvTranspose2d(1, 1, 1)))


def test_a_network_that_is_one_layer_is_refused() -> None:
    with pytest.raises(UsageError, match=r"put it into nn\.Sequential"):
        deconvolve(nn.Conv2d(3, 4, 3))


def test_a_name_that_matches_nothing_is_refused_with_the_nearest() -> None:
    for arguments in ({"keep": ["groped"]}, {"overrides": {"groped": Override()}}):
        with pytest.raises(UsageError, match="'groped' matches no layer of Mixed") as caught:
            deconvolve(Mixed(), **arguments)
        assert "grouped" in caught.value.cure


def test_a_subclass_that_only_has_another_name_is_converted() -> None:
    net = nn.Sequential(RenamedConvolution(3, 4, 3), nn.SyncBatchNorm(4))
    deconvolve(net)
    assert isinstance(net[0], Deconv2d) and isinstance(net[1], nn.Identity)


def test_attention_reads_its_weights_itself_and_is_left() -> None:
    net = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    conversion = deconvolve(net)
    assert isinstance(net.linear1, Delinear) and type(net.self_attn.out_proj) is not Delinear
    (change,) = [each for each in conversion.left if each.name == "self_attn.out_proj"]
    assert "MultiheadAttention" in change.why
    assert net(torch.randn(2, 5, 8)).shape == (2, 5, 8)


def test_converting_twice_changes_nothing_more() -> None:
    net = Mixed()
    deconvolve(net)
    again = deconvolve(net)
    assert not again.replaced and not again.removed
    assert all("already deconvolved" in each.why for each in again.left if each.name != "norm")


def test_batch_norm_can_be_taken_out_alone() -> None:
    torch.manual_seed(0)
    net, plain = Mixed().eval(), Mixed().eval()
    plain.load_state_dict(net.state_dict())
    conversion = remove_batch_norm(net)
    x = torch.randn(4, 3, 8, 8)
    assert torch.allclose(net(x), without_norm(plain)(x), atol=1e-6)
    assert [each.name for each in conversion.removed] == ["stem.1", "again.1", "norm1"]
    assert [each.name for each in conversion.replaced] == ["stem.0", "shared"]
    assert {each.why for each in conversion.left} == {"not a batch norm"}
    assert net.stem[0].bias is not None and net.shared.bias is not None
