r"""The truncated inverse square root of a stack of matrices, and its adjoint, with the fewest products.

The iteration of ``product_form`` in terms of T alone: with M = 3 I - 2 T the step M' = M T T becomes one for T,

    T_1 = 1.5 I - A / (2 s),  s = ||A||_F,      N_r = T_r - 1.5 I,   T_{r+1} = T_r^2 N_r + 1.5 I,   Z_{r+1} = Z_r T_r

    D = Z_{n+1} / sqrt(s)

All are polynomials of A, hence symmetric, and commute. So is every derivative along a symmetric direction, and with
S = T dT and X = T (S + S^T / 2)

    dT' = (X - 1.5 S) + (X - 1.5 S)^T,      dZ' = dZ T + Z dT

four products a step instead of the six of ``product_form``. That one starts fewer operators, which counts for one
small matrix and on a GPU; here, for the groups of a grouped convolution on a CPU, arithmetic counts, and the number of
times that the whole stack is read. The adjoint is the derivative along the symmetrised gradient, as explained there.

Every product writes a contiguous stack: into another one torch multiplies the matrices one after the other.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ndrepro.training.deconv_kernels.matrix_products import inner, transposed


def inverse_sqrt(covariance: Tensor, norm: Tensor, identity: Tensor, n_iter: int) -> tuple[Tensor, tuple[Tensor, ...]]:
    """D (S, F, F) of ``covariance`` (S, F, F) with Frobenius ``norm`` (S, 1, 1), and what ``adjoint`` needs."""
    three_halves = 1.5 * identity
    n = first = covariance * (-0.5 / norm)
    z = t = n + three_halves
    iterates = [t]
    for _ in range(n_iter - 1):
        n = torch.bmm(torch.bmm(t, t), n)
        t = n + three_halves
        iterates += [z, t]
        z = torch.bmm(z, t)
    return z * norm.rsqrt(), (norm, first, z, *iterates)


def adjoint(left: Tensor, right: Tensor, saved: tuple[Tensor, ...], n_iter: int) -> Tensor:
    """The gradient (S, F, F) with respect to the covariance, symmetric to rounding.

    The gradient with respect to D is ``left``^T ``right``, of (S, R, F) both; ``saved`` is from ``inverse_sqrt``.
    """
    norm, n, last, t, *following = saved
    quarter = torch.baddbmm(norm, transposed(left), right, beta=0.0, alpha=-0.25)  # of beta 0 the addend has no part
    dz = dt = first = quarter + transposed(quarter)
    for z, after in zip(following[::2], following[1::2], strict=True):
        dt = _next_derivative(t, dt)
        dz = torch.bmm(dz, after).baddbmm_(z, dt)
        t = after
    share = torch.baddbmm(inner(first, last), *_flat(dz, n), beta=-1.0, alpha=-2.0)
    return torch.addcmul(dz, share, n, value=2.0).mul_(norm**-1.5)


def _next_derivative(t: Tensor, dt: Tensor) -> Tensor:
    """dT' of T and dT."""
    s = torch.bmm(t, dt)
    one_side = s.baddbmm_(t, torch.add(s, transposed(s), alpha=0.5), beta=-1.5)
    return one_side + transposed(one_side)


def _flat(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    return a.reshape(len(a), 1, -1), b.reshape(len(b), -1, 1)
