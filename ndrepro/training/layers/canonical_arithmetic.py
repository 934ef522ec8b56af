"""The arithmetic of the canonical level: the same bits from torch 1.13.1 to 2.13.0, on any x86 processor.

Under this level's flags and variables (one thread, plain vector kernels, oneDNN off, MKL_CBWR=COMPATIBLE) the
operations of the networks give equal bits in every one of those versions, but for three, which are computed here:

* ``sqrt``. torch hands it to MKL's vector library, which is not correctly rounded: one float32 in five is a unit in
  the last place off, and not the same ones before and after torch 2.8. IEEE 754 defines the correctly rounded root.
* ``baddbmm``. Of matrices so small that their product takes fewer than 400 multiplications torch computes it in a loop
  of its own, whose order of rounding changed with 2.4. A plain product, scaled and added, has one order.
* ``conv2d``. Without oneDNN torch hands a batch of 16 or more to NNPACK, which splits its sums over channels by the
  size of the processor's first cache, and which processors without AVX2 do not have. Here every convolution is
  im2col and matrix products, which is what torch itself does with a smaller batch.

docs/explanation/determinism.md has the measurements, and what they do not cover.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ndrepro.protocol.errors import UsageError
from ndrepro.training.compute import torch_compat
from ndrepro.training.layers.arithmetic import Arithmetic
from ndrepro.training.layers.deconv import Deconv2d, Delinear
from ndrepro.training.layers.rewrite import exchange

Pair = int | tuple[int, ...]

# layers of torch whose bits were compared across versions (tests/execution/environments/test_canonical_versions.py)
_COMPARED = (
    nn.Conv2d,
    nn.Linear,
    nn.BatchNorm2d,
    nn.ReLU,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.LocalResponseNorm,
    nn.Identity,
    nn.Flatten,
)


class _Sqrt(torch.autograd.Function):
    """numpy uses the processor's own instruction, which IEEE 754 has correctly rounded."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        root = torch.from_numpy(np.sqrt(x.detach().numpy().reshape(-1))).view(x.shape)
        ctx.save_for_backward(root)
        return root

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (root,) = ctx.saved_tensors
        return gradient / (2 * root)


def sqrt(x: Tensor) -> Tensor:
    """The correctly rounded square root of ``x``, any shape, on the CPU, in its dtype."""
    result: Tensor = _Sqrt.apply(x)
    return result


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Tensor:
    """``torch.nn.functional.conv2d`` by matrix products: (N, C, H, W) -> (N, out_channels, H', W')."""
    # Images of one channel arrive as channels last, and what follows would stay so: torch's backward pass refuses that
    # layout, and sums in another order. Flat and back, the strides are plain, also where a channel is alone.
    x = x.contiguous().flatten().view(x.shape)
    kernel = _spread(weight, _pair(dilation))
    settings = (_pair(stride), _pair(padding))
    if groups == 1:
        return torch_compat.convolve_by_products(x, kernel, bias, *settings)
    biases = [None] * groups if bias is None else bias.chunk(groups)
    parts = zip(x.chunk(groups, 1), kernel.chunk(groups), biases, strict=True)
    return torch.cat([torch_compat.convolve_by_products(*part, *settings) for part in parts], 1)


def _spread(weight: Tensor, dilation: tuple[int, int]) -> Tensor:
    """The kernel with zeros between its taps, which convolves without dilation as ``weight`` does with it."""
    if dilation == (1, 1):
        return weight
    high, wide = ((size - 1) * step + 1 for size, step in zip(weight.shape[2:], dilation, strict=True))
    spread = weight.new_zeros(*weight.shape[:2], high, wide)
    spread[:, :, :: dilation[0], :: dilation[1]] = weight
    return spread


def baddbmm(addend: Tensor, first: Tensor, second: Tensor, *, beta: float, alpha: float) -> Tensor:
    """beta * addend + alpha * first @ second: (B, M, N) of (B, M, K) and (B, K, N)."""
    return beta * addend + alpha * torch.bmm(first, second)


CANONICAL = Arithmetic(conv2d=conv2d, baddbmm=baddbmm, sqrt=sqrt)


class Conv2d(nn.Conv2d):
    """``torch.nn.Conv2d`` by matrix products."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, out_channels, H', W')."""
        padding = self.padding
        assert not isinstance(padding, str)
        return conv2d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


def make_canonical(net: nn.Module) -> None:
    """Have ``net`` compute in canonical arithmetic, in place: same names, same Parameter objects.

    Raises UsageError for a layer of torch whose bits were never compared across versions; ``net`` is then as it was.
    """
    _refuse_unknown(net)
    exchange(net, lambda child: _by_products(child) if type(child) is nn.Conv2d else None)
    for layer in net.modules():
        if isinstance(layer, (Deconv2d, Delinear)):
            layer.arithmetic = CANONICAL


def _refuse_unknown(net: nn.Module) -> None:
    for name, layer in net.named_modules():
        plain = type(layer).__module__.startswith("torch.")
        if plain and not any(layer.children()) and type(layer) not in _COMPARED:
            problem = f"a {type(layer).__name__}, whose bits were not compared across versions of torch"
        elif isinstance(layer, nn.Conv2d) and (isinstance(layer.padding, str) or layer.padding_mode != "zeros"):
            problem = f"padded with {layer.padding_mode!r}, {layer.padding!r}: expected zeros, by a number of pixels"
        else:
            continue
        raise UsageError(f"determinism=canonical: layer {name} is {problem}", "use --determinism deterministic")


def _by_products(layer: nn.Conv2d) -> Conv2d:
    """A convolution that holds the very parameters of ``layer``."""
    new = nn.utils.skip_init(
        Conv2d,
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,
        layer.stride,
        layer.padding,
        layer.dilation,
        layer.groups,
        bias=layer.bias is not None,
    )
    new.weight, new.bias = layer.weight, layer.bias
    return new.train(layer.training)


def _pair(value: Pair) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])
