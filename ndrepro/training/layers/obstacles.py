"""Why a layer cannot be replaced: convolutions, linear layers and batch norms that are more than they seem.

A replacement takes the layer's weight and settings and nothing else. Whatever else a layer carries (a
``forward`` of its own, hooks, computed or quantized weights) would be lost without a word, so it is refused
with a reason instead.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.utils import parametrize

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_PLAIN_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def obstacle(layer: nn.Module) -> str | None:
    """Why ``layer``, a convolution, linear layer or batch norm, cannot be replaced; ``None`` where it can."""
    if (why := unreadable(layer)) is not None:
        return why
    if isinstance(layer, LazyModuleMixin) and layer.has_uninitialized_params():
        return "it is lazy and has no shape yet; pass one batch through the network first"
    if parametrize.is_parametrized(layer):
        return "its weight is computed by a parametrisation; remove that first"
    if any(getattr(layer, hooks, None) for hooks in _HOOKS):
        return "it has hooks, which would be lost; remove them first"
    if isinstance(layer, _ConvNd):
        return _of_convolution(layer)
    if isinstance(layer, _BatchNorm):
        return _own_forward(layer, *_PLAIN_NORMS)
    return _own_forward(layer, nn.Linear)


def unreadable(layer: nn.Module) -> str | None:
    """Why nothing can be told of ``layer``, of whatever kind; ``None`` where it is ordinary."""
    if isinstance(layer, torch.jit.ScriptModule):
        return "it is compiled by TorchScript; convert the network before compiling it"
    if "quantized" in type(layer).__module__.split("."):
        return "its weights are quantized"
    return None


def resolved_padding(convolution: nn.Conv2d) -> tuple[int, int] | None:
    """The padding in pixels, with "valid" and "same" worked out; ``None`` where "same" pads one side more."""
    if isinstance(convolution.padding, tuple):
        return (convolution.padding[0], convolution.padding[1])
    if convolution.padding == "valid":
        return (0, 0)
    totals = [d * (k - 1) for d, k in zip(convolution.dilation, convolution.kernel_size, strict=True)]
    return None if any(total % 2 for total in totals) else (totals[0] // 2, totals[1] // 2)


def _of_convolution(layer: _ConvNd) -> str | None:
    if not isinstance(layer, nn.Conv2d):
        return f"{type(layer).__name__} has no deconvolved form; only Conv2d has"
    if type(layer)._conv_forward is not nn.Conv2d._conv_forward:
        return f"{type(layer).__name__} convolves in its own way"
    if layer.padding_mode != "zeros":
        return f"padding_mode='{layer.padding_mode}', and only 'zeros' is whitened"
    if resolved_padding(layer) is None:
        return f"padding='same' with kernel {layer.kernel_size} pads one side more than the other"
    return _own_forward(layer, nn.Conv2d)


def _own_forward(layer: nn.Module, *plain: type[nn.Module]) -> str | None:
    if any(type(layer).forward is kind.forward for kind in plain if isinstance(layer, kind)):
        return None
    return f"{type(layer).__name__} does more than {plain[0].__name__} (a forward of its own)"
