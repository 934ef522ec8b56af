"""The canonical level's own operations are torch's, but for the last bits; and it computes nothing it does not know."""

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ndrepro.protocol.errors import UsageError
from ndrepro.protocol.experiment.catalogue import ARCHITECTURES, METHODS
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.training import models
from ndrepro.training.layers.arithmetic import TORCH
from ndrepro.training.layers.canonical_arithmetic import CANONICAL, Conv2d, baddbmm, conv2d, make_canonical, sqrt
from ndrepro.training.layers.deconv import Deconv2d, Delinear
from ndrepro.training.train_run import build

# stride, padding, dilation, groups
CONVOLUTIONS = [(1, 0, 1, 1), (2, 1, 1, 1), ((1, 2), (2, 0), 1, 1), (1, 2, 2, 1), (2, 1, 1, 2), (1, 2, (1, 2), 4)]


def draw(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()


def nearest(root: np.float32, x: np.float32) -> bool:
    """Whether no other float32 is nearer to the square root of x; in exact arithmetic."""
    low, high = (Fraction(float(np.nextafter(root, np.float32(to)))) for to in (0, np.inf))
    below, above = (low + Fraction(float(root))) / 2, (Fraction(float(root)) + high) / 2
    return below**2 <= Fraction(float(x)) <= above**2


def test_every_square_root_is_correctly_rounded() -> None:
    x = draw(3000, dtype=torch.float32).detach().abs()
    roots = sqrt(x).numpy()
    assert all(nearest(root, value) for root, value in zip(roots, x.numpy(), strict=True))
    assert not nearest(np.nextafter(roots[0], np.float32(np.inf)), x.numpy()[0])


def test_a_square_root_keeps_shape_and_dtype_and_has_its_gradient() -> None:
    x = draw(2, 1, 3).detach().abs().requires_grad_()
    assert torch.equal(sqrt(x.transpose(0, 2)), torch.from_numpy(np.sqrt(x.detach().numpy())).transpose(0, 2))
    assert sqrt(torch.tensor(4.0)).shape == ()
    assert torch.autograd.gradcheck(sqrt, (x,))


@pytest.mark.parametrize("settings", CONVOLUTIONS)
@pytest.mark.parametrize("with_bias", [True, False])
def test_a_convolution_and_its_gradients_are_those_of_torch(settings: tuple[int, ...], with_bias: bool) -> None:
    groups = settings[-1]
    inputs = (draw(2, 4, 7, 6), draw(8, 4 // groups, 3, 2), draw(8) if with_bias else None)
    ours, theirs = conv2d(*inputs, *settings), F.conv2d(*inputs, *settings)
    assert torch.allclose(ours, theirs, atol=1e-13, rtol=0)
    wanted = [each for each in inputs if each is not None]
    incoming = draw(*ours.shape).detach()
    pairs = zip(torch.autograd.grad(ours, wanted, incoming), torch.autograd.grad(theirs, wanted, incoming), strict=True)
    assert all(torch.allclose(one, other, atol=1e-12, rtol=0) for one, other in pairs)


def test_images_in_channels_last_convolve_to_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Grey images arrive as views of (N, H, W, 1): with them the backward pass of the second layer was refused."""
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    first, second = draw(6, 1, 5, 5, dtype=torch.float32), draw(4, 6, 3, 3, dtype=torch.float32)
    grey = draw(2, 12, 12, 1, dtype=torch.float32).detach()
    results = []
    for images in (grey.permute(0, 3, 1, 2), grey.reshape(2, 1, 12, 12).clone()):
        output = conv2d(conv2d(images, first), second)
        results.append([output, *torch.autograd.grad(output.square().sum(), (first, second))])
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def test_a_convolution_passes_gradcheck() -> None:
    assert torch.autograd.gradcheck(
        lambda x, w, b: conv2d(x, w, b, 2, 1, 2, 2), (draw(2, 2, 5, 5), draw(4, 1, 2, 2), draw(4))
    )


@pytest.mark.numerics
def test_an_image_convolves_to_the_same_bits_in_any_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's own choice without oneDNN goes by the batch; this is where NNPACK would come in."""
    x, weight = draw(32, 16, 8, 8, dtype=torch.float32).detach(), draw(32, 16, 3, 3, dtype=torch.float32).detach()

    def alone_and_together(convolve: Callable[..., Tensor]) -> bool:
        return torch.equal(convolve(x, weight, padding=1)[:2], convolve(x[:2], weight, padding=1))

    assert alone_and_together(conv2d)
    if torch.backends.nnpack.is_available():
        monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
        assert not alone_and_together(F.conv2d)


def test_a_scaled_product_is_that_of_torch() -> None:
    inputs = (draw(2, 3, 4), draw(2, 3, 5), draw(2, 5, 4))
    settings = {"beta": 0.3, "alpha": 0.7}
    assert torch.allclose(baddbmm(*inputs, **settings), torch.baddbmm(*inputs, **settings), atol=1e-14, rtol=0)
    assert torch.autograd.gradcheck(lambda *these: baddbmm(*these, **settings), inputs)


def small(arch: str, method: str) -> nn.Module:
    torch.manual_seed(0)
    return models.build(arch, method, 10, block=8, linear_block=16)


@pytest.mark.parametrize(("arch", "method"), [("lenet", "nd"), ("resnet18d", "bn")])
def test_a_network_keeps_its_names_and_parameters_and_computes_the_same(arch: str, method: str) -> None:
    net, plain = small(arch, method).double(), small(arch, method).double()
    before = dict(net.named_parameters())
    make_canonical(net)
    after = dict(net.named_parameters())
    assert list(after) == list(before)
    assert list(net.state_dict()) == list(plain.state_dict())
    assert all(after[name] is before[name] for name in before)
    x = draw(4, 3, 32, 32)
    assert torch.allclose(net(x), plain(x), atol=1e-8, rtol=1e-8)
    net.eval(), plain.eval()
    assert torch.allclose(net(x), plain(x), atol=1e-8, rtol=1e-8)


def test_every_convolution_is_taken() -> None:
    net = small("resnet18d", "nd")
    make_canonical(net)
    assert {type(layer) for layer in net.modules() if isinstance(layer, nn.Conv2d)} <= {Conv2d}
    whitening = [layer for layer in net.modules() if isinstance(layer, (Deconv2d, Delinear))]
    assert whitening
    assert all(layer.arithmetic is CANONICAL for layer in whitening)


@pytest.mark.parametrize("level", ["seeded", "deterministic", "canonical"])
def test_only_the_canonical_level_has_it(level: str) -> None:
    net = build(Experiment.from_name("lenet_nd_1_digits", {"determinism": level, "threads": "1"}))
    expected = CANONICAL if level == "canonical" else TORCH
    assert {layer.arithmetic for layer in net.modules() if isinstance(layer, Deconv2d)} == {expected}


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_network_is_of_layers_that_were_compared(arch: str) -> None:
    for method in METHODS:
        try:
            with torch.device("meta"):
                net = models.build(arch, method, 10)
        except UsageError:
            continue  # a method that is not for this network
        make_canonical(net)


@pytest.mark.parametrize(
    "stranger",
    [
        nn.GroupNorm(2, 4),
        nn.Conv1d(4, 4, 3),
        nn.ConvTranspose2d(4, 4, 3),
        nn.Conv2d(4, 4, 3, padding="same"),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
    ],
    ids=lambda layer: str(layer).split(",")[0],
)
def test_a_layer_that_was_not_compared_is_refused_by_name(stranger: nn.Module) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(stranger))
    with pytest.raises(UsageError, match=r"layer 1\.0 is .*") as refused:
        make_canonical(net)
    assert "deterministic" in refused.value.cure
    assert type(net[0]) is nn.Conv2d
