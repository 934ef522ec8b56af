"""Layers that whiten what they see, then convolve or project it (Ye et al., Network Deconvolution, ICLR
2020).

Both layers estimate, from the batch before them, the mean and the covariance of the vectors that their weight
is multiplied with, and fold the whitening into the weight instead of applying it to the data:

    Cov = eps I + (X - mu)^T (X - mu) / rows         X: rows x F, the patches seen by the weight
    D   = Cov^(-1/2)                                 a few Newton-Schulz steps, layers/whitening.py
    y   = (X - mu) D W^T + b  =  X (W D)^T + (b - W D mu)

In training mu and D come from the batch, and gradients flow through them; their exponential averages are kept
in ``running_mean`` (from 0) and ``running_deconv`` (from I) without bias correction. In evaluation the
averages are used. The function is that of the authors' released code, step for step; where that differs from
the paper the docstrings say so.

*Blocks.* Covariances of all channels would be large, so channels are split into G = C / block groups that
share one mean and one covariance, estimated over all of them. The groups interleave: column j of a patch
(channel-major, j = c k^2 + p) belongs to group j mod G, as feature j // G. With ``groups`` > 1 the
convolution's own groups are the blocks instead, contiguous, each with a mean and covariance of its own.

*Autocast.* Statistics, roots and the folded weight are computed in the weight's own precision whatever autocast asks
for: five steps of Newton-Schulz with eight bits of mantissa whiten nothing. The convolution itself follows autocast.

*Several processes.* With ``together`` set, mean and covariance are those of all processes' images.

*Kernels.* This file is the definition, and what ``deconv_kernel=reference`` computes. A layer with a ``kernel``
hands its input over to it (``ndrepro.training.deconv_kernels``).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ndrepro.protocol.errors import UsageError
from ndrepro.training.compute.torch_compat import full_precision, is_compiling
from ndrepro.training.layers.arithmetic import TORCH
from ndrepro.training.layers.host_counter import HostCounter
from ndrepro.training.layers.layer_kernel import LayerKernel
from ndrepro.training.layers.stages import stage_done
from ndrepro.training.layers.together import Together
from ndrepro.training.layers.whitening import move_average, statistics

Pair = int | tuple[int, int]


class Deconv2d(nn.Module):
    r"""A two-dimensional convolution of the whitened input.

    .. math:: y = \mathrm{conv}(x;\ W D) + b - \textstyle\sum W D \mu

    Input (N, C, H, W), output (N, out_channels, H', W') as ``torch.nn.Conv2d`` has it. F = kernel area x
    ``block``.

    *Training*: mu and D are estimated on the batch's patches, taken with the convolution's padding and
    dilation (zero padding included) at ``sampling_stride`` times its stride; for a 1x1 kernel on every s-th
    pixel of the batch, s the product of both sampling strides. *Evaluation*: ``running_mean`` and
    ``running_deconv``.

    *Freezing* (``freeze``, used on first layers): the buffer ``step`` counts training batches and wraps at
    10 ``freeze_iter``; while it is above ``freeze_iter`` the layer trains on its running averages and leaves
    them as they are. With the default, 101 batches of every 1000 are live. The released code keeps this
    counter outside its checkpoints; here it is a buffer, so that a resumed run is the same run.

    Parameters: ``weight`` (out_channels, C / groups, k, k), ``bias`` (out_channels) or None. Buffers:
    ``running_mean`` (F) and ``running_deconv`` (F, F); with groups > 1 (groups F) and (groups, F, F).
    ``block`` above C becomes C; one that does not divide C becomes their greatest common divisor.

    Source: Ye et al., ICLR 2020, section 3 and algorithm 1.
    Raises: UsageError, with the argument and its value, for a setting that means nothing or an input of
    another shape.
    """

    running_mean: Tensor
    running_deconv: Tensor
    step: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair = 0,
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = True,
        eps: float = 1e-5,
        n_iter: int = 5,
        momentum: float = 0.1,
        block: int = 64,
        sampling_stride: int = 3,
        freeze: bool = False,
        freeze_iter: int = 100,
    ) -> None:
        super().__init__()
        _check_settings(eps=eps, n_iter=n_iter, momentum=momentum, block=block)
        _check_at_least_one(sampling_stride=sampling_stride, freeze_iter=freeze_iter, groups=groups)
        for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if channels < 1 or channels % groups:
                raise UsageError(f"{name}={channels}, expected a positive multiple of groups={groups}")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = _pair(kernel_size)
        self.stride = _pair(stride)
        self.padding = _pair(padding)
        self.dilation = _pair(dilation)
        self.groups = groups
        self.eps = eps
        self.n_iter = n_iter
        self.momentum = momentum
        self.block = in_channels // groups if groups > 1 else resolve_block(block, in_channels)
        self.sampling_stride = (sampling_stride * self.stride[0], sampling_stride * self.stride[1])
        self.freeze = freeze
        self.freeze_iter = freeze_iter
        self.arithmetic = TORCH
        self.kernel: LayerKernel | None = None
        self.together: Together | None = None
        self.num_features = self.kernel_size[0] * self.kernel_size[1] * self.block

        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups, *self.kernel_size))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        identity = torch.eye(self.num_features)
        self.register_buffer("running_mean", torch.zeros(groups * self.num_features))
        self.register_buffer("running_deconv", identity if groups == 1 else identity.repeat(groups, 1, 1))
        if freeze:
            self.register_buffer("step", torch.tensor(0, dtype=torch.int64))
            self._counter = HostCounter(self.step, 0)
        _draw_as_torch_does(self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, out_channels, H', W')."""
        if x.dim() != 4 or x.shape[1] != self.in_channels:
            raise UsageError(f"Deconv2d: input of shape {tuple(x.shape)}, expected (N, {self.in_channels}, H, W)")
        if self.training and self.freeze and is_compiling():
            return self._forward_traced(x)
        live = self.training and not self.frozen
        if self.training and self.freeze:
            self._counter.advance(self.step, 10 * self.freeze_iter)
        if self.kernel is not None:
            return self.kernel.measured(self, x) if live else self.kernel.running(self, x)
        with full_precision(x.device.type):
            mean, deconv = self._measured(x.to(self.weight.dtype)) if live else self._running()
            weight, bias = self._folded(mean, deconv)
        stage_done("weight transform", weight, bias)
        return self.applied(x, weight, bias)

    def _forward_traced(self, x: Tensor) -> Tensor:
        """``forward`` in training of a layer that freezes, under a compiler, which traces one way for all steps.

        So the statistics are measured in frozen steps too, and the device chooses; bit-identical to ``forward``.
        """
        frozen = self.step > self.freeze_iter
        before = [each.clone() for each in self._running()]
        with full_precision(x.device.type):
            running = self._folded(*before)
        x, *measured = self._folded_batch(x)
        weight, bias = (torch.where(frozen, old, new) for old, new in zip(running, measured, strict=True))
        for average, old in zip((self.running_mean, self.running_deconv), before, strict=True):
            average.copy_(torch.where(frozen, old.view_as(average), average))
        self.step.copy_((self.step + 1) % (10 * self.freeze_iter))
        return self.applied(x, weight, bias)

    def _folded_batch(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x, and the weight and bias that its own statistics give; the averages have moved towards them."""
        if self.kernel is not None:
            return self.kernel.folded(self, x)
        with full_precision(x.device.type):
            weight, bias = self._folded(*self._measured(x.to(self.weight.dtype)))
        return x, weight, bias

    def folded_running(self, device_type: str) -> tuple[Tensor, Tensor]:
        """The weight and bias of the convolution that the running averages give."""
        with full_precision(device_type):
            return self._folded(*self._running())

    def applied(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """The convolution of x (N, C, H, W) with a folded weight and bias."""
        out = self.arithmetic.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)
        stage_done("convolution", out)
        return out

    def _folded(self, mean: Tensor, deconv: Tensor) -> tuple[Tensor, Tensor]:
        """W D as a kernel and b - W D mu, of a mean (S, F) and D (S, F, F)."""
        weight = self._weight_rows() @ deconv  # (S, rows, F)
        shift = (weight @ mean.unsqueeze(-1)).view(self.out_channels, -1).sum(1)
        bias = -shift if self.bias is None else self.bias - shift
        return self._as_kernel(weight), bias

    def _measured(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The batch's mean (S, F) and D (S, F, F); the averages have moved towards them."""
        rows = self._rows(x)
        stage_done("patches", rows)
        shared = None if self.together is None else (self.together, self._rows_of_all(self.together, x, rows))
        mean, deconv = statistics(rows, self.eps, self.n_iter, self.arithmetic, shared)
        move_average(self.running_mean, mean, self.momentum)
        move_average(self.running_deconv, deconv, self.momentum)
        stage_done("running averages")
        return mean, deconv

    @property
    def frozen(self) -> bool:
        """Whether the next training batch leaves the running statistics as they are, and uses them."""
        return self.freeze and self._counter.value(self.step) > self.freeze_iter

    def _running(self) -> tuple[Tensor, Tensor]:
        """The averages as (S, F) and (S, F, F), S the number of separate covariances."""
        deconv = self.running_deconv.view(self.groups, self.num_features, self.num_features)
        return self.running_mean.view(self.groups, self.num_features), deconv

    def _rows(self, x: Tensor) -> Tensor:
        """The sampled patches of x (N, C, H, W) as (S, rows, F): S = groups, or 1 with interleaved blocks."""
        if self.kernel_size == (1, 1):
            step = self.sampling_stride[0] * self.sampling_stride[1]
            # the pixels that are taken of the whole batch, whoever has them
            before = 0 if self.together is None else self.together.before * x.shape[2] * x.shape[3]
            patches = x.permute(0, 2, 3, 1).reshape(-1, self.in_channels)[-before % step :: step]
        else:
            columns = F.unfold(x, self.kernel_size, self.dilation, self.padding, self.sampling_stride)
            patches = columns.transpose(1, 2)  # (N, positions, C k^2)
        if self.groups > 1:
            return patches.reshape(-1, self.groups, self.num_features).transpose(0, 1)
        interleaved = patches.reshape(-1, self.num_features, self.in_channels // self.block)
        return interleaved.transpose(1, 2).reshape(1, -1, self.num_features)

    def _rows_of_all(self, together: Together, x: Tensor, rows: Tensor) -> int:
        """How many rows all processes have together, from ``rows`` (S, R, F) of this one's x (N, C, H, W)."""
        if self.kernel_size != (1, 1):
            return rows.shape[1] // len(x) * together.images
        pixels = together.images * x.shape[2] * x.shape[3]
        blocks = 1 if self.groups > 1 else self.in_channels // self.block
        return -(-pixels // (self.sampling_stride[0] * self.sampling_stride[1])) * blocks

    def _weight_rows(self) -> Tensor:
        """The weight as (S, rows, F), its columns split into blocks as the patches' are."""
        if self.groups > 1:
            return self.weight.reshape(self.groups, -1, self.num_features)
        interleaved = self.weight.reshape(self.out_channels, self.num_features, -1)
        return interleaved.transpose(1, 2).reshape(1, -1, self.num_features)

    def _as_kernel(self, rows: Tensor) -> Tensor:
        """The inverse of ``_weight_rows``."""
        if self.groups == 1:
            rows = rows.view(self.out_channels, -1, self.num_features).transpose(1, 2)
        return rows.reshape(self.weight.shape)

    def extra_repr(self) -> str:
        """What distinguishes this layer, as torch prints its own."""
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        text += f", padding={self.padding}, dilation={self.dilation}, groups={self.groups}"
        text += f", bias={self.bias is not None}, block={self.block}, n_iter={self.n_iter}, eps={self.eps}"
        return text + f", sampling_stride={self.sampling_stride}, freeze={self.freeze}"


class Delinear(nn.Module):
    r"""A linear layer of the whitened input.

    .. math:: y = x (W D)^T + b - \textstyle\sum W D \mu

    Input (..., in_features), output (..., out_features). The features are cut into contiguous pieces of
    ``block`` that share one mean and one covariance, estimated over the rows of x viewed as (-1, block).
    *Training* uses the batch's, *evaluation* the running averages, as ``Deconv2d``.

    Parameters: ``weight`` (out_features, in_features), ``bias`` (out_features) or None. Buffers:
    ``running_mean`` (block) and ``running_deconv`` (block, block). ``block`` is fitted to in_features as in
    ``Deconv2d``.

    Source: Ye et al., ICLR 2020, section 3, and the released code for the blocks.
    Raises: UsageError, with the argument and its value.
    """

    running_mean: Tensor
    running_deconv: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        eps: float = 1e-5,
        n_iter: int = 5,
        momentum: float = 0.1,
        block: int = 512,
    ) -> None:
        super().__init__()
        _check_settings(eps=eps, n_iter=n_iter, momentum=momentum, block=block)
        _check_at_least_one(in_features=in_features, out_features=out_features)
        self.in_features = in_features
        self.out_features = out_features
        self.eps = eps
        self.n_iter = n_iter
        self.momentum = momentum
        self.arithmetic = TORCH
        self.kernel: LayerKernel | None = None
        self.together: Together | None = None
        self.block = resolve_block(block, in_features)

        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.empty(out_features)) if bias else None
        self.register_buffer("running_mean", torch.zeros(self.block))
        self.register_buffer("running_deconv", torch.eye(self.block))
        _draw_as_torch_does(self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features)."""
        if x.dim() < 1 or x.shape[-1] != self.in_features:
            raise UsageError(f"Delinear: input of shape {tuple(x.shape)}, expected (..., {self.in_features})")
        if self.kernel is not None:
            return self.kernel.measured(self, x) if self.training else self.kernel.running(self, x)
        with full_precision(x.device.type):
            if self.training:
                mean, deconv = self._measured(x.to(self.weight.dtype))
            else:
                mean, deconv = self.running_mean, self.running_deconv
            weight, bias = self._folded(mean, deconv)
        stage_done("weight transform", weight, bias)
        return self.applied(x, weight, bias)

    def folded_running(self, device_type: str) -> tuple[Tensor, Tensor]:
        """The weight and bias of the projection that the running averages give."""
        with full_precision(device_type):
            return self._folded(self.running_mean, self.running_deconv)

    def applied(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """The projection of x (..., in_features) by a folded weight and bias."""
        out = F.linear(x, weight, bias)
        stage_done("projection", out)
        return out

    def _folded(self, mean: Tensor, deconv: Tensor) -> tuple[Tensor, Tensor]:
        """W D and b - W D mu, of a mean (block) and D (block, block)."""
        weight = self.weight.reshape(-1, self.block) @ deconv
        shift = (weight @ mean).view(self.out_features, -1).sum(1)
        bias = -shift if self.bias is None else self.bias - shift
        return weight.view(self.out_features, self.in_features), bias

    def _measured(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The batch's mean (block) and D (block, block); the averages have moved towards them."""
        rows = x.reshape(1, -1, self.block)
        stage_done("rows", rows)
        shared = None
        if self.together is not None:
            shared = (self.together, rows.shape[1] // len(x) * self.together.images)
        found = statistics(rows, self.eps, self.n_iter, self.arithmetic, shared)
        mean, deconv = (each.squeeze(0) for each in found)
        move_average(self.running_mean, mean, self.momentum)
        move_average(self.running_deconv, deconv, self.momentum)
        stage_done("running averages")
        return mean, deconv

    def extra_repr(self) -> str:
        """What distinguishes this layer, as torch prints its own."""
        text = f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
        return text + f", block={self.block}, n_iter={self.n_iter}, eps={self.eps}"


def resolve_block(block: int, channels: int) -> int:
    """The block that divides ``channels``: ``block`` itself, all channels, or the greatest common divisor."""
    return channels if block > channels else math.gcd(block, channels)


def _draw_as_torch_does(weight: Tensor, bias: Tensor | None) -> None:
    """PyTorch's own start for convolutions and linear layers (He et al. 2015 with a = sqrt 5)."""
    nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
    if bias is not None:
        bound = 1 / math.sqrt(weight[0].numel())
        nn.init.uniform_(bias, -bound, bound)


def _pair(value: Pair) -> tuple[int, int]:
    if isinstance(value, int):
        return (value, value)
    first, second = value
    return (int(first), int(second))


def _check_at_least_one(**settings: int) -> None:
    for name, value in settings.items():
        if value < 1:
            raise UsageError(f"{name}={value}, expected at least 1")


def _check_settings(eps: float, n_iter: int, momentum: float, block: int) -> None:
    _check_at_least_one(n_iter=n_iter, block=block)
    if not eps >= 0:
        raise UsageError(f"eps={eps}, expected 0 or more: it is added to the covariance's diagonal")
    if not 0 <= momentum <= 1:
        raise UsageError(f"momentum={momentum}, expected from 0 to 1")
