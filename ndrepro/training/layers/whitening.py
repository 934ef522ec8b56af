"""Statistics that whiten: the mean of rows, their covariance, and its inverse square root by matrix products alone.

The coupled Newton-Schulz iteration (Higham, Functions of Matrices, 2008, eq. 6.35) drives Y towards A^(1/2)
and Z towards A^(-1/2) together, for A symmetric positive definite with eigenvalues in (0, 1]:

    Y_0 = A,  Z_0 = I,   T = (3 I - Z Y) / 2,   Y <- Y T,   Z <- T Z

Any covariance C is brought there by its Frobenius norm: C^(-1/2) = Z / sqrt(||C||_F) for A = C / ||C||_F.
Network deconvolution stops after a handful of steps, so the result is *not* the converged root: small
eigenvalues are whitened only in part, which is a part of the method (Ye et al., ICLR 2020, section 3.3). The
gradient is the gradient of these very steps.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ndrepro.training.layers.arithmetic import TORCH, Arithmetic
from ndrepro.training.layers.stages import stage_done
from ndrepro.training.layers.together import Together


def inverse_sqrt(covariance: Tensor, n_iter: int, arithmetic: Arithmetic = TORCH) -> Tensor:
    """``covariance`` to the power -1/2 by ``n_iter`` coupled Newton-Schulz steps, differentiable.

    ``covariance`` (..., F, F), symmetric positive definite, each matrix treated by itself; ``n_iter`` at
    least 1. Returns (..., F, F) in the same dtype.
    """
    norm = torch.linalg.matrix_norm(covariance, keepdim=True)  # Frobenius, (..., 1, 1)
    identity = torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device)
    y = covariance / norm
    # Z starts at I, so the first step needs no product; Y is not needed after the last one.
    z = t = 1.5 * identity - 0.5 * y
    for _ in range(n_iter - 1):
        y = y @ t
        t = 1.5 * identity - 0.5 * (z @ y)
        z = t @ z
    return z / arithmetic.sqrt(norm)


def statistics(
    rows: Tensor, eps: float, n_iter: int, arithmetic: Arithmetic, shared: tuple[Together, int] | None = None
) -> tuple[Tensor, Tensor]:
    """Mean (S, F) and truncated Cov^(-1/2) (S, F, F) of ``rows`` (S, R, F), or of the rows of all processes.

    ``shared`` are the processes, and how many rows they have together. Centred before the product: E[x x^T] - mu mu^T
    loses all digits where the mean is large beside the spread.
    """
    if shared is not None:
        return _statistics_of_all(rows, eps, n_iter, arithmetic, *shared)
    mean = rows.mean(1)
    centred = rows - mean.unsqueeze(1)
    identity = torch.eye(rows.shape[-1], dtype=rows.dtype, device=rows.device)
    scaled = arithmetic.baddbmm(
        identity.expand(rows.shape[0], -1, -1), centred.transpose(1, 2), centred, beta=eps, alpha=1.0 / rows.shape[1]
    )
    stage_done("mean and covariance", mean, scaled)
    deconv = inverse_sqrt(scaled, n_iter, arithmetic)
    stage_done("inverse square root", deconv)
    return mean, deconv


def _statistics_of_all(
    rows: Tensor, eps: float, n_iter: int, arithmetic: Arithmetic, together: Together, count: int
) -> tuple[Tensor, Tensor]:
    """As ``statistics``, of the ``count`` rows that all processes have together."""
    mean = together.total(rows.sum(1)) / count
    centred = rows - mean.unsqueeze(1)
    scatter = together.total(centred.transpose(1, 2) @ centred)
    identity = torch.eye(rows.shape[-1], dtype=rows.dtype, device=rows.device)
    covariance = eps * identity + scatter / count
    stage_done("mean and covariance", mean, covariance)
    deconv = inverse_sqrt(covariance, n_iter, arithmetic)
    stage_done("inverse square root", deconv)
    return mean, deconv


def move_average(running: Tensor, batch: Tensor, momentum: float) -> None:
    """Move the running average towards the batch's value, in place and outside the graph."""
    running.mul_(1 - momentum).add_(batch.detach().view_as(running) * momentum)
