r"""Whitening folded into the weight, as one autograd node: (x, W, b) -> (x, W D, b - W D mu).

The convolution that follows is torch's own. With rows of the weight W (S, R, F), kernel K = W D, and gradients g_K of
the folded weight and g_b of the folded bias (repeated for every row of W that belongs to an output):

    g_mu = -K^T g_b,   g_W = (g_K - g_b mu^T) D,   G_D = W^T (g_K - g_b mu^T)

x passes through the node, so that the gradient that comes back from the convolution is there when the statistics'
own share is added to it, in place: nobody else holds it, since x leaves the node for that convolution only.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ndrepro.training.deconv_kernels.matrix_products import product, product_plus, transposed
from ndrepro.training.deconv_kernels.statistics import WhiteningPlan, measure, rows_gradient


class FoldedWeight(torch.autograd.Function):
    """(x, weight, bias or None, plan) -> (x, folded weight, folded bias, mean, deconv, the covariances' norms).

    The last three carry no gradient.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, plan: WhiteningPlan) -> tuple[Tensor, ...]:
        """See the module."""
        found = measure(x.to(weight.dtype), plan)
        weight_rows = plan.rows.weight_rows(weight)
        folded = product(weight_rows, found.deconv)
        folded_bias = _folded_bias(bias, folded, found.mean.unsqueeze(2), len(weight))
        ctx.save_for_backward(weight_rows, folded, found.centred, found.mean, found.deconv, *found.saved)
        ctx.plan, ctx.count, ctx.biased, ctx.weight_shape = plan, found.count, bias is not None, weight.shape
        ctx.mark_non_differentiable(found.mean, found.deconv, found.norm)
        ctx.set_materialize_grads(False)
        kernel = plan.rows.as_weight(folded, weight.shape)
        return x.view_as(x), kernel, folded_bias, found.mean, found.deconv, found.norm

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, x_gradient: Tensor | None, kernel_gradient: Tensor, bias_gradient: Tensor, *_: Any) -> Any:
        """See the module."""
        weight_rows, folded, centred, mean, deconv, *saved = ctx.saved_tensors
        plan = ctx.plan
        per_row = bias_gradient.view(-1, 1).expand(-1, plan.rows.blocks).reshape(plan.rows.groups, -1, 1)
        outer = product_plus(plan.rows.weight_rows(kernel_gradient), per_row, mean.unsqueeze(1), alpha=-1.0)
        weight_gradient = plan.rows.as_weight(product(outer, transposed(deconv)), ctx.weight_shape)
        if x_gradient is not None:
            shift_gradient = product(transposed(folded), per_row)
            rows = rows_gradient(weight_rows, outer, shift_gradient, centred, tuple(saved), plan, ctx.count)
            plan.rows.add_back(x_gradient, rows, plan.before)
        return x_gradient, weight_gradient, bias_gradient if ctx.biased else None, None


def _folded_bias(bias: Tensor | None, folded: Tensor, mean: Tensor, outputs: int) -> Tensor:
    """b - K mu (outputs,), of K ``folded`` (S, R, F) and ``mean`` (S, F, 1)."""
    if bias is not None and folded.shape[0] * folded.shape[1] == outputs:
        return product_plus(bias.view(len(folded), -1, 1), folded, mean, alpha=-1.0).flatten()
    shift = product(folded, mean).view(outputs, -1).sum(1)
    return -shift if bias is None else bias - shift
