"""Put network deconvolution into any torch network: ``deconvolve``.

    Conv2d     -> Deconv2d, always with a bias (the shift of the batch norm that goes away needs a place)
    Linear     -> Delinear, with a bias if it had one
    batch norm -> Identity, of any dimension and SyncBatchNorm too

The network is changed in place and the returned ``Conversion`` says what was replaced, removed and left, and
why. Everything is decided before anything is changed: a network that cannot be converted is refused as a
whole, with every reason, and stays as it was. Weights keep their values and remain the same Parameter
objects, so optimisers and tied weights go on holding them; a new bias starts at zero. A module used in
several places is converted once. No random numbers are consumed.

What cannot be seen from outside is a layer whose weight is read without calling the layer (Swin's ``qkv``):
it would be listed as replaced, and have no effect. It is not in ``census``, which lists calls; name it in ``keep``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from ndrepro.training.layers.conversion import Conversion
from ndrepro.training.layers.deconv import Deconv2d, Delinear
from ndrepro.training.layers.rewrite import Rewrite, resolved_padding


@dataclass(frozen=True)
class First:
    """How the first convolution differs: its pixels take more steps to whiten, and soon hardly change."""

    n_iter: int = 15
    freeze: bool = True


@dataclass(frozen=True)
class Override:
    """Settings of single convolutions; ``None`` leaves the general one."""

    block: int | None = None
    n_iter: int | None = None
    sampling_stride: int | None = None
    freeze: bool | None = None


_FIRST = First()
_Deconvolving = TypeVar("_Deconvolving", Deconv2d, Delinear)


def deconvolve(
    module: nn.Module,
    *,
    block: int = 64,
    linear_block: int | None = 512,
    eps: float = 1e-5,
    n_iter: int = 5,
    momentum: float = 0.1,
    sampling_stride: int = 3,
    first: First | None = _FIRST,
    keep: Sequence[str] = (),
    overrides: Mapping[str, Override] | None = None,
) -> Conversion:
    """Replace convolutions and linear layers by deconvolving ones, and take out batch norms.

    ``block``, ``eps``, ``n_iter``, ``momentum`` and ``sampling_stride`` are those of ``Deconv2d``;
    ``linear_block`` is the block of ``Delinear``, and ``None`` leaves linear layers alone. ``first`` applies
    to the convolution that the network registers first; ``None`` treats it as any other. ``keep`` names what
    stays as it is, with all that is inside; ``overrides`` gives single convolutions their own settings, the
    last that matches winning. Both take names as ``named_modules`` has them, with ``*`` and ``?``.

    Raises UsageError for a layer that has no deconvolved form (a transposed, one- or three-dimensional
    convolution, other padding than zeros, quantized or parametrised weights, a class with its own
    ``forward``, hooks) unless it is kept, and for a name in ``keep`` or ``overrides`` that matches nothing.
    """
    overrides = overrides or {}
    rewrite = Rewrite(module, keep, named=tuple(overrides))
    general = {"block": block, "n_iter": n_iter, "sampling_stride": sampling_stride, "eps": eps, "momentum": momentum}
    start = {} if first is None else asdict(first)
    for convolution in rewrite.each(nn.Conv2d, _ConvNd):
        own = {**general, **start, **_overridden(rewrite.names[id(convolution)], overrides)}
        start = {}
        whitening = _deconv2d(convolution, own)
        rewrite.replace(convolution, whitening, _settings(own, whitening.block))
    del general["sampling_stride"]
    for linear in rewrite.each(nn.Linear):
        if linear_block is None:
            rewrite.leave(linear, "linear layers are left alone (linear_block=None)")
        elif id(linear) in rewrite.read_directly:
            rewrite.leave(linear, "MultiheadAttention reads its weight without calling it")
        else:
            own = {**general, "block": linear_block}
            projection = _delinear(linear, own)
            rewrite.replace(linear, projection, _settings(own, projection.block))
    for norm in rewrite.each(_BatchNorm):
        rewrite.remove(norm, "the layers whiten instead")
    return rewrite.apply(rest="not a convolution, linear layer or batch norm")


def remove_batch_norm(module: nn.Module, *, keep: Sequence[str] = ()) -> Conversion:
    """Take the batch norms out of ``module`` and put nothing in their place.

    Every convolution without a bias gets one, of zeros: the batch norm's shift goes. ``keep`` and what is
    raised are as in ``deconvolve``.
    """
    rewrite = Rewrite(module, keep)
    for norm in rewrite.each(_BatchNorm):
        rewrite.remove(norm, "nothing normalises instead")
    bare = [layer for layer in module.modules() if isinstance(layer, _ConvNd) and layer.bias is None]
    bare = [layer for layer in bare if not rewrite.keeps(layer)]
    for convolution in bare:
        rewrite.replace(convolution, convolution, "given a bias")
    conversion = rewrite.apply(rest="not a batch norm")
    for convolution in bare:
        convolution.bias = nn.Parameter(convolution.weight.new_zeros(convolution.out_channels))
    return conversion


def _deconv2d(layer: nn.Conv2d, settings: Mapping[str, Any]) -> Deconv2d:
    """A Deconv2d that holds the very parameters of ``layer``, on its device, in its mode."""
    with torch.random.fork_rng(devices=[]):  # its own start is thrown away and must not move the generator
        new = Deconv2d(
            layer.in_channels,
            layer.out_channels,
            _two(layer.kernel_size),
            _two(layer.stride),
            resolved_padding(layer) or 0,
            _two(layer.dilation),
            layer.groups,
            **settings,
        )
    bias = nn.Parameter(layer.weight.new_zeros(layer.out_channels)) if layer.bias is None else layer.bias
    return _holding(new, layer, bias)


def _delinear(layer: nn.Linear, settings: Mapping[str, Any]) -> Delinear:
    """A Delinear that holds the very parameters of ``layer``, on its device, in its mode."""
    with torch.random.fork_rng(devices=[]):
        new = Delinear(layer.in_features, layer.out_features, layer.bias is not None, **settings)
    return _holding(new, layer, layer.bias)


def _holding(new: _Deconvolving, layer: nn.Conv2d | nn.Linear, bias: Tensor | None) -> _Deconvolving:
    new.to(layer.weight)
    new.weight = cast(nn.Parameter, layer.weight)
    new.bias = cast("nn.Parameter | None", bias)
    return new.train(layer.training)


def _overridden(names: Sequence[str], overrides: Mapping[str, Override]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for pattern, override in overrides.items():
        if any(fnmatchcase(name, pattern) for name in names):
            settings.update((key, value) for key, value in asdict(override).items() if value is not None)
    return settings


def _settings(own: Mapping[str, Any], fitted_block: int) -> str:
    return ", ".join(f"{key} {value}" for key, value in {**own, "block": fitted_block}.items())


def _two(values: tuple[int, ...]) -> tuple[int, int]:
    return (values[0], values[1])
