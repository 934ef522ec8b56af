r"""Mean, covariance and inverse square root of a layer's rows, and their adjoint.

With rows X (S, F, M), feature first, for each of S separate covariances

    mu = X 1 / M,   Xc = X - mu 1^T,   Cov = eps I + Xc Xc^T / M,   D = Cov^(-1/2), truncated

Centred before the product: E[x x^T] - mu mu^T loses all digits where the mean is large beside the spread. For a
gradient G_D of D and g_mu of mu, with G = adjoint of the root (symmetric),

    dX = (2 / M) G Xc + (g_mu / M) 1^T

one product; the mean's part in Xc vanishes, since the rows of Xc sum to zero. With several processes M counts the rows
of all, the sums run over all, and so do G and g_mu (``layers.together``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ndrepro.training.deconv_kernels.finite_check import usable
from ndrepro.training.deconv_kernels.matrix_products import product, product_plus, symmetric_product, transposed
from ndrepro.training.deconv_kernels.roots import InverseRoot
from ndrepro.training.deconv_kernels.sampling import ConvolutionRows, LinearRows
from ndrepro.training.layers.stages import stage_done
from ndrepro.training.layers.together import Together


@dataclass(frozen=True)
class WhiteningPlan:
    """How one layer measures one batch: its rows, settings, form of the root, and the other processes if any."""

    rows: ConvolutionRows | LinearRows
    root: InverseRoot
    eps: float
    n_iter: int
    together: Together | None
    # is shown the covariances' norms, and may refuse them; without it identities replace those that cannot be used
    observe: Callable[[Tensor], None] | None = None

    @property
    def before(self) -> int:
        """Images of the batch in processes of a lower rank."""
        return 0 if self.together is None else self.together.before


@dataclass(frozen=True)
class BatchStatistics:
    """``centred`` (S, F, M), ``mean`` (S, F), ``deconv`` D (S, F, F), the covariances' ``norm`` (S, 1, 1), what the
    root's adjoint needs, and the number of rows of all processes.
    """

    centred: Tensor
    mean: Tensor
    deconv: Tensor
    norm: Tensor
    saved: tuple[Tensor, ...]
    count: int


def measure(x: Tensor, plan: WhiteningPlan) -> BatchStatistics:
    """The statistics of a batch, outside autograd. Raises what ``plan.observe`` raises."""
    rows = plan.rows.sample(x, plan.before)
    stage_done("patches", rows)
    if plan.together is None:
        count = rows.shape[2]
        mean = rows.mean(2)
    else:
        count = plan.rows.count_of_all(x, rows, plan.together.images)
        mean = plan.together.total(rows.sum(2)) / count
    centred = rows.sub_(mean.unsqueeze(2))
    identity = torch.eye(rows.shape[1], dtype=rows.dtype, device=rows.device)
    covariance = _covariance(centred, identity, count, plan)
    norm = torch.linalg.vector_norm(covariance, dim=(1, 2), keepdim=True)
    stage_done("mean and covariance", mean, covariance)
    used = norm
    if plan.observe is not None:
        plan.observe(norm)
    else:
        covariance = torch.where(usable(norm), covariance, identity)
        used = torch.where(usable(norm), norm, torch.ones_like(norm))
    dtype = plan.root.dtype(covariance.dtype)
    deconv, saved = plan.root.forward(covariance.to(dtype), used.to(dtype), identity.to(dtype), plan.n_iter)
    deconv = deconv.to(covariance.dtype)
    stage_done("inverse square root", deconv)
    return BatchStatistics(centred, mean, deconv, norm, saved, count)


def _covariance(centred: Tensor, identity: Tensor, count: int, plan: WhiteningPlan) -> Tensor:
    groups = centred.shape[0]
    if plan.together is not None:
        scatter = plan.together.total(product(centred, transposed(centred)))
        return plan.eps * identity + scatter / count
    if groups == 1 and centred.device.type == "cpu":
        covariance = symmetric_product(centred[0], centred[0]).mul_(1.0 / count)
        covariance.diagonal().add_(plan.eps)
        return covariance.unsqueeze(0)
    whole = identity.expand(groups, -1, -1)
    return product_plus(whole, centred, transposed(centred), beta=plan.eps, alpha=1.0 / count)


def rows_gradient(
    left: Tensor,
    right: Tensor,
    shift_gradient: Tensor,
    centred: Tensor,
    saved: tuple[Tensor, ...],
    plan: WhiteningPlan,
    count: int,
) -> Tensor:
    """The gradient (S, F, M) of the rows, for ``left``^T ``right`` of D and, of the mean, minus ``shift_gradient``
    (S, F, 1).

    ``left`` and ``right`` (S, R, F); ``saved`` and ``count`` are those of ``measure``.
    """
    dtype = plan.root.dtype(centred.dtype)
    gradient = plan.root.adjoint(left.to(dtype), right.to(dtype), saved, plan.n_iter).to(centred.dtype)
    if plan.together is not None:
        gradient = plan.together.total(gradient)
        shift_gradient = plan.together.total(shift_gradient)
    return product_plus(shift_gradient, gradient, centred, beta=-1.0 / count, alpha=2.0 / count)
