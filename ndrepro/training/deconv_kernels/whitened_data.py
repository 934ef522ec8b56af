r"""Whitening applied to the patches, as one autograd node: (x, W, b) -> W D (P - mu) + b.

Folding D into the weight multiplies every row of W by it, O of them a block; whitening the patches P that the
convolution sees multiplies N P' of them. Late layers have many outputs and images of a pixel or four, and there this
is less work, forward and backward. With Xw = D (P - mu) and gradient g_Y of the output:

    g_W = g_Y Xw^T,   g_Xw = W^T g_Y,   G_D = (P - mu) g_Xw^T,   g_P = D g_Xw,   g_mu = -g_P 1
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ndrepro.training.deconv_kernels.patches import PatchGrid, add_back, batch_last, gather
from ndrepro.training.deconv_kernels.statistics import WhiteningPlan, measure, rows_gradient


class WhitenedConvolution(torch.autograd.Function):
    """(x, weight, bias or None, plan, the convolution's patches) -> (y, mean, deconv, the covariance's norm).

    One covariance for all channels. The last three carry no gradient.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, plan: WhiteningPlan, grid: PatchGrid
    ) -> tuple[Tensor, ...]:
        """See the module."""
        found = measure(x, plan)
        out_channels, features = len(weight), plan.rows.features
        centred_patches = gather(x, grid).view(features, -1).sub_(found.mean.view(-1, 1))
        whitened = torch.mm(found.deconv[0], centred_patches).view(features * plan.rows.blocks, -1)
        y = torch.mm(weight.reshape(out_channels, -1), whitened)
        if bias is not None:
            y += bias.unsqueeze(1)
        ctx.save_for_backward(weight, centred_patches, whitened, found.centred, found.mean, found.deconv, *found.saved)
        ctx.plan, ctx.grid, ctx.count, ctx.biased, ctx.image_shape = plan, grid, found.count, bias is not None, x.shape
        ctx.last = batch_last(x)
        ctx.mark_non_differentiable(found.mean, found.deconv, found.norm)
        ctx.set_materialize_grads(False)
        return _as_images(y, x, grid), found.mean, found.deconv, found.norm

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> Any:
        """See the module."""
        weight, centred_patches, whitened, centred, _mean, deconv, *saved = ctx.saved_tensors
        plan, grid = ctx.plan, ctx.grid
        out_channels, features = len(weight), plan.rows.features
        rows = _as_columns(gradient, ctx.last)
        weight_gradient = torch.mm(rows, whitened.t()).view(weight.shape)
        x_gradient = None
        if ctx.needs_input_grad[0]:
            whitened_gradient = torch.mm(weight.reshape(out_channels, -1).t(), rows).view(features, -1)
            patch_gradient = torch.mm(deconv[0].t(), whitened_gradient)
            shift_gradient = patch_gradient.sum(1, keepdim=True).unsqueeze(0)
            factors = centred_patches.t().unsqueeze(0), whitened_gradient.t().unsqueeze(0)
            sampled = rows_gradient(*factors, shift_gradient, centred, tuple(saved), plan, ctx.count)
            x_gradient = gradient.new_zeros(ctx.image_shape)
            add_back(x_gradient, patch_gradient, grid)
            plan.rows.add_back(x_gradient, sampled, plan.before)
        return x_gradient, weight_gradient, rows.sum(1) if ctx.biased else None, None, None


def _as_images(y: Tensor, x: Tensor, grid: PatchGrid) -> Tensor:
    """Outputs (O, positions of all images) in the order of ``gather`` -> (N, O, H', W')."""
    counts = grid.counts(x.shape[2], x.shape[3])
    if batch_last(x):
        return y.view(-1, len(x)).t().contiguous().view(len(x), len(y), *counts)
    return y.view(len(y), len(x), *counts).transpose(0, 1).contiguous()


def _as_columns(gradient: Tensor, last: bool) -> Tensor:
    """The inverse of ``_as_images``."""
    out_channels = gradient.shape[1]
    if last:
        return gradient.reshape(len(gradient), -1).t().reshape(out_channels, -1)
    return gradient.transpose(0, 1).reshape(out_channels, -1)
