"""The inverse square root of a covariance matrix, by matrix products alone.

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
